"""The benchmark of graphs: its table, what it does when a peer fails, and a tiny model in full."""

from __future__ import annotations

import argparse
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from repository import ROOT
from tiny_models import make_model
from tiny_recordings import TONES

from edgeprune.models import loading
from edgeprune_calibration.manifest import Clip
from edgeprune_device.bundle.reader import read_bundle

BENCHMARKS = ROOT / "benchmarks"
LABELS = tuple(TONES)


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """Give the program with one tiny model of one second, one clip, and three variants."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    program = import_module("graphs")
    folder = make_model(tmp_path / "tiny", "wav2vec2", LABELS)
    sound = np.random.default_rng(0).standard_normal(program.RATE).astype(np.float32) * 0.1
    clip = tmp_path / "clip.wav"
    write_wav(clip, sound)
    subject = program.Subject(lambda _window: loading.load_model(str(folder)), "none", trained=1)
    kept = (program.ONNX, "transformers, torch float32", "edgeprune ONNX, float32",
            "edgeprune ONNX, dynamic")  # fmt: skip
    variants = {name: program.VARIANTS[name] for name in kept}
    broken = program.VARIANTS[program.ONNX].__class__("onnx", break_down)
    monkeypatch.setattr(program, "SUBJECTS", {"tiny": subject})
    monkeypatch.setattr(program, "VARIANTS", {**variants, "a peer": broken})
    monkeypatch.setattr(program, "calibration", lambda *_: np.stack([sound, sound[::-1]]))
    monkeypatch.setattr(program, "questions", lambda *_: [Clip(clip, LABELS[0])])
    return program


def write_wav(path: Path, sound: Any) -> None:
    import wave

    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 16000, 0, "NONE", ""))
        file.writeframes((sound * 32767).astype("<i2").tobytes())


def break_down(_work: Any) -> bytes:
    raise ValueError("a peer's own words\nit does not know this graph")


def run(program: Any, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> None:
    monkeypatch.setattr(sys, "argv", ["graphs.py", *arguments])
    program.main()


@pytest.mark.slow
def test_a_model_is_made_measured_and_shown_and_a_peer_that_fails_says_why(
    graphs: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "graphs"
    given = ("-o", str(out), "--windows", "1")
    run(graphs, monkeypatch, "make", *given)
    assert "a peer" in (said := capsys.readouterr().out)
    assert "it does not know this graph" in said
    dynamic = out / "tiny-1s/edgeprune-onnx-dynamic"
    assert read_bundle(dynamic).labels == LABELS

    before = dynamic.stat().st_mtime_ns
    run(graphs, monkeypatch, "make", *given)
    assert capsys.readouterr().out == ""  # nothing is made twice, what failed neither
    assert dynamic.stat().st_mtime_ns == before

    quick = ("--threads", "1", "--seconds", "0.05", "--rounds", "3")
    run(graphs, monkeypatch, "measure", *given, *quick)
    result = json.loads((out / "tiny-1s/measured.json").read_text("utf-8"))
    assert list(result["rows"]) == [name for name in graphs.VARIANTS if name != "a peer"]
    assert result["rows"][graphs.ONNX]["agreement"] == 1
    assert result["rows"][graphs.ONNX]["accuracy"] in (0, 1)
    assert all(row["threads"]["1"]["n"] >= 60 for row in result["rows"].values())

    results = tmp_path / "results"
    run(graphs, monkeypatch, "table", *given, "--results", str(results))
    shown = capsys.readouterr().out
    assert "a peer cannot be made: ValueError: it does not know this graph" in shown
    assert "| transformers, torch float32 |" in shown
    (written,) = results.glob("graphs-*.json")
    assert [entry["model"] for entry in json.loads(written.read_text("utf-8"))] == ["tiny"]


def test_a_task_asks_only_for_windows_that_a_model_has(graphs: Any, tmp_path: Path) -> None:
    options = argparse.Namespace(models=["tiny"], windows=[1, 3, 5], out=tmp_path)
    assert [task.seconds for task in graphs.tasks_of(options)] == [1, 5]


def test_the_table_sets_speed_against_the_plain_export_and_leaves_open_what_was_not_asked(
    graphs: Any,
) -> None:
    time = {"p50_ms": 10.0, "p90_ms": 12.0, "peak_rss_mb": 80.0, "load_ms": 5.0}
    asked = {"agreement": 0.999, "score_difference": 1e-3}
    rows = {
        graphs.ONNX: {"bytes": 4_000_000, "threads": {"1": time}, **asked},
        "fast": {"bytes": 1_000_000, "threads": {"1": {**time, "p50_ms": 2.5}}},
    }
    shown = graphs.to_text({"model": "m", "seconds": 1, "rows": rows, "failed": {}}).splitlines()
    assert shown[-1] == "| fast | 1.00 | 2.5 / 12 | 4.00 x | 80 | 5 | - | - |"
    assert "| 1.00 x | 80 | 5 | 99.9 % | 1.0e-03 |" in shown[-2]
