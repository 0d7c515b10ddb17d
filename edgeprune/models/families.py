"""Table of the supported model families: where each keeps its layers, and removing layers.

To add a family, add a row; ``tests/workstation/models/test_families.py`` then loads, trains,
prunes, saves, reloads, exports and quantizes a tiny model of it. edgeprune's own model classes
(KWT, CLAP's tower, CNN14) have methods for what a row cannot express: ``finish(state)``,
``classify(state)``, ``frames(state)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from edgeprune_device.errors import EdgepruneError


@dataclass(frozen=True)
class Family:
    """Structure of one model family."""

    layers: str
    """Dotted path from ``model.base_model`` to the list of transformer blocks; ``*`` stands for
    every stage, or for every number from 1."""
    depth: str = "num_hidden_layers"
    """Config field with the number of blocks, or with a list of those per stage."""
    unit: int = 1
    """Neighbouring blocks that form one layer, because they can only be removed together."""
    keep: tuple[int, ...] = ()
    """Layers (from 0) with parameters that other layers use, so they cannot be removed."""
    whole: bool = False
    """Whether no layer can be removed, because each changes the width or the resolution."""
    class_tokens: int = 0
    """Leading tokens that are no frames and are excluded from averages over time."""
    window: str = ""
    """Config field with the fixed window in samples; empty: any length. If the field is missing:
    any length, until the model is fitted to one."""
    normalize: bool = False
    """Whether the feature extractor may scale samples to zero mean and unit variance."""
    frontend: str = ""
    """Kind of spectrogram the model takes (``spectrogram_specs.SPECS``); empty: samples."""
    frozen: str = ""
    """Dotted path from ``model.base_model`` to the front end, which fine-tuning keeps frozen."""
    final_norm: str = ""
    """Dotted path to the norm after the last block."""
    stable_only: bool = False
    """Whether only the stable-layer-norm variants have ``final_norm`` there."""
    summed_normed: bool = False
    """Whether a head on a weighted sum of hidden states takes the last one after ``final_norm``."""
    upsample: str = ""
    """Dotted path to the module that restores the front end's frame rate after the last block."""
    positions: str = ""
    """Dotted path to the positional convolution whose output is added before the first block."""
    weight_norm: str = ""
    """Dotted path to a convolution whose weight-norm is folded before export."""
    attention: str = "sdpa"
    """Attention implementation for training and export; empty: the model has only one."""
    float_scopes: tuple[str, ...] = ()
    """Modules whose matrix products stay in float under int8 quantization."""
    row_scopes: tuple[str, ...] = ()
    """Modules whose products get one int8 scale per frame (``quantization.per_token``)."""

    @property
    def bridges(self) -> bool:
        """Whether linear bridges can replace layers: all hidden states have the same width."""
        return "*" not in self.layers


# ``spectrum`` of a light front end and ``first`` of ``strided_conv`` take raw samples.
_WAVEFORM = Family(
    "encoder.layers", normalize=True, frozen="feature_extractor",
    weight_norm="encoder.pos_conv_embed.conv", final_norm="encoder.layer_norm", stable_only=True,
    positions="encoder.pos_conv_embed", float_scopes=("spectrum", "first"),
    row_scopes=("feature_extractor/convs",),
)  # fmt: skip
_PLAIN = replace(_WAVEFORM, final_norm="", weight_norm="")
_FITTED = "edgeprune_window"  # set by input_length.resize_input
# Fourier and mel matrices span ten orders of magnitude: int8 would destroy them.
_FRONTEND = ("frontend",)

FAMILIES: dict[str, Family] = {  # by config.model_type
    "wav2vec2": _WAVEFORM,
    "hubert": _WAVEFORM,  # and MERT
    # Block 0 owns the relative position embedding that all others use.
    "wavlm": replace(_WAVEFORM, keep=(0,), attention="eager"),
    "unispeech-sat": _WAVEFORM,
    "data2vec-audio": _PLAIN,  # its positional convolutions have no weight norm
    # Blocks run at half the frame rate; upsampling follows the last.
    "sew": replace(_WAVEFORM, final_norm="", upsample="encoder.upsample", positions=""),
    # Its positional convolution is built but never used.
    "wav2vec2-conformer": replace(
        _PLAIN, final_norm="encoder.layer_norm", stable_only=False, positions=""
    ),
    "wav2vec2-bert": Family("encoder.layers", frontend="seamless", float_scopes=_FRONTEND),
    "audio-spectrogram-transformer": Family(
        "layers", class_tokens=2, frontend="ast", window=_FITTED, final_norm="layernorm",
        float_scopes=_FRONTEND,
    ),
    "whisper": Family(
        "encoder.layers", depth="encoder_layers", frontend="whisper", window=_FITTED,
        final_norm="encoder.layer_norm", summed_normed=True, float_scopes=_FRONTEND,
    ),
    # Plain and shifted Swin blocks: removing a single one would swap the shifts of all later ones.
    "clap_audio_model": Family(
        "audio_encoder.layers.*.blocks", depth="depths", unit=2, frontend="clap", window=_FITTED,
        attention="eager", float_scopes=_FRONTEND,
    ),
    "kwt": Family(
        "blocks", class_tokens=1, window="num_samples", attention="", float_scopes=_FRONTEND
    ),
    "edgeprune-student": Family("blocks", attention="", float_scopes=("spectrum",)),
    "cnn14": Family(
        "conv_block*", whole=True, frontend="panns", attention="", float_scopes=_FRONTEND
    ),
}  # fmt: skip
ALIASES = {"mert_model": "hubert", "clap": "clap_audio_model"}
"""Model types of checkpoints that are loaded as another family."""


