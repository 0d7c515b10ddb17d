"""A bundle that a test may change, and a pair of keys."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from edgeprune_device.bundle.signature import make_keys


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path, str]:
    """Give a private key's file, its public key's, and their identity."""
    return make_keys(tmp_path / "keys")
