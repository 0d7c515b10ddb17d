"""What trains: one process, or the several that ``accelerate launch`` starts; full or mixed precision.

Every process goes through the same recipe on the same clips. They share the training's batches and
average its gradients; everything else the main process does alone, and the others wait for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

from edgeprune_device.errors import EdgepruneError

LAUNCHER = "ACCELERATE_MIXED_PRECISION"  # where its launcher says what it was asked
PATIENCE = timedelta(days=7)  # that a process waits while the main one scores or measures
_chosen = {"precision": "full"}
KNOWN = ("auto", "cpu", "cuda", "mps")


def processes() -> int:
    """Count the processes that ``accelerate launch`` (or torchrun) started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return which of them this is, from 0."""
    return int(os.environ.get("RANK", "0"))


def choose_device(name: str = "auto") -> torch.device:
    """Pick the device to train on: a GPU when there is one, otherwise the CPU.

    Each of several processes gets a GPU of its own.

    Raises
    ------
    EdgepruneError
        The named accelerator is not there.

    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(),
                 "mps": torch.backends.mps.is_available()}  # fmt: skip
    if name not in available:
        raise EdgepruneError(f"No accelerator is called {name!r}.", f"Known: {', '.join(KNOWN)}.")
    if not available[name]:
        raise EdgepruneError(f"This machine has no {name} accelerator.", "Use --accelerator cpu.")
    if name == "cuda" and processes() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)


def set_precision(asked: str) -> str:
    """Choose how all training to come computes: in full, or in bf16 (torch's autocast).

    Weights, norms and losses stay in float32. What ``accelerate launch --mixed_precision`` says
    counts as well.

    Returns
    -------
    str
        ``full`` or ``bf16``.

    Raises
    ------
    EdgepruneError
        The launcher asks for another precision.

    """
    launcher = os.environ.get(LAUNCHER, "no")
    if launcher not in ("no", "bf16"):
        raise EdgepruneError(
            f"accelerate launch asks for {launcher}; edgeprune trains in full precision or bf16.",
            "Leave --mixed_precision out, or use --mixed_precision bf16.",
        )
    _chosen["precision"] = "bf16" if "bf16" in (asked, launcher) else "full"
    return _chosen["precision"]


def autocast(device: torch.device) -> Any:
    """Return the context in which a loss is computed."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_chosen["precision"] == "bf16")


def make_accelerator(device: torch.device) -> Any:
    """Return the accelerate.Accelerator that shares a training among the processes."""
    from accelerate import Accelerator

    if processes() > 1:
        _meet()
    return Accelerator(cpu=device.type == "cpu", mixed_precision="no")  # see ``autocast``


def share_buffers(model: torch.nn.Module) -> None:
    """Give every process the main one's running statistics: each saw other clips."""
    if processes() > 1:
        from accelerate.utils import broadcast

        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(broadcast(buffer))


def average_gradients(accelerator: Any, weights: list[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes."""
    if accelerator.num_processes == 1:
        return
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad = accelerator.reduce(weight.grad, reduction="mean")


def wait() -> None:
    """Wait until every process is here."""
    if processes() > 1:
        _meet().wait_for_everyone()


def same(value: Any) -> Any:
    """Return the main process's value in every process (a decision that a clock had a part in)."""
    if processes() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _meet()
    shared = [value]
    broadcast_object_list(shared)
    return shared[0]


@contextmanager
def main_first() -> Iterator[None]:
    """Let the main process go first through a body that writes what the others then find."""
    if rank():
        wait()
    yield
    if not rank():
        wait()


def _meet() -> Any:
    """Join the other processes: over NCCL where there are GPUs, over gloo where there are none."""
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
