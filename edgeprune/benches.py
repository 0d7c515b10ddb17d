"""A model and the clips it is measured on, with a head that knows their labels."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from edgeprune import compute, models
from edgeprune.audio import Windows, load_windows
from edgeprune.console import Ui
from edgeprune.probe import fit_probe
from edgeprune.settings import Measure
from edgeprune.stack import Cut, Stack
from edgeprune.states import one_point_a_clip
from edgeprune.statistics import LEAST_GROUPS


@dataclass(frozen=True)
class Bench:
    """A model and the clips it is measured on."""

    stack: Stack
    windows: Windows
    labels: tuple[str, ...]
    """In the order of the head's outputs."""
    device: torch.device
    ui: Ui

    @property
    def whole(self) -> Cut:
        """The cut that keeps every layer."""
        return tuple(range(len(self.stack)))


def open_benches(
    model: str | Path, clips: Path, accelerator: str, settings: Measure, ui: Ui
) -> tuple[Bench, Bench, Windows, str]:
    """Load a model with a head that knows the labels: its own, or else a linear probe.

    Returns
    -------
    valid, test : Bench
    train : Windows
        Calibration clips for the bridges.
    head : str
        ``own`` or ``linear probe``.

    """
    windows = load_windows(clips)
    device = compute.choose_device(accelerator)
    loaded, labels, own = models.load_for(
        str(model), windows.labels, window_samples=windows.window_samples
    )
    stack = Stack(loaded.to(device))
    if not own:
        stack.head = fit_probe(stack, windows, labels, device, ui)
    valid, test = (
        Bench(stack, some_clips(windows, split, settings.clips), labels, device, ui)
        for split in ("valid", "test")
    )
    train = some_clips(windows, "train", settings.bridge_clips)
    return valid, test, train, "own" if own else "linear probe"


def some_clips(windows: Windows, split: str, most: int) -> Windows:
    """Return all windows of at most ``most`` clips of a split, spread evenly over the classes.

    No sample is read.
    """
    chosen = windows.clip[one_point_a_clip(windows, windows.where(split), most)]
    return windows.only(np.flatnonzero(np.isin(windows.clip, chosen)))


def spread(windows: Windows, most: int) -> Windows:
    """Return all windows of at most ``most`` clips, evenly spread over the clips' order."""
    clips = np.unique(windows.clip)
    chosen = clips[np.unique(np.linspace(0, len(clips) - 1, min(most, len(clips))).astype(int))]
    return windows.take(np.flatnonzero(np.isin(windows.clip, chosen)))


def groups_of_clips(windows: Windows) -> list[str] | None:
    """Return the group of every clip of some windows, in the clips' order.

    None without groups, or with too few of them to draw from: then clips are drawn.
    """
    _, first = np.unique(windows.clip, return_index=True)
    groups = windows.column("group")
    found = [groups[i] for i in first]
    return found if all(found) and len(set(found)) >= LEAST_GROUPS else None
