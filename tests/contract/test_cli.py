"""The command line: every bad input is one sentence, a hint, status 2, and nothing half-written."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from command_line import call
from tiny_models import make_model
from tiny_recordings import RATE, make_recordings

from edgeprune.data.chunking import write_windows


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", *map(str, arguments)],
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip


def relabel(manifest: Path, change: Callable[[list[list[str]]], None]) -> Path:
    rows = [line.split(",") for line in manifest.read_text("utf-8").splitlines()]
    change(rows)
    manifest.write_text("\n".join(",".join(row) for row in rows) + "\n", "utf-8")
    return manifest


def no_data(_: Path, data: Path) -> Path:
    return data.with_name("nothing.csv")


def no_label(_: Path, data: Path) -> Path:
    return relabel(data, lambda rows: rows[0].__setitem__(1, "species"))


def single_clip(_: Path, data: Path) -> Path:
    return relabel(data, lambda rows: rows[1].__setitem__(1, "once"))


def empty_clips(_: Path, data: Path) -> Path:
    for path in sorted(data.parent.glob("audio/*.wav"))[:5]:
        soundfile.write(path, np.zeros(0, np.float32), RATE)
    return data


def unreadable_clips(_: Path, data: Path) -> Path:
    for path in sorted(data.parent.glob("audio/*.wav"))[:5]:
        path.write_text("this is no sound")
    return data


def odd_rate(_: Path, data: Path) -> Path:
    for path in sorted(data.parent.glob("audio/*.wav"))[:5]:
        soundfile.write(path, np.zeros(100, np.float32), 200)
    return data


def crossing_group(_: Path, data: Path) -> Path:
    def change(rows: list[list[str]]) -> None:
        rows[0].append("split")
        for index, row in enumerate(rows[1:]):
            row.append(("train", "valid", "test")[index % 3])

    return relabel(data, change)


def unknown_family(model: Path, data: Path) -> Path:
    (model / "config.json").write_text(json.dumps({"model_type": "bert"}))
    return data


def pickle_only(model: Path, data: Path) -> Path:
    (model / "model.safetensors").rename(model / "pytorch_model.bin")
    return data


def cut_weights(model: Path, data: Path) -> Path:
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    return data


def no_model(model: Path, data: Path) -> Path:
    shutil.rmtree(model)
    return data


BAD_INPUT: list[tuple[Callable[[Path, Path], Path], str, tuple[str, ...]]] = [
    (no_data, "There is no data at", ()),
    (no_label, "has no column 'label'", ()),
    (single_clip, "The label 'once'", ()),
    (empty_clips, "5 of 54 clips", ()),
    (unreadable_clips, "5 of 54 clips", ()),
    (odd_rate, "high_s0_0.wav, 200 Hz, is out of range", ()),
    (crossing_group, "is in two splits", ("--group", "speaker")),
    (unknown_family, "Model type 'bert' is not supported", ()),
    (pickle_only, "a pickle that could run code", ()),
    (cut_weights, "is damaged or not a safetensors file", ()),
    (no_model, "There is no model folder", ()),
]


@pytest.mark.parametrize(
    ("spoil", "sentence", "options"), BAD_INPUT, ids=[b[0].__name__ for b in BAD_INPUT]
)
def test_bad_input_is_one_sentence_and_leaves_nothing_behind(
    spoil: Callable[[Path, Path], Path], sentence: str, options: tuple[str, ...],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    model = make_model(tmp_path / "model", "wav2vec2")
    data = spoil(model, make_recordings(tmp_path / "data", each=3))
    out = tmp_path / "run"
    capsys.readouterr()
    assert call(monkeypatch, "compress", model, data, "-o", out, *options) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith("error: ")
    assert sentence in lines[0]
    assert len(lines) == (2 if lines[-1].startswith("hint: ") else 1)
    assert not out.exists()
    assert not list(tmp_path.rglob("*.partial"))


def test_an_output_folder_with_other_things_in_it_is_left_alone(
    tmp_path: Path, backbone: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "thesis.txt").write_text("precious")
    assert call(monkeypatch, "compress", backbone, recordings, "-o", tmp_path) == 2
    assert "is not empty and holds no edgeprune run" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_full_disk_is_one_sentence(
    backbone: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """The file system's own refusal: arrays are written to /dev/full."""

    def full(_path: Path, window: int, cut: Any) -> Any:
        return write_windows(Path("/dev/full"), window, cut)

    monkeypatch.setattr("edgeprune.pipeline.clips.write_windows", full)
    assert call(monkeypatch, "compress", backbone, recordings, "-o", tmp_path / "run") == 2
    assert "error: The disk is full" in capsys.readouterr().err
    assert not (tmp_path / "run" / "clips").exists()


def test_what_cannot_be_written_outside_a_stage_is_one_sentence_too(
    tiny_bundle: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    (tmp_path / "out").write_text("a file where a folder should be")
    status = call(monkeypatch, "verify", tiny_bundle, recordings, "--teacher", tiny_bundle,
                  "--split", "all", "-o", tmp_path / "out")  # fmt: skip
    assert status == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines == [f"error: {tmp_path / 'out'}: File exists."]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (("--layers", "1,x"), "is not a list of whole numbers"),
        (("--keep", "2", "--layers", "0"), "Both --keep and --layers"),
        (("--accelerator", "abacus"), "accelerator = 'abacus' is not known"),
        (("--redo", "everything"), "--redo 'everything' is not a stage"),
        (("--recipe", "nowhere.toml"), "There is no recipe 'nowhere.toml'"),
    ],
)
def test_options_that_make_no_sense_are_refused_before_any_work(
    options: tuple[str, ...], sentence: str, backbone: Path, recordings: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    status = call(monkeypatch, "compress", backbone, recordings, "-o", tmp_path / "run", *options)
    assert status == 2
    assert sentence in capsys.readouterr().err
    assert not (tmp_path / "run" / "clips").exists()
