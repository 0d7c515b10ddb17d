"""Where a projection's output is added to: the residual stream, found by looking at the numbers.

If removal changes what earlier layers give, the stream drifts from the original's. A projection
whose output is added to the stream can make up for that drift, too, if it is fitted to

    what the original's projection gave + (the original's stream - the changed model's stream)

Families place their norms differently, so the stream is not found by names: it is the input of a
module of the block, called before the projection, to which the projection's output is added to
give, exactly, what a later module of the model gets or gives.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.models import loading

EXACT = 1e-5
"""Largest difference to the sum, as a share of its largest value; float32 rounds at 1e-7."""


def residual_sources(
    model: Any, projections: Mapping[str, str], samples: Tensor
) -> dict[str, str]:  # fmt: skip
    """Return the module whose input is the stream that each projection's output is added to.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model in evaluation mode.
    projections : mapping
        Name -> path of a linear layer.
    samples : Tensor (batch, samples)
        A few windows.

    Returns
    -------
    dict
        Name -> path of a module; empty where there is none, as where the output is scaled first.

    """
    calls = _calls(model, samples)
    found = {}
    for name, path in projections.items():
        place = next(i for i, call in enumerate(calls) if call[0] == path and call[1] == "out")
        given = calls[place][2]
        before = [(where, x) for where, kind, x in calls[:place] if kind == "in"]
        after = [x for _, _, x in calls[place + 1 :] if x.shape == given.shape]
        found[name] = _source(given, [c for c in before if c[1].shape == given.shape], after)
    return found


def _source(given: Tensor, before: list[tuple[str, Tensor]], after: list[Tensor]) -> str:
    """Return the latest module whose input plus the given output is one of the later tensors."""
    near = after[:8]  # the sum is what one of the next modules gets, or what the block returns
    for where, stream in reversed(before):
        total = stream + given
        limit = EXACT * float(total.abs().max())
        if any(float((total - later).abs().max()) <= limit for later in near):
            return where
    return ""


def _calls(model: Any, samples: Tensor) -> list[tuple[str, str, Tensor]]:
    """Run a model; return (path, ``in`` or ``out``, tensor) in the order they occur."""
    calls: list[tuple[str, str, Tensor]] = []

    def entered(path: str) -> Any:
        def note(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
            given = args[0] if args else options.get("hidden_states")
            if isinstance(given, Tensor):
                calls.append((path, "in", given))

        return note

    def left(path: str) -> Any:
        def note(_: nn.Module, __: Any, out: Any) -> None:
            first = out[0] if isinstance(out, tuple) else out
            if isinstance(first, Tensor):
                calls.append((path, "out", first))

        return note

    hooks = []
    for path, module in model.named_modules():
        if path:
            hooks.append(module.register_forward_pre_hook(entered(path), with_kwargs=True))
            hooks.append(module.register_forward_hook(left(path)))
    try:
        with torch.inference_mode():
            loading.logits_of(model, samples)
    finally:
        for hook in hooks:
            hook.remove()
    return calls
