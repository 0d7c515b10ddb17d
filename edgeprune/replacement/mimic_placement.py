"""Mimic layers: a small net in the place of a span of blocks, as a part that a config can name.

``frame``        Linear-LayerNorm-ReLU-Linear on every frame alone, once or twice (Seed 3,
                 arXiv 2409.16302, with a LayerNorm for each)
``conv``         a depth-wise separable convolution over time (of AST, along each row of patches)
``transformer``  a narrow encoder layer, of its own width and heads
``none``         nothing: what came in goes on (the head on the front end alone)

A mimic is called as the family's blocks are, and answers as they do. Where the head reads class
tokens, those are made anew from the frames' mean: a net that goes frame by frame would leave them
as they came, and so know nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.core.settings import Mimic as Settings
from edgeprune.models import serialization
from edgeprune.models.families import depth_of, family_of, layers_of
from edgeprune.nn.mimic import Mimic
from edgeprune_device.errors import EdgepruneError


def refuse_mimic(
    config: Any, settings: Settings, shortened: bool = False, head: str = "own"
) -> None:
    """Raise where the step ``mimic`` cannot work, as far as a model's config and the recipe tell.

    Parameters
    ----------
    config : PreTrainedConfig
    settings : settings.Mimic
    shortened : bool
        An earlier step may leave fewer layers than the config counts: only what no number of layers
        allows is refused.
    head : str
        ``teach.head``: one of ours reads the last state, whatever the config says of a sum.

    Raises
    ------
    EdgepruneError
        As ``check_span``, or there is no such mimic.

    """
    check_span(config, settings.span, depth_of(config), shortened, head)
    with torch.device("meta"):
        make_mimic({"part": "mimic", "width": 8, **mimic_spec(settings)})


def mimic_spec(settings: Settings) -> dict[str, Any]:
    """Return what a mimic is made from, see ``Mimic``."""
    return {"kind": settings.kind, "hidden": settings.width, "layers": settings.layers,
            "kernel": settings.kernel, "heads": settings.heads}  # fmt: skip


def make_mimic(spec: Mapping[str, Any]) -> Mimic:
    """Build a mimic from its spec.

    Raises
    ------
    EdgepruneError
        There is no such mimic: heads that do not share its width, an even kernel.

    """
    try:
        made: Any = serialization.make_part(spec)
    except ValueError as error:
        raise EdgepruneError(
            f"There is no such mimic: {error}.", "Change the recipe's [mimic]."
        ) from error
    part: Mimic = made
    return part


def span_of(model: Any, span: tuple[int, ...]) -> tuple[int, int]:
    """Return the blocks (first, behind the last) that a mimic is to stand for: see ``check_span``."""
    return check_span(model.config, span, len(layers_of(model)))


def check_span(
    config: Any, span: tuple[int, ...], depth: int, shortened: bool = False, head: str = "own"
) -> tuple[int, int]:
    """Return the blocks (first, behind the last) that a mimic is to stand for.

    Parameters
    ----------
    config : PreTrainedConfig
    span : tuple of int
        Those two, counted from 0; empty for the whole stack.
    depth : int
        How many layers there are.
    shortened : bool
        There may be fewer when the mimic is made.
    head : str
        The kind of head that the model is given before, see ``heads``.

    Raises
    ------
    EdgepruneError
        No such blocks; a family whose blocks change width or resolution; a head that reads every
        block's state; or blocks that hold what later ones read.

    """
    name, family = config.model_type, family_of(config.model_type)
    if "*" in family.layers:
        raise EdgepruneError(
            f"The layers of models of type {name} differ in width and resolution, so that no mimic "
            "layer can stand for several of them.",
            "Use the step trim or student.",
        )
    first, stop = span if len(span) == 2 else (0, depth)
    if len(span) not in (0, 2) or not 0 <= first < stop <= depth:
        raise EdgepruneError(
            f"mimic.span = {list(span)} is no span of a model with {depth} layers.",
            f"Name its first layer and the one behind its last, from 0 to {depth}.",
        )
    if head == "own" and getattr(config, "use_weighted_layer_sum", False):
        raise EdgepruneError(
            "The model's head reads a weighted sum of all layers' states, which a mimic does not have.",
            "Teach a head of another kind (teach.head = 'mlp').",
        )
    held = [layer for layer in family.keep if first <= layer < stop]
    if held and stop < depth and not shortened:
        raise EdgepruneError(
            f"Layer {held[0]} of models of type {name} holds what the later layers read, so that no "
            "mimic can stand for it alone.",
            f"Begin the span at {held[0] + 1}, or let it reach to the last layer.",
        )
    return first, stop


def put_mimic(model: Any, first: int, stop: int, samples: Tensor, **spec: Any) -> Mimic:
    """Put a fresh mimic in the place of blocks first to stop - 1, in place, and return it.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    first, stop : int
        See ``span_of``.
    samples : Tensor (batch, window)
        Any sound the model can hear: it is run once to see what its blocks return.
    spec
        ``kind``, ``hidden``, ``layers``, ``kernel``, ``heads`` of ``Mimic``.

    Raises
    ------
    EdgepruneError
        As ``make_mimic``.

    """
    from edgeprune.models.loading import logits_of

    family, blocks = family_of(model.config.model_type), layers_of(model)
    returned: list[Any] = []
    hook = blocks[first].register_forward_hook(lambda _, __, out: returned.append(out))
    with torch.no_grad():
        logits_of(model, samples)
    hook.remove()
    out = returned[0]
    hidden: Tensor = out[0] if isinstance(out, tuple) else out
    rows = rows_of(model.config) if spec["kind"] == "conv" else 1
    part = make_mimic({
        "part": "mimic", "width": hidden.shape[-1], "class_tokens": family.class_tokens,
        "outputs": len(out) if isinstance(out, tuple) else 0, "rows": rows, **spec,
    })  # fmt: skip
    parent, _, name = family.layers.rpartition(".")
    kept = [*blocks[:first], part, *blocks[stop:]]
    holder = model.base_model.get_submodule(parent) if parent else model.base_model
    setattr(holder, name, nn.ModuleList(kept))
    setattr(model.config, family.depth, len(kept))
    if getattr(model.config, "edgeprune_bridges", None):
        bridged = [place for place, block in enumerate(kept) if hasattr(block, "bridge")]
        model.config.edgeprune_bridges = bridged
    return part


def rows_of(config: Any) -> int:
    """Return how many rows of frames a model keeps one behind the other: AST's, by frequency."""
    if config.model_type != "audio-spectrogram-transformer":
        return 1
    return int((config.num_mel_bins - config.patch_size) // config.frequency_stride + 1)


def drop_positions(model: Any) -> bool:
    """Take a family's positional convolution out, in place; False where it has none to take out."""
    path = family_of(model.config.model_type).positions
    if not path:
        return False
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    serialization.put(model, f"{prefix}{path}", serialization.make_part({"part": "no-positions"}))
    return True


@contextmanager
def watched(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Record what modules return (of tuples, the first) while the body runs a model."""
    seen: dict[str, Tensor] = {}

    def record(name: str) -> Any:
        def hook(_: nn.Module, __: Any, out: Any) -> None:
            seen[name] = out[0] if isinstance(out, tuple) else out

        return hook

    hooks = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