def family_of(model_type: str) -> Family:
    """Return the family of a config's ``model_type``.

    Raises
    ------
    EdgepruneError
        The family is not known.

    """
    name = ALIASES.get(model_type, model_type)
    if name not in FAMILIES:
        raise EdgepruneError(
            f"Model type {model_type!r} is not supported.",
            f"Known: {', '.join((*FAMILIES, *ALIASES))}; to add one, add a row to "
            "edgeprune/models/families.py.",
        )
    return FAMILIES[name]


def blocks_of(model: Any) -> list[nn.Module]:
    """Return the blocks of a model of a known family, in the order of execution."""
    path, base = family_of(model.config.model_type).layers, model.base_model
    if "*" not in path:
        return list(base.get_submodule(path))
    before, _, after = path.partition("*")
    if not after:  # conv_block1, conv_block2, ...
        return [base.get_submodule(f"{before}{i + 1}") for i in range(depth_of(model.config))]
    stages = base.get_submodule(before.rstrip("."))
    return [block for stage in stages for block in stage.get_submodule(after.lstrip("."))]


def layers_of(model: Any) -> nn.ModuleList:
    """Return the layers of a model of a known family: its blocks, or CLAP's pairs of blocks."""
    family = family_of(model.config.model_type)
    if family.unit > 1:
        from edgeprune.nn.clap import pairs_of

        return nn.ModuleList(pairs_of(model.base_model))
    if "*" in family.layers:
        return nn.ModuleList(blocks_of(model))
    blocks = submodule(model, family.layers)
    if not isinstance(blocks, nn.ModuleList):
        raise TypeError(f"expected a ModuleList, found {type(blocks).__name__}")
    return blocks


def depth_of(config: Any) -> int:
    """Return the number of layers according to a model's config."""
    family = family_of(config.model_type)
    counted: int | list[int] = getattr(config, family.depth)
    stages = [counted] if isinstance(counted, int) else counted
    return sum(-(-blocks // family.unit) for blocks in stages)


def submodule(model: Any, path: str) -> nn.Module:
    """Return the module at a dotted path under ``model.base_model``."""
    found: nn.Module = model.base_model.get_submodule(path)
    return found


def fixed_layers_of(config: Any) -> tuple[int, ...]:
    """Return the layers of a model that cannot be removed."""
    family = family_of(config.model_type)
    return tuple(range(depth_of(config))) if family.whole else family.keep


def keep_layers(model: Any, keep: Sequence[int]) -> None:
    """Keep only these layers, in place; the model can be saved and reloaded afterwards.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model of a known family, with or without a head.
    keep : sequence of int
        Layers to keep, counted from 0, in ascending order.

    Raises
    ------
    EdgepruneError
        A layer does not exist, no layer is kept, the order is not ascending, or a layer that cannot
        be removed is missing.

    """
    family, blocks = family_of(model.config.model_type), layers_of(model)
    check_keep(model.config, keep, len(blocks))
    if family.whole:
        return
    if family.unit > 1:
        from edgeprune.nn.clap import keep_pairs

        keep_pairs(model.base_model, keep)
        model.config.depths = model.base_model.config.depths
        return
    parent_path, _, name = family.layers.rpartition(".")
    parent = submodule(model, parent_path) if parent_path else model.base_model
    setattr(parent, name, nn.ModuleList(blocks[index] for index in keep))
    setattr(model.config, family.depth, len(keep))
    if bridged := getattr(model.config, "edgeprune_bridges", None):
        model.config.edgeprune_bridges = [n for n, i in enumerate(keep) if i in bridged]
    if hasattr(
        model, "layer_weights"
    ):  # a head on a weighted sum has one weight for block 0's input and one per block
        kept = model.layer_weights.detach()[[0, *(index + 1 for index in keep)]]
        model.layer_weights = nn.Parameter(kept.clone())


def check_keep(config: Any, keep: Sequence[int], layers: int) -> None:
    """Raise if a model cannot keep just these layers.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's config.
    keep : sequence of int
        Layers to keep, counted from 0.
    layers : int
        Number of layers of the model.

    Raises
    ------
    EdgepruneError
        See ``keep_layers``.

    """
    if not keep or list(keep) != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= layers:
        raise EdgepruneError(
            f"Layers {list(keep)} cannot be kept: the model has {layers} layers.",
            f"Give at least one, in ascending order, from 0 to {layers - 1}.",
        )
    missing = sorted(set(fixed_layers_of(config)) - set(keep))
    if missing and family_of(config.model_type).whole:
        raise EdgepruneError(
            f"No convolution block of a {config.model_type} model can be removed (all {layers} are "
            "needed): each changes the width or the resolution.",
            "Trim its channels instead (step trim).",
        )
    if missing:
        raise EdgepruneError(
            f"Layer {missing[0]} of a {config.model_type} model cannot be removed: "
            "the other layers use its parameters.",
            f"Add {missing[0]} to the layers to keep.",
        )
