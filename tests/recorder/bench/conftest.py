"""Two bundles to measure, one real run of them, and one whose latencies are made up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from bench_rounds import Ran, make_bundle, measured_without_a_clock

from edgeprune_device.bench.runner import bench


@pytest.fixture(scope="session")
def two_bundles(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    home = tmp_path_factory.mktemp("bundles")
    return [make_bundle(home / "large", "large", 1500), make_bundle(home / "small", "small", 8)]


@pytest.fixture(scope="session")
def ran(two_bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Ran:
    out, said = tmp_path_factory.mktemp("bench") / "new" / "folder", list[str]()
    return bench(two_bundles, out, threads=(1,), seconds=0.2, rounds=3, say=said.append), out, said


@pytest.fixture(scope="session")
def made(two_bundles: list[Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Give the result of a run with everything in it, in which no process was started."""
    return measured_without_a_clock(two_bundles, tmp_path_factory.mktemp("made"))
