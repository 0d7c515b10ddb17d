"""Where each model family keeps its layers: one literal table, and the cut that reads it.

To add a family, add a row; ``tests/test_families.py`` then loads, trains, drops, saves, reloads,
exports and quantizes a tiny model of it. Models of our own classes (KWT, CLAP's tower, CNN14)
answer for themselves what a row cannot say: ``finish(state)``, ``classify(state)``,
``frames(state)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from edgeprune_device.errors import EdgepruneError


@dataclass(frozen=True)
class Family:
    """What the spec must know of one model family."""

    layers: str
    """Dotted path from ``model.base_model`` to the list of transformer blocks; ``*`` stands for
    every stage, or for every number from 1."""
    depth: str = "num_hidden_layers"
    """Config field that counts them, or lists how many each stage has."""
    unit: int = 1
    """Neighbouring blocks that can only go together, and so are one layer."""
    keep: tuple[int, ...] = ()
    """Layers (from 0) that hold state the others read, so they can never go."""
    whole: bool = False
    """No layer can go: each changes the width or the resolution."""
    class_tokens: int = 0
    """Leading tokens that stand for no stretch of sound; averages over time leave them out."""
    window: str = ""
    """Config field with the fixed window in samples; empty where any length is taken. A field that
    is not there yet: any length, until the model is fitted to one."""
    normalize: bool = False
    """The family's feature extractor may scale samples to zero mean and unit variance."""
    frontend: str = ""
    """The kind of spectrogram the model takes (``spectrogram_specs.SPECS``); empty: samples."""
    frozen: str = ""
    """Dotted path from ``model.base_model`` to the front end that fine-tuning leaves alone."""
    final_norm: str = ""
    """Dotted path to the norm behind the last block."""
    stable_only: bool = False
    """``final_norm`` stands there in the stable-layer-norm variants alone."""
    summed_normed: bool = False
    """A head on a weighted sum of states reads the last one behind ``final_norm``."""
    upsample: str = ""
    """Dotted path to what gives the last state the front end's number of frames again."""
    positions: str = ""
    """Dotted path to the positional convolution whose output is added before the first block."""
    weight_norm: str = ""
    """Dotted path to a convolution whose weight-norm is folded before export."""
    attention: str = "sdpa"
    """Attention implementation that both trains and exports; empty: the model has but one."""
    float_scopes: tuple[str, ...] = ()
    """Modules whose matrix products stay in float when the rest becomes int8."""
    row_scopes: tuple[str, ...] = ()
    """Modules whose products have a scale for every frame when they become int8 (``row_int8``)."""

    @property
    def bridges(self) -> bool:
        """Whether a linear bridge can stand in for layers: all states have one width."""
        return "*" not in self.layers


# A light front end's spectrum, and the first convolution (``strided``): both hear raw samples.
_WAVEFORM = Family(
    "encoder.layers", normalize=True, frozen="feature_extractor",
    weight_norm="encoder.pos_conv_embed.conv", final_norm="encoder.layer_norm", stable_only=True,
    positions="encoder.pos_conv_embed", float_scopes=("spectrum", "first"),
    row_scopes=("feature_extractor/convs",),
)  # fmt: skip
_PLAIN = replace(_WAVEFORM, final_norm="", weight_norm="")
_FITTED = "edgeprune_window"  # a spectrogram model that input_length.resize_input gave a window
# Fourier and mel matrices span ten orders of magnitude: int8 would destroy them.
_FRONTEND = ("frontend",)

FAMILIES: dict[str, Family] = {  # by config.model_type
    "wav2vec2": _WAVEFORM,
    "hubert": _WAVEFORM,  # and MERT
    # Block 0 owns the relative position embedding that all the others read.
    "wavlm": replace(_WAVEFORM, keep=(0,), attention="eager"),
    "unispeech-sat": _WAVEFORM,
    "data2vec-audio": _PLAIN,  # its positional convolutions have no weight-norm
    # Blocks run at half the frames; upsampling follows the last.
    "sew": replace(_WAVEFORM, final_norm="", upsample="encoder.upsample", positions=""),
    # Its positional convolution is built but never run.
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
    # Plain and shifted Swin blocks: without one of a pair, those behind it would shift wrongly.
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
"""Checkpoints that hold a model of another row."""


def family_of(model_type: str) -> Family:
    """Return the table's row for a config's ``model_type``.

    Raises
    ------
    EdgepruneError
        The table has no such row.

    """
    name = ALIASES.get(model_type, model_type)
    if name not in FAMILIES:
        raise EdgepruneError(
            f"No layers are known for model type {model_type!r}.",
            f"Known: {', '.join((*FAMILIES, *ALIASES))}; to add one, add a row to "
            "edgeprune/models/families.py.",
        )
    return FAMILIES[name]


def blocks_of(model: Any) -> list[nn.Module]:
    """Return the blocks of a model of a known family one by one, in the order they run."""
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
    """Count a model's layers by its config."""
    family = family_of(config.model_type)
    counted: int | list[int] = getattr(config, family.depth)
    stages = [counted] if isinstance(counted, int) else counted
    return sum(-(-blocks // family.unit) for blocks in stages)


def submodule(model: Any, path: str) -> nn.Module:
    """Return the module at a dotted path under ``model.base_model``."""
    found: nn.Module = model.base_model.get_submodule(path)
    return found


def fixed_layers_of(config: Any) -> tuple[int, ...]:
    """Return the layers of a model that can never go."""
    family = family_of(config.model_type)
    return tuple(range(depth_of(config))) if family.whole else family.keep


def keep_layers(model: Any, keep: Sequence[int]) -> None:
    """Keep only these layers, in place, so that the model saves and reloads as it is.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A model of a known family, with or without a head.
    keep : sequence of int
        Layers to keep, counted from 0, in ascending order.

    Raises
    ------
    EdgepruneError
        A layer that does not exist, none at all, a wrong order, or one that cannot go is missing.

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
    ):  # a head on a weighted sum: one for block 0's input, one each
        kept = model.layer_weights.detach()[[0, *(index + 1 for index in keep)]]
        model.layer_weights = nn.Parameter(kept.clone())


def check_keep(config: Any, keep: Sequence[int], layers: int) -> None:
    """Raise if a model cannot keep just these layers.

    Parameters
    ----------
    config : PreTrainedConfig
    keep : sequence of int
    layers : int
        How many it has.

    Raises
    ------
    EdgepruneError
        As ``keep_layers``.

    """
    if not keep or list(keep) != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= layers:
        raise EdgepruneError(
            f"Layers {list(keep)} cannot be kept of a model with {layers} layers.",
            f"Name at least one, ascending, from 0 to {layers - 1}.",
        )
    missing = sorted(set(fixed_layers_of(config)) - set(keep))
    if missing and family_of(config.model_type).whole:
        raise EdgepruneError(
            f"A {config.model_type} model cannot do without any of its {layers} convolution "
            "blocks: each changes the width or the resolution.",
            "Trim its channels instead.",
        )
    if missing:
        raise EdgepruneError(
            f"Layer {missing[0]} of a {config.model_type} model cannot be dropped: "
            "it holds what the other layers read.",
            f"Add {missing[0]} to the layers to keep.",
        )
