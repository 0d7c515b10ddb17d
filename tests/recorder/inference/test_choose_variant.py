"""Bundles of two model files: what is read, what is refused, which file the board takes."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from bundle_edits import contents, edit, pair, replace_file, zipped
from numpy.typing import NDArray
from tiny_bundle import make_bundle
from tiny_recordings import RATE, TONES, tone

from edgeprune.deployment.verify import verify
from edgeprune_calibration.calibrate import Target, calibrate
from edgeprune_device.bench.runner import bench
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.bundle.writer import with_alternative
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference import choose_variant as module
from edgeprune_device.inference.choose_variant import WARM_WINDOWS, choose_variant
from edgeprune_device.inference.runtime import open_model
from edgeprune_device.recorder.listen import listen

FIRST, OTHER = "model.onnx", "other.onnx"


@pytest.fixture(scope="module")
def both(tiny_bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a bundle whose alternative is the same graph under another name."""
    tiny = read_bundle(tiny_bundle)
    model = {**tiny.manifest["model"], "file": OTHER, "quantization": "dynamic"}
    other = replace(tiny, manifest={**tiny.manifest, "model": model})
    return pair(tmp_path_factory.mktemp("two") / "both", tiny_bundle, other)


@pytest.fixture
def folder(both: Path, tmp_path: Path) -> Path:
    shutil.copytree(both, tmp_path / "bundle")
    return tmp_path / "bundle"


class Clock:
    """Time that passes when a file runs: so many seconds a window of each."""

    def __init__(self, patch: pytest.MonkeyPatch, **seconds: float) -> None:
        self.now, self.order = 0.0, list[str]()
        self.seconds = {FIRST: seconds["first"], OTHER: seconds["other"]}
        patch.setattr(module, "open_model", self.open)

    def open(self, bundle: Bundle, threads: int) -> Callable[[Any], NDArray[np.float32]]:
        run = open_model(bundle, threads)

        def timed(samples: NDArray[np.float32]) -> NDArray[np.float32]:
            self.now += self.seconds[bundle.file]
            self.order.append(bundle.file)
            return run(samples)

        return timed

    def __call__(self) -> float:
        return self.now


def test_both_models_are_read_each_with_its_own_golden_outputs(formats: Path) -> None:
    bundle = read_bundle(formats)
    first, other = bundle.variants
    assert (first.file, first.format, first.alternative) == ("model.onnx", "onnx", None)
    assert (other.file, other.format, other.alternative) == ("model.tflite", "tflite", None)
    assert first.digest == other.digest == bundle.digest
    assert other.manifest["requirements"]["runtime"].startswith("ai-edge-litert")
    assert other.manifest["runtime"]["name"] == "ai-edge-litert"
    assert first.manifest["decision"] == other.manifest["decision"]
    for mine, theirs in zip(first.golden, other.golden, strict=True):
        np.testing.assert_array_equal(mine.samples, theirs.samples)
        np.testing.assert_allclose(mine.scores, theirs.scores, atol=1e-4)
    inputs = [path.name for path in (formats / "golden").iterdir() if "input" in path.name]
    assert len(inputs) == len(first.golden)  # stored once


def test_a_zip_of_two_models_is_the_same_bundle(both: Path, tmp_path: Path) -> None:
    one, other = (read_bundle(path) for path in (both, zipped(both, tmp_path / "b.zip")))
    assert [v.model_bytes for v in one.variants] == [v.model_bytes for v in other.variants]


def of_other(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def changed(manifest: dict[str, Any]) -> None:
        change(manifest["alternative"])

    return lambda folder: edit(folder, changed)


SPOILED: list[tuple[str, Callable[[Path], object], str]] = [
    ("a changed file", lambda f: (f / OTHER).write_bytes(b"x"), "SHA-256 differs"),
    ("one file twice", of_other(lambda m: m.update(file=FIRST)), "its two models are the same file"),
    ("a file that is not listed", of_other(lambda m: m.update(file="z.onnx")), "used but not listed"),
    ("another format", of_other(lambda m: m.update(format="pickle")), "format 'pickle'"),
    ("another window", of_other(lambda m: m["input"].update(shape=[1, 1601])), "inputs of its two models"),
    ("another type", of_other(lambda m: m["input"].update(dtype="int8")), "its input is int8"),
    ("fewer scores", of_other(lambda m: m["output"].update(shape=[1, 2])), "3 labels and scores"),
    ("no golden outputs", lambda f: edit(f, lambda m: m.update(alternative_golden=[])),
     "no reference inputs"),
    ("none at all", lambda f: edit(f, lambda m: m.pop("alternative_golden")),
     "is missing or has the wrong type"),
    ("no alternative", lambda f: edit(f, lambda m: m.pop("alternative")), "but no alternative"),
    ("a tolerance of everything",
     lambda f: edit(f, lambda m: m["alternative_golden"][0].update(tolerance=2)), "golden tolerance"),
    ("requirements in words", of_other(lambda m: m.update(requirements="new")), "are not a table"),
    ("a golden file of nothing",
     lambda f: replace_file(f, "golden/0.alternative.output.npy", b""), "is not an array"),
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "words"), [s[1:] for s in SPOILED], ids=[s[0] for s in SPOILED])
def test_the_alternative_is_held_to_the_rules_of_the_first(
    spoil: Callable[[Path], object], words: str, folder: Path
) -> None:
    spoil(folder)
    with pytest.raises(EdgepruneError, match=words):
        read_bundle(folder)


