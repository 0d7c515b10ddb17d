"""Moments of modules' inputs and outputs over calibration clips.

``own_moments``: of several modules of one model, in one pass, with their own outputs as targets.
``paired_moments``: of one module of a model that was changed below it, with the original model's
outputs as targets, so that its refit corrects what the changes before it did (sequential
calibration, as in LiteASR, arXiv 2502.20583).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.closed_form.least_squares import Moments
from edgeprune.closed_form.logit_sensitivity import LogitSensitivity
from edgeprune.models import loading


class _Reached(Exception):
    """Raised when a module was reached, so that nothing after it is computed."""


def moments_of(module: nn.Linear) -> Moments:
    """Return empty moments for a linear layer."""
    return Moments(module.in_features, module.out_features, module.bias is not None)


def add_frames(moments: Moments, x: Tensor, y: Tensor, tokens: Tensor) -> None:
    """Add inputs (..., tokens, inputs) and targets (..., tokens, outputs) with weights (tokens,)."""
    weights = tokens.to(x.device).expand(x.shape[:-1]) if x.dim() > 2 else torch.ones(len(x))
    moments.add(x.flatten(0, -2), y.flatten(0, -2), weights.reshape(-1).to(x.device))


def own_moments(
    model: Any, modules: Mapping[str, nn.Linear], batches: Iterable[Tensor],
    sensitivity: Mapping[str, LogitSensitivity],
) -> dict[str, Moments]:  # fmt: skip
    """Return the moments of modules with their own outputs as targets, in the order they run.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model in evaluation mode.
    modules : mapping
        Name -> linear layer.
    batches : iterable of Tensor
        Windows (batch, samples).
    sensitivity : mapping
        Name -> weights of the tokens.

    """
    empty = {name: moments_of(module) for name, module in modules.items()}
    found: dict[str, Moments] = {}

    def hook(name: str) -> Callable[..., None]:
        def add(_: nn.Module, args: tuple[Tensor, ...], out: Tensor) -> None:
            found[name] = empty[name]
            add_frames(found[name], args[0], out, sensitivity[name].tokens)

        return add

    hooks = [module.register_forward_hook(hook(name)) for name, module in modules.items()]
    try:
        with torch.inference_mode():
            for samples in batches:
                loading.logits_of(model, samples)
    finally:
        for handle in hooks:
            handle.remove()
    return found


def paired_moments(
    changed: Any, original: Any, path: str, batches: Iterable[Tensor], tokens: Tensor,
    stream: str = "",
) -> Moments:  # fmt: skip
    """Return the moments of a projection's inputs in a changed model and its targets.

    The targets are the projection's outputs in the original model, plus what the stream they are
    added to has drifted (``residuals``).

    Parameters
    ----------
    changed, original : transformers.PreTrainedModel
        Two models that differ below the projection.
    path : str
        Path of the projection, a linear layer, in both.
    batches : iterable of Tensor
        Windows (batch, samples).
    tokens : Tensor (tokens,)
        Weights of the tokens.
    stream : str
        Path of the module whose input is the stream; empty: drift is not made up for.

    """
    moments = moments_of(original.get_submodule(path))
    with torch.inference_mode():
        for samples in batches:
            x, _, drifted = _run_to(changed, path, samples, stream)
            _, wanted, held = _run_to(original, path, samples, stream, outputs=True)
            if stream:
                wanted = wanted + (held - drifted)
            add_frames(moments, x, wanted, tokens)
    return moments


def _run_to(
    model: Any, path: str, samples: Tensor, stream: str, *, outputs: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """Run a model up to a projection; return its input, its output if wanted, and the stream."""
    caught: dict[str, Tensor] = {}

    def passed(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        caught["stream"] = args[0] if args else options["hidden_states"]

    def entered(_: nn.Module, args: tuple[Tensor, ...]) -> None:
        caught["input"] = args[0]
        if not outputs:
            raise _Reached

    def left(_: nn.Module, __: Any, out: Tensor) -> None:
        caught["output"] = out
        raise _Reached

    module = model.get_submodule(path)
    hooks = [module.register_forward_pre_hook(entered), module.register_forward_hook(left)]
    if stream:
        source = model.get_submodule(stream)
        hooks.append(source.register_forward_pre_hook(passed, with_kwargs=True))
    try:
        loading.logits_of(model, samples)
    except _Reached:
        nothing = samples.new_empty(0)
        return caught["input"], caught.get("output", nothing), caught.get("stream", nothing)
    finally:
        for hook in hooks:
            hook.remove()
    raise RuntimeError("the model did not run the projection")
