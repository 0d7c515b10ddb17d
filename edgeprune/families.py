"""Where each model family keeps its layers: one literal table, and the cut that reads it.

To add a family, add a row; ``tests/test_families.py`` then drops, saves, reloads and exports a
tiny model of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from edgeprune_device.errors import EdgepruneError


@dataclass(frozen=True)
class Family:
    """What the recipe must know of one model family."""

    layers: str
    """Dotted path from ``model.base_model`` to the list of transformer blocks."""
    depth: str = "num_hidden_layers"
    """Config field that counts them."""
    keep: tuple[int, ...] = ()
    """Blocks (from 0) that hold state the others read, so they can never go."""
    class_tokens: int = 0
    """Leading tokens that stand for no stretch of sound; averages over time leave them out."""
    window: str = ""
    """Config field with the fixed window in samples; empty where any length is taken."""
    normalize: bool = False
    """The family's feature extractor may scale samples to zero mean and unit variance."""
    frozen: str = ""
    """Dotted path from ``model.base_model`` to the front end that fine-tuning leaves alone."""
    final_norm: str = ""
    """Dotted path to the norm behind the last block in the stable-layer-norm variants."""
    positions: str = ""
    """Dotted path to the positional convolution whose output is added before the first block."""
    weight_norm: str = ""
    """Dotted path to a convolution whose weight-norm is folded before export."""
    attention: str = "sdpa"
    """Attention implementation that both trains and exports."""
    float_scopes: tuple[str, ...] = ()
    """Modules whose matrix products stay in float when the rest becomes int8."""


_POSITIONS = "encoder.pos_conv_embed.conv"
_WAVEFORM = Family(
    "encoder.layers", normalize=True, frozen="feature_extractor", weight_norm=_POSITIONS,
    final_norm="encoder.layer_norm", positions="encoder.pos_conv_embed",
)  # fmt: skip

FAMILIES: dict[str, Family] = {  # by config.model_type
    "wav2vec2": _WAVEFORM,
    "hubert": _WAVEFORM,
    # Block 0 owns the relative position embedding that all the others read.
    "wavlm": replace(_WAVEFORM, keep=(0,), attention="eager"),
    # The Fourier, mel and cosine matrices span ten orders of magnitude: int8 would destroy them.
    "kwt": Family("blocks", class_tokens=1, window="num_samples", float_scopes=("frontend",)),
    "edgeprune-student": Family("blocks", float_scopes=("spectrum",)),
}


def family_of(model_type: str) -> Family:
    """Return the table's row for a config's ``model_type``.

    Raises
    ------
    EdgepruneError
        The table has no such row.

    """
    if model_type not in FAMILIES:
        raise EdgepruneError(
            f"No layers are known for model type {model_type!r}.",
            f"Known: {', '.join(FAMILIES)}; to add one, add a row to edgeprune/families.py.",
        )
    return FAMILIES[model_type]


def layers_of(model: Any) -> nn.ModuleList:
    """Return the transformer blocks of a model of a known family."""
    blocks = submodule(model, family_of(model.config.model_type).layers)
    if not isinstance(blocks, nn.ModuleList):
        raise TypeError(f"expected a ModuleList, found {type(blocks).__name__}")
    return blocks


def submodule(model: Any, path: str) -> nn.Module:
    """Return the module at a dotted path under ``model.base_model``."""
    found: nn.Module = model.base_model.get_submodule(path)
    return found


def keep_layers(model: Any, keep: Sequence[int]) -> None:
    """Keep only these transformer blocks, in place, so that the model saves and reloads as it is.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        A model of a known family, with or without a head.
    keep : sequence of int
        Blocks to keep, counted from 0, in ascending order.

    Raises
    ------
    EdgepruneError
        A block that does not exist, none at all, a wrong order, or one that cannot go is missing.

    """
    family, blocks = family_of(model.config.model_type), layers_of(model)
    if not keep or list(keep) != sorted(set(keep)) or keep[0] < 0 or keep[-1] >= len(blocks):
        raise EdgepruneError(
            f"Layers {list(keep)} cannot be kept of a model with {len(blocks)} layers.",
            f"Name at least one, ascending, from 0 to {len(blocks) - 1}.",
        )
    missing = sorted(set(family.keep) - set(keep))
    if missing:
        raise EdgepruneError(
            f"Layer {missing[0]} of a {model.config.model_type} model cannot be dropped: "
            "it holds what the other layers read.",
            f"Add {missing[0]} to the layers to keep.",
        )
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
