"""A tiny model with the tones' labels, its clips in windows, and both ready to be measured."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny_models import make_model
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.evaluator import Evaluator
from edgeprune.depth_pruning.layer_stack import Stack
from edgeprune.models import loading
from edgeprune.pipeline.clips import clips

CPU = torch.device("cpu")
LABELS = tuple(sorted(TONES))


def make_labelled(folder: Path) -> Path:
    """Write a HuBERT of three blocks whose head knows the labels (nothing is trained)."""
    return make_model(folder, "hubert", LABELS)


def two_windows_a_clip(model: Path, recordings: Path, out: Path) -> Path:
    """Cut the recordings so that a clip becomes two windows; returns the stage's folder."""
    clips(model, recordings, "x", out=out, settings=Clips(window_seconds=0.2), ui=Silent())
    return out


def evaluator_of(model: Path, windows: Windows) -> Evaluator:
    stack = Stack(loading.load_model(str(model)))
    return Evaluator(stack, windows.split("valid"), LABELS, CPU, Silent())