def test_two_models_of_one_name_are_not_written(tiny_bundle: Path) -> None:
    with pytest.raises(EdgepruneError, match=r"have the file name model\.onnx"):
        with_alternative(*contents(tiny_bundle), read_bundle(tiny_bundle))


@pytest.mark.parametrize(
    ("first", "other", "taken"),
    [(0.010, 0.004, OTHER), (0.004, 0.010, FIRST), (0.010, 0.0097, FIRST)],
    ids=["the alternative is faster", "the first is faster", "a tie keeps the first"],
)
def test_the_board_takes_the_faster_file(
    first: float, other: float, taken: str, both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, first=first, other=other)
    picked = choose_variant(read_bundle(both), clock=clock)
    assert picked.bundle.file == taken
    assert picked.bundle.alternative is None  # the other's bytes are let go
    assert picked.facts is not None
    assert picked.facts["milliseconds"] == pytest.approx({FIRST: 1000 * first, OTHER: 1000 * other})
    assert (
        f"{1000 * (other if taken == OTHER else first):.3g} ms per window on this machine"
        in picked.sentence
    )
    timed = clock.order[
        2 * (3 + WARM_WINDOWS) :
    ]  # after three golden inputs and the warm-up of each
    assert timed[:4] == [FIRST, OTHER, OTHER, FIRST]
    assert clock.now == pytest.approx(1.0 + (3 + WARM_WINDOWS) * (first + other), abs=0.02)
    assert timed.count(FIRST) == timed.count(OTHER) > 50


@pytest.mark.parametrize(("seconds", "windows"), [(0.2, 15), (0.5, 12), (3.0, 5)])
def test_a_slow_board_times_fewer_windows(
    seconds: float, windows: int, both: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch, first=seconds, other=seconds / 1.25)
    assert choose_variant(read_bundle(both), clock=clock).bundle.file == OTHER
    assert len(clock.order) == 2 * (3 + WARM_WINDOWS + windows)


