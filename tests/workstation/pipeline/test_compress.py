"""The main job on tiny recordings: one run made once, looked at from all sides."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from tiny_models import make_model
from tiny_recordings import TONES
from tones_run import HOP_SECONDS, STAGES, ReusedLines, report_of, settings

from edgeprune.core.console import Silent
from edgeprune.pipeline.compress import check_floor, compress
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


def test_every_stage_of_every_seed_leaves_a_whole_folder(finished: Path) -> None:
    for seed in ("seed-0", "seed-1"):
        assert {p.name for p in (finished / seed).iterdir()} == set(STAGES)
    assert not list(finished.rglob("*.partial"))
    for name in ("report.html", "report.md", "report.json", "recipe.toml", "bundle/bundle.json"):
        assert (finished / name).is_file()


def test_the_tones_are_learnt_and_the_student_is_shallower(finished: Path) -> None:
    r = report_of(finished)
    assert r["summary"]["teacher"]["score"] > 0.8
    assert r["summary"]["bundle"]["layers"] < 3
    assert r["summary"]["bundle"]["score"] > 0.5


def test_accuracies_in_the_report_are_those_of_the_files_clip_by_clip(finished: Path) -> None:
    r = report_of(finished)
    for name in ("teacher", "student", "bundle"):
        right = [t == d for seed in (0, 1)
                 for t, d in np.load(finished / f"seed-{seed}/verify/{name}.npy")]  # fmt: skip
        assert r["summary"][name]["score"] == pytest.approx(np.mean(right))
        low, high = r["summary"][name]["interval"]
        assert low <= r["summary"][name]["score"] <= high


def test_parameters_and_bytes_are_counted_from_the_files(finished: Path) -> None:
    import onnx
    from safetensors.numpy import load_file

    r = report_of(finished)
    chosen = finished / f"seed-{r['best_seed']}"
    weights = load_file(chosen / "distill" / "model" / "model.safetensors")
    assert r["summary"]["student"]["parameters"] == sum(w.size for w in weights.values())
    file = finished / "bundle" / "model.onnx"
    assert r["summary"]["bundle"]["bytes"] == file.stat().st_size
    onnx.checker.check_model(onnx.load(file))


def test_no_speaker_stands_on_two_sides(finished: Path) -> None:
    rows = json.loads((finished / "clips" / "clips.json").read_text("utf-8"))["rows"]
    sides: dict[str, set[str]] = {}
    for row in rows:
        sides.setdefault(row["columns"]["speaker"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert {s for side in sides.values() for s in side} == {"train", "valid", "test"}


def test_every_file_of_a_run_is_measured_at_the_same_hop(finished: Path) -> None:
    best = finished / f"seed-{report_of(finished)['best_seed']}"
    for folder in (finished, best / "export", best / "export-teacher"):
        assert read_bundle(folder / "bundle").manifest["audio"]["hop_seconds"] == HOP_SECONDS


def test_a_second_run_reuses_every_stage_but_those_named_with_redo_and_says_so(
    run_copy: Path, backbone: Path, recordings: Path
) -> None:
    lines = ReusedLines()
    compress(str(backbone), recordings, run_copy, settings(), ui=lines, redo=("bench",))
    expected = {f"seed-{s}/{stage}" for s in (0, 1) for stage in STAGES}
    assert lines.reused == expected | {"clips", "untouched", "deploy"}


@pytest.mark.slow
def test_a_second_run_on_nothing_new_reuses_every_stage(
    run_copy: Path, backbone: Path, recordings: Path
) -> None:
    lines = ReusedLines()
    compress(str(backbone), recordings, run_copy, settings(), ui=lines)
    expected = {f"seed-{s}/{stage}" for s in (0, 1) for stage in STAGES}
    assert lines.reused == expected | {"clips", "untouched", "deploy", "bench"}


def test_a_changed_setting_reruns_only_what_reads_it(
    run_copy: Path, backbone: Path, recordings: Path
) -> None:
    lines = ReusedLines()
    chosen = settings(quantize={"method": "none"})
    compress(str(backbone), recordings, run_copy, chosen, ui=lines)
    again = {f"seed-{s}/{stage}" for s in (0, 1) for stage in ("quantize", "verify")}
    reused = {f"seed-{s}/{stage}" for s in (0, 1) for stage in STAGES} | {"clips", "untouched"}
    assert lines.reused == reused - again
    assert read_bundle(run_copy / "bundle").manifest["model"]["quantization"] == "none"


@pytest.mark.slow
def test_ctrl_c_in_the_middle_of_training_loses_nothing(
    finished: Path, backbone: Path, recordings: Path, tmp_path: Path
) -> None:
    """The teacher that was interrupted and gone on with is the one that was not, to the bit."""
    (tmp_path / "recipe.toml").write_text((finished / "recipe.toml").read_text("utf-8"), "utf-8")
    command = [sys.executable, "-m", "edgeprune.cli", "compress", str(backbone), str(recordings),
               "-o", str(tmp_path / "tones"), "--recipe", str(tmp_path / "recipe.toml")]  # fmt: skip
    checkpoint = tmp_path / "tones/seed-0/teach.partial/work/checkpoint.pt"
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's & would ignore it
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, preexec_fn=heard) as process:
        deadline = time.monotonic() + 60
        while not checkpoint.exists():
            assert time.monotonic() < deadline, "no epoch ended"
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Run the same command again; what can be resumed goes on." in errors
    assert not (tmp_path / "tones/seed-0/teach").exists()
    assert checkpoint.exists()
    compress(str(backbone), recordings, tmp_path / "tones", settings(), ui=Silent())
    weights = "seed-0/teach/model/model.safetensors"
    assert (tmp_path / "tones" / weights).read_bytes() == (finished / weights).read_bytes()
    curves = [json.loads((at / "seed-0/teach/teach.json").read_text("utf-8"))["curve"]
              for at in (finished, tmp_path / "tones")]  # fmt: skip
    assert curves[0] == curves[1]


@pytest.mark.slow
def test_layers_named_by_the_user_are_kept(
    backbone: Path, recordings: Path, tmp_path: Path
) -> None:
    chosen = settings(seeds=1, prune={"layers": [0, 2]})
    done = compress(str(backbone), recordings, tmp_path / "run", chosen, ui=Silent())
    depth = done.report["seeds"][0]["steps"][1]
    assert depth["kept"] == [0, 2]
    assert len(depth["tried"]) == 1


@pytest.mark.slow
def test_a_model_that_knows_the_labels_is_not_taught(recordings: Path, tmp_path: Path) -> None:
    taught = make_model(tmp_path / "taught", "hubert", tuple(sorted(TONES)), layers=2)
    chosen = settings(seeds=1, max_drop=0.9, prune={"keep": 1, "recovery_epochs": 0})
    done = compress(str(taught), recordings, tmp_path / "run", chosen, ui=Silent())
    assert not done.report["seeds"][0]["taught"]
    assert list(done.report["scores"][0]["curves"]) == ["teacher"]


def test_a_bundle_below_the_floor_ends_with_status_1() -> None:
    done = {"delivered": {"bundle": {"difference": -0.02}}}
    check_floor(done, 0.02)
    with pytest.raises(EdgepruneError, match=r"2\.00 percentage points below its teacher") as error:
        check_floor(done, 0.01)
    assert error.value.status == 1
