"""A tiny model and its clips, made once for the tests that measure it."""

from __future__ import annotations

from pathlib import Path

import pytest
from measured_models import evaluator_of, make_labelled, two_windows_a_clip

from edgeprune.data.windows import Windows, load_windows
from edgeprune.depth_pruning.evaluator import Evaluator


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_labelled(tmp_path_factory.mktemp("model") / "labelled")


@pytest.fixture(scope="session")
def clips_folder(
    model_folder: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Give a clips stage in which every clip is two windows."""
    return two_windows_a_clip(model_folder, recordings, tmp_path_factory.mktemp("clips"))


@pytest.fixture(scope="session")
def windows(clips_folder: Path) -> Windows:
    return load_windows(clips_folder)


@pytest.fixture
def evaluator(model_folder: Path, windows: Windows) -> Evaluator:
    return evaluator_of(model_folder, windows)