def test_a_choice_stands_until_what_it_was_made_on_changes(
    both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, bundle = tmp_path / "variant.json", read_bundle(both)
    clock = Clock(monkeypatch, first=0.010, other=0.004)
    choose_variant(bundle, 1, store, clock).remember(store)
    clock = Clock(monkeypatch, first=0.004, other=0.010)
    again = choose_variant(bundle, 1, store, clock)
    assert again.bundle.file == OTHER
    assert clock.order == [OTHER] * 3  # golden inputs alone: the first is not even opened
    assert "4 ms per window on this machine" in again.sentence
    for change in ("threads", "digest", "runtime", "machine"):
        with monkeypatch.context() as patch:
            if change == "runtime":
                patch.setattr(module, "runtime_name", lambda _: "onnxruntime 99")
            if change == "machine":
                facts = {"model": "another board", "architecture": "arm"}
                patch.setattr(module, "machine_facts", lambda f=facts: f)
            asked = replace(bundle, digest="0" * 64) if change == "digest" else bundle
            asked = replace(asked, alternative=replace(bundle.variants[1], digest=asked.digest))
            threads = 2 if change == "threads" else 1
            assert choose_variant(asked, threads, store, clock).bundle.file == FIRST, change


@pytest.mark.parametrize("torn", ["", "[]", '{"schema": 1}', '{"schema": 1, "key": 3, "file": 5}'])
def test_a_torn_note_is_measured_again(
    torn: str, both: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "variant.json").write_text(torn, "utf-8")
    clock = Clock(monkeypatch, first=0.010, other=0.004)
    assert (
        choose_variant(read_bundle(both), 1, tmp_path / "variant.json", clock).bundle.file == OTHER
    )


def wrong(bundle: Bundle) -> Bundle:
    golden = tuple(replace(g, scores=g.scores + np.float32(0.5)) for g in bundle.golden)
    return replace(bundle, golden=golden)


def test_a_file_with_other_scores_here_is_left_out_and_said(both: Path) -> None:
    bundle = read_bundle(both)
    assert bundle.alternative is not None
    right = replace(bundle, alternative=wrong(bundle.alternative))
    picked = choose_variant(right)
    assert picked.bundle.file == FIRST
    assert "the only one that runs on this machine" in picked.sentence
    assert (
        "other.onnx is not used: The bundle tiny has other scores on this machine"
        in picked.sentence
    )
    with pytest.raises(
        EdgepruneError, match="has other scores on this machine than where"
    ) as error:
        choose_variant(replace(wrong(bundle), alternative=wrong(bundle.alternative)))
    assert error.value.status == 1


def test_a_missing_runtime_leaves_the_other_and_two_leave_none(
    formats: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = read_bundle(formats)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    picked = choose_variant(bundle)
    assert picked.bundle.format == "tflite"
    assert "needs onnxruntime, which is not installed" in picked.sentence
    for name in ("ai_edge_litert.interpreter", "tflite_runtime.interpreter"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(
        EdgepruneError, match="Neither model of bundle tones runs on this machine"
    ) as error:
        choose_variant(bundle)
    assert error.value.status == 3


def test_wrong_use_is_said_once(both: Path) -> None:
    with pytest.raises(
        EdgepruneError, match=r"(?m)^threads = 0 is out of range \(allowed: 1 or more\)\.$"
    ):
        choose_variant(read_bundle(both), 0)


def test_a_bundle_of_one_file_has_nothing_to_choose(tiny_bundle: Path, tmp_path: Path) -> None:
    picked = choose_variant(read_bundle(tiny_bundle), 1, tmp_path / "v.json")
    assert (picked.sentence, picked.facts) == ("", None)
    picked.remember(tmp_path / "v.json")
    assert not (tmp_path / "v.json").exists()


def test_listen_says_what_it_took_and_keeps_to_it(formats: Path, tmp_path: Path) -> None:
    sound = np.concatenate([tone(pitch, 0.5, 1) for pitch in TONES.values()])
    soundfile.write(tmp_path / "s.wav", sound, RATE)
    said: list[str] = []
    stats = [
        listen(formats, tmp_path / "j", source="wav", from_wav=tmp_path / "s.wav", say=said.append)
        for _ in range(2)
    ]
    kept = json.loads((tmp_path / "j" / "variant.json").read_text("utf-8"))
    assert stats[0]["variant"] == stats[1]["variant"] == kept
    assert kept["format"] in ("onnx", "tflite")
    lines = [line for line in said if line.startswith("model: ")]
    assert len(lines) == 2
    assert lines[0] == lines[1]
    assert kept["file"] in lines[0]


def test_bench_measures_both_files_of_a_bundle(formats: Path, tmp_path: Path) -> None:
    done = bench([formats], tmp_path, threads=(1,), seconds=0.05, rounds=3, say=lambda _: None)
    shown = [(v["name"], v["format"], v["file"]) for v in done["variants"]]
    assert shown == [("tones, model.onnx", "onnx", "model.onnx"),
                     ("tones, model.tflite", "tflite", "model.tflite")]  # fmt: skip
    assert all(v["golden_difference"] < 1e-3 for v in done["variants"])


def test_verify_measures_both_files_and_the_worse_one_must_hold(
    recordings: Path, tmp_path: Path
) -> None:
    good = make_bundle(tmp_path / "good")
    deaf = read_bundle(make_bundle(tmp_path / "deaf", ("high", "low", "middle")))  # others' pitches
    model = {**deaf.manifest["model"], "file": OTHER}
    both = pair(tmp_path / "both", good, replace(deaf, manifest={**deaf.manifest, "model": model}))
    done = verify(both, recordings, good, split="all", track=lambda x, *_: x)
    assert done["bundle"]["score"] == 1.0
    assert done[f"bundle, {OTHER}"]["score"] == 0.0
    assert not done["held"]
    assert (
        "The bundle's other.onnx is 100.00 percentage points below its teacher" in done["verdict"]
    )
    assert f"bundle, {OTHER}" in done["text"]


def test_calibration_keeps_both_files(both: Path, tmp_path: Path) -> None:
    from tiny_recordings import make_stream

    sound, truth = make_stream(tmp_path, 0)
    calibrate(both, [sound], [truth], tmp_path / "new", Target(600.0))
    old, new = read_bundle(both), read_bundle(tmp_path / "new")
    assert [v.model_bytes for v in new.variants] == [v.model_bytes for v in old.variants]
    assert new.variants[1].manifest["decision"] == new.manifest["decision"]
    assert new.manifest["decision"] != old.manifest["decision"]
