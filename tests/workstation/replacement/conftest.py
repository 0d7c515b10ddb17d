"""A teacher with its clips, and a sound, made once for the steps that replace parts of a model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from steps_fixture import make_inputs
from tiny_recordings import RATE


@pytest.fixture(scope="session")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Give the folders of a ``teach`` and a ``clips`` stage."""
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.fixture(scope="session")
def sound() -> torch.Tensor:
    return torch.randn(2, RATE, generator=torch.Generator().manual_seed(0)) * 0.1
