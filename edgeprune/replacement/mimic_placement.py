"""Putting a mimic in place of a span of blocks, as a part that a config can name.

``frame``        Linear-LayerNorm-ReLU-Linear per frame, once or twice (arXiv 2409.16302, with a
                 LayerNorm for each)
``conv``         a depth-wise separable convolution over time (for AST, along each row of patches)
``transformer``  a narrow encoder layer with a width and heads of its own
``none``         identity (the head directly on the front end)

A mimic has the same call signature and return type as the family's blocks. If the head uses class
tokens, they are computed from the mean of the frames: a frame-wise network would leave them
unchanged, and so without any information.
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


def check_mimic(
    config: Any, settings: Settings, shortened: bool = False, head: str = "own"
) -> None:
    """Raise if the step ``mimic`` cannot work, as far as a model's config and the recipe tell.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's config.
    settings : settings.Mimic
        Settings of the step.
    shortened : bool
        Whether an earlier step may remove layers; then only what is impossible for any number of
        layers raises.
    head : str
        ``teach.head``; a new head takes the last hidden state, even if the config says otherwise.

    Raises
    ------
    EdgepruneError
        See ``check_span``; or the mimic is not possible.

    """
    check_span(config, settings.span, depth_of(config), shortened, head)
    with torch.device("meta"):
        make_mimic({"part": "mimic", "width": 8, **mimic_spec(settings)})


def mimic_spec(settings: Settings) -> dict[str, Any]:
    """Return the specification of a mimic, see ``Mimic``."""
    return {"kind": settings.kind, "hidden": settings.width, "layers": settings.layers,
            "kernel": settings.kernel, "heads": settings.heads}  # fmt: skip


def make_mimic(spec: Mapping[str, Any]) -> Mimic:
    """Build a mimic from its specification.

    Raises
    ------
    EdgepruneError
        The specification is not possible: a width that is no multiple of the heads, an even kernel.

    """
    try:
        made: Any = serialization.make_part(spec)
    except ValueError as error:
        raise EdgepruneError(
            f"The mimic cannot be built: {error}.", "Change [mimic] in the recipe."
        ) from error
    part: Mimic = made
    return part


def span_of(model: Any, span: tuple[int, ...]) -> tuple[int, int]:
    """Return the blocks (first, end) that a mimic replaces, see ``check_span``."""
    return check_span(model.config, span, len(layers_of(model)))


def check_span(
    config: Any, span: tuple[int, ...], depth: int, shortened: bool = False, head: str = "own"
) -> tuple[int, int]:
    """Return the blocks (first, end) that a mimic replaces; the end is exclusive.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's config.
    span : tuple of int
        First block and end, counted from 0; empty for the whole stack.
    depth : int
        Number of layers.
    shortened : bool
        Whether there may be fewer layers when the mimic is made.
    head : str
        Kind of head that the model gets before, see ``models.heads``.

    Raises
    ------
    EdgepruneError
        There are no such blocks; the family's blocks change width or resolution; its head takes the
        hidden states of all blocks; or later blocks use parameters of the span.

    """
    name, family = config.model_type, family_of(config.model_type)
    if "*" in family.layers:
        raise EdgepruneError(
            f"The layers of models of type {name} differ in width and resolution, so that a mimic "
            "cannot replace several of them.",
            "Use the step trim or student.",
        )
    first, stop = span if len(span) == 2 else (0, depth)
    if len(span) not in (0, 2) or not 0 <= first < stop <= depth:
        raise EdgepruneError(
            f"mimic.span = {list(span)} is out of range for a model with {depth} layers.",
            f"Give its first layer and its end (exclusive), from 0 to {depth}.",
        )
    if head == "own" and getattr(config, "use_weighted_layer_sum", False):
        raise EdgepruneError(
            "The model's head takes a weighted sum of all hidden states, which a mimic lacks.",
            "Use another kind of head (teach.head = 'mlp').",
        )
    held = [layer for layer in family.keep if first <= layer < stop]
    if held and stop < depth and not shortened:
        raise EdgepruneError(
            f"Later layers use parameters of layer {held[0]} in models of type {name}, so a mimic "
            "cannot replace it without them.",
            f"Begin the span at {held[0] + 1}, or extend it to the last layer.",
        )
    return first, stop


def put_mimic(model: Any, first: int, stop: int, samples: Tensor, **spec: Any) -> Mimic:
    """Replace the blocks first to stop - 1 by a new mimic, in place, and return it.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model to change.
    first, stop : int
        See ``span_of``.
    samples : Tensor (batch, window)
        Any valid input; it is processed once to find out what the blocks return.
    spec
        ``kind``, ``hidden``, ``layers``, ``kernel``, ``heads`` of ``Mimic``.

    Raises
    ------
    EdgepruneError
        See ``make_mimic``.

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
    """Return the number of frame sequences in a model's tokens: AST has one per row of patches."""
    if config.model_type != "audio-spectrogram-transformer":
        return 1
    return int((config.num_mel_bins - config.patch_size) // config.frequency_stride + 1)


def drop_positions(model: Any) -> bool:
    """Remove a family's positional convolution, in place; return False if there is none."""
    path = family_of(model.config.model_type).positions
    if not path:
        return False
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    serialization.replace_module(
        model, f"{prefix}{path}", serialization.make_part({"part": "no-positions"})
    )
    return True


@contextmanager
def record_outputs(modules: Mapping[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of modules (of tuples, the first) while the body runs a model."""
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
