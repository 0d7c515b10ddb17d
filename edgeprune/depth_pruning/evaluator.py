"""A model, with a head for the labels, and the clips on which layer subsets are evaluated."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from edgeprune.core import distributed
from edgeprune.core.console import Ui
from edgeprune.core.settings import Measure
from edgeprune.data.clip_subsets import balanced_subset
from edgeprune.data.windows import Windows, load_windows
from edgeprune.depth_pruning.layer_stack import LayerSubset, Stack
from edgeprune.depth_pruning.linear_probe import fit_probe
from edgeprune.models import loading


@dataclass(frozen=True)
class Evaluator:
    """A model and the clips it is evaluated on."""

    stack: Stack
    windows: Windows
    labels: tuple[str, ...]
    """Labels in the order of the head's outputs."""
    device: torch.device
    ui: Ui

    @property
    def whole(self) -> LayerSubset:
        """The layer subset with every layer."""
        return tuple(range(len(self.stack)))


def open_evaluators(
    model: str | Path, clips: Path, accelerator: str, settings: Measure, ui: Ui
) -> tuple[Evaluator, Evaluator, Windows, str]:
    """Load a model with a head that knows the labels: its own, otherwise a linear probe.

    Returns
    -------
    valid, test : Evaluator
        Model with validation clips, and with test clips.
    train : Windows
        Calibration clips for the bridges.
    head : str
        ``own`` or ``linear probe``.

    """
    windows = load_windows(clips)
    device = distributed.choose_device(accelerator)
    loaded, labels, own = loading.load_for(
        str(model), windows.labels, window_samples=windows.window_samples
    )
    stack = Stack(loaded.to(device))
    if not own:
        stack.head = fit_probe(stack, windows, labels, device, ui)
    valid, test = (
        Evaluator(stack, balanced_subset(windows, split, settings.clips), labels, device, ui)
        for split in ("valid", "test")
    )
    train = balanced_subset(windows, "train", settings.bridge_clips)
    return valid, test, train, "own" if own else "linear probe"
