"""Multiply-accumulates of one window per module, counted by running the model.

torch's counter covers matrix products and convolutions (two operations each); attention is counted
as its matrix products. A recurrent layer runs as one operation that the counter does not know (0
on most devices), so the products of an LSTM are computed from its sizes instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils.rnn import PackedSequence
from torch.utils.flop_counter import FlopCounterMode

from edgeprune.models import loading

GATES_OF_LSTM = 4
"""Input, forget, cell and output; each a product with the input and one with the hidden state."""


def macs_by_module(model: Any, window_samples: int) -> dict[str, float]:
    """Count the multiply-accumulates inside every module on a window of zeros.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model; it is left in evaluation mode.
    window_samples : int
        Samples per window.

    Returns
    -------
    dict
        Name of the module -> multiply-accumulates in it and its submodules; ``""`` is the whole
        model. Modules without any may be missing.

    """
    where = next(model.parameters()).device
    samples = torch.zeros(1, window_samples, device=where)
    model.eval()
    recurrent: dict[str, float] = {}
    handles = [
        module.register_forward_hook(_counts_into(recurrent, name))
        for name, module in model.named_modules() if isinstance(module, nn.LSTM)
    ]  # fmt: skip
    try:
        with (
            sdpa_kernel(SDPBackend.MATH), torch.no_grad(), FlopCounterMode(display=False) as counter
        ):  # fmt: skip
            loading.logits_of(model, samples)
    finally:
        for handle in handles:
            handle.remove()
    root = type(model).__name__
    counts = {
        name.removeprefix(root).removeprefix("."): sum(operations.values()) / 2
        for name, operations in counter.get_flop_counts().items() if name != "Global"
    }  # fmt: skip
    counts[""] = counter.get_total_flops() / 2
    for name, amount in recurrent.items():
        missed = amount - counts.get(name, 0.0)  # some devices run it as products that are counted
        for owner in _owners(name):
            counts[owner] = counts.get(owner, 0.0) + missed
    return counts


def lstm_macs(layer: nn.LSTM, steps: int) -> tuple[float, float]:
    """Return an LSTM's multiply-accumulates: input products of its first layer, and all others.

    Parameters
    ----------
    layer : nn.LSTM
        Layer.
    steps : int
        Number of input frames over the whole batch.

    """
    sides = 2 if layer.bidirectional else 1
    given = layer.proj_size or layer.hidden_size  # output width of each direction
    rows = GATES_OF_LSTM * layer.hidden_size
    first = steps * sides * rows * layer.input_size
    later = steps * sides * rows * sides * given * (layer.num_layers - 1)
    back = steps * sides * rows * given * layer.num_layers
    projected = steps * sides * layer.num_layers * layer.hidden_size * layer.proj_size
    return float(first), float(later + back + projected)


def _counts_into(found: dict[str, float], name: str) -> Any:
    """Return a hook that adds an LSTM's multiply-accumulates each time it runs."""

    def count(layer: nn.LSTM, args: tuple[Tensor | PackedSequence, ...], _: Any) -> None:
        heard = args[0].data if isinstance(args[0], PackedSequence) else args[0]
        steps = heard.numel() // layer.input_size
        found[name] = found.get(name, 0.0) + sum(lstm_macs(layer, steps))

    return count


def _owners(name: str) -> list[str]:
    """Return the names of a module and of all that contain it, the whole model last."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(len(parts), 0, -1)] + [""]
