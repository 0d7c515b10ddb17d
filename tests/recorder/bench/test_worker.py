"""What runs in the process of a round: what it tells, and what it refuses to time."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_device.bench import worker
from edgeprune_device.bench.worker_client import FEWEST_WINDOWS, Round, run_child
from edgeprune_device.bundle.reader import read_bundle


def test_a_child_tells_every_phase_from_its_start_to_the_disk(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = read_bundle(tiny_bundle)
    more = ["--folder", str(tmp_path), "--paced"]
    one = run_child(tiny_bundle, bundle.format, bundle.digest, 1, 0.1, "", more)
    phases = {name: ms[0] for name, ms in one.phases_ms.items()}
    assert set(phases) == {
        "python", "import", "verify", "load", "first", "cold_start", "journal", "first_detection",
        "window", "inference_on_way", "decide", "write", "end_to_end",
    }  # fmt: skip
    together = sum(phases[name] for name in ("python", "import", "verify", "load", "first"))
    assert together <= phases["cold_start"] < phases["first_detection"]
    assert 30 < phases["python"] < 30_000  # an interpreter and numpy
    assert one.load_ms == pytest.approx(phases["verify"] + phases["load"])
    assert one.golden_agreement == 1.0
    assert one.sound is not None
    assert one.sound["kind"] == "golden"
    assert one.paced_ms is not None
    assert len(one.paced_ms["due_ms"]) >= 1
    assert 0 < (one.memory_bytes["after_load"] or 0) <= one.peak_rss_bytes


def told_by(capsys: pytest.CaptureFixture[str], bundle: Path, *more: str) -> dict[str, Any]:
    """Run what a round's process runs, in this one."""
    digest = read_bundle(bundle).digest
    status = worker.main([str(bundle), "--format", "onnx", "--digest", digest, "--threads", "1",
                          "--seconds", "0.02", *more])  # fmt: skip
    assert status == 0
    told: dict[str, Any] = json.loads(capsys.readouterr().out)
    return told


def test_without_a_folder_nothing_is_written_and_the_way_to_the_disk_is_not_told(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = told_by(capsys, tiny_bundle)
    assert set(told["phases_ms"]) == {"python", "import", "verify", "load", "first", "cold_start"}
    assert len(told["latencies_ns"]) >= FEWEST_WINDOWS
    assert told["golden_difference"] < 1e-4
    assert "paced_ms" not in told
    assert Round(latencies_ms=np.array(told.pop("latencies_ns")), **told).warm_windows


def test_a_sustained_run_has_a_curve_in_place_of_single_latencies(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = told_by(capsys, tiny_bundle, "--sustained")
    assert (told["latencies_ns"], told["sustained"]["n"] > 0) == ([], True)
    assert "end_to_end" not in told["phases_ms"]


def test_sound_that_was_prepared_is_what_is_heard(
    tiny_bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "s.npy", np.full(8000, 0.1, np.float32))
    told = told_by(
        capsys, tiny_bundle, "--sound", str(tmp_path / "s.npy"), "--sound-name", "wood.wav"
    )
    assert told["sound"] == {"kind": "wav", "name": "wood.wav", "seconds": 0.5}


def test_a_bundle_that_is_another_one_is_not_measured(
    tiny_bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = worker.main([str(tiny_bundle), "--format", "onnx", "--digest", "0" * 64, "--threads", "1",
                          "--seconds", "1"])  # fmt: skip
    assert status == 1
    captured = capsys.readouterr()
    assert captured.err.endswith("was changed while it was measured.\n")
    assert captured.out == ""


def test_agreement_is_the_share_of_golden_inputs_with_the_same_surest_label(
    tiny_bundle: Path,
) -> None:
    bundle = read_bundle(tiny_bundle)
    right = {golden.samples.tobytes(): golden.scores for golden in bundle.golden}
    assert worker.agreement(bundle, lambda samples: right[samples.tobytes()] * 0.5) == 1.0
    always = np.array([1, 0, 0], np.float32)
    assert worker.agreement(bundle, lambda _: always) == pytest.approx(1 / 3)
