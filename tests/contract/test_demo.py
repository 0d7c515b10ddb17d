"""The demonstration: everything, offline, from nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from edgeprune.pipeline.demo import MODEL
from edgeprune_device.bundle.reader import read_bundle


def test_the_shipped_model_is_small_safetensors_without_a_head() -> None:
    from edgeprune.models import checkpoints

    assert {p.name for p in MODEL.iterdir()} == {"config.json", "model.safetensors"}
    assert (MODEL / "model.safetensors").stat().st_size < 4_000_000
    assert checkpoints.read_checkpoint(str(MODEL)).labels() == ()


@pytest.mark.slow
def test_the_demonstration_runs_and_finds_songs_of_birds_it_never_heard(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "demo", "-o", str(tmp_path / "demo"), "--json"],
        capture_output=True, text=True, timeout=1200, check=False,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    before, after = result["summary"]["teacher"], result["summary"]["bundle"]
    assert before["score"] > 0.9
    assert after["score"] > before["score"] - 0.03
    assert after["layers"] < before["layers"]
    assert after["bytes"] < before["bytes"] / 2
    assert result["hits"] > 4 * result["misses"]
    assert result["false_alarms"] <= 4
    assert Path(result["report"]).read_text("utf-8").startswith("<!doctype html>")
    assert read_bundle(Path(result["bundle"])).manifest["decision"]["ignore"] == ["background"]
