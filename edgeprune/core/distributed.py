"""Devices, processes and precision of training, with or without ``accelerate launch``.

Every process runs the same recipe on the same clips. The processes split the batches of a training
and average the gradients; everything else runs in the main process while the others wait.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch

from edgeprune_device.errors import EdgepruneError

LAUNCHER = "ACCELERATE_MIXED_PRECISION"  # environment variable set by accelerate's launcher
PATIENCE = timedelta(days=7)  # how long a process waits while the main one scores or measures
_chosen = {"precision": "full"}
KNOWN = ("auto", "cpu", "cuda", "mps")


def processes() -> int:
    """Count the processes that ``accelerate launch`` (or torchrun) started."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def rank() -> int:
    """Return the index of this process, from 0."""
    return int(os.environ.get("RANK", "0"))


def choose_device(name: str = "auto") -> torch.device:
    """Select the device to train on: ``auto`` is CUDA where available, otherwise the CPU.

    Of several processes, each gets a GPU of its own.

    Raises
    ------
    EdgepruneError
        The name is not known, or this machine has no such device.

    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(),
                 "mps": torch.backends.mps.is_available()}  # fmt: skip
    if name not in available:
        raise EdgepruneError(f"accelerator = {name!r} is not known.", f"Known: {', '.join(KNOWN)}.")
    if not available[name]:
        raise EdgepruneError(f"This machine has no {name} accelerator.", "Use --accelerator cpu.")
    if name == "cuda" and processes() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return torch.device(name)


def set_precision(asked: str) -> str:
    """Set the precision of all following training: full, or bf16 (torch's autocast).

    Weights, norms and losses stay in float32. ``accelerate launch --mixed_precision bf16`` also
    selects bf16.

    Returns
    -------
    str
        ``full`` or ``bf16``.

    Raises
    ------
    EdgepruneError
        The launcher requests another precision.

    """
    launcher = os.environ.get(LAUNCHER, "no")
    if launcher not in ("no", "bf16"):
        raise EdgepruneError(
            f"accelerate launch requests {launcher}; edgeprune trains in full precision or bf16.",
            "Leave --mixed_precision out, or use --mixed_precision bf16.",
        )
    _chosen["precision"] = "bf16" if "bf16" in (asked, launcher) else "full"
    return _chosen["precision"]


def autocast(device: torch.device) -> Any:
    """Return the autocast context for computing a loss on ``device``."""
    return torch.autocast(device.type, torch.bfloat16, enabled=_chosen["precision"] == "bf16")


def make_accelerator(device: torch.device) -> Any:
    """Return the accelerate.Accelerator that distributes training over the processes."""
    from accelerate import Accelerator

    if processes() > 1:
        _meet()
    return Accelerator(cpu=device.type == "cpu", mixed_precision="no")  # see ``autocast``


def broadcast_buffers(model: torch.nn.Module) -> None:
    """Copy the main process's buffers, such as batch-norm statistics, to every process."""
    if processes() > 1:
        from accelerate.utils import broadcast

        for buffer in model.buffers():
            if buffer.is_floating_point():
                buffer.copy_(broadcast(buffer))


def average_gradients(accelerator: Any, weights: list[torch.nn.Parameter]) -> None:
    """Replace every gradient by its mean over the processes (all-reduce)."""
    if accelerator.num_processes == 1:
        return
    for weight in weights:
        if weight.grad is None:
            weight.grad = torch.zeros_like(weight)
        weight.grad = accelerator.reduce(weight.grad, reduction="mean")


def wait() -> None:
    """Wait until every process has reached this point (barrier)."""
    if processes() > 1:
        _meet().wait_for_everyone()


def broadcast_from_main(value: Any) -> Any:
    """Return the main process's value in every process (broadcast), for timing-based decisions."""
    if processes() == 1:
        return value
    from accelerate.utils import broadcast_object_list

    _meet()
    shared = [value]
    broadcast_object_list(shared)
    return shared[0]


@contextmanager
def main_first() -> Iterator[None]:
    """Run the body in the main process first; the others then find what it has written."""
    if rank():
        wait()
    yield
    if not rank():
        wait()


def _meet() -> Any:
    """Join the process group: NCCL if a GPU is available, otherwise gloo."""
    from accelerate import PartialState

    return PartialState(cpu=not torch.cuda.is_available(), timeout=PATIENCE)
