"""Verify: the file's own accuracy, counted by hand, against its teacher or what the bundle records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_bundle import make_bundle
from tiny_recordings import TONES, make_recordings

from edgeprune.core.console import Silent
from edgeprune.deployment.evaluate import Answers, compare, measure
from edgeprune.deployment.verify import clips_digest, verify
from edgeprune.metrics.statistics import bootstrap_interval
from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.splits import split_clips
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import write_bundle
from edgeprune_device.errors import EdgepruneError

CLIPS = [Clip(Path(__file__), label, f"s{i % 3}") for i, label in enumerate("aabbbb")]
track = Silent().track


def answers(said: str) -> Answers:
    scores = np.array([[0.9, 0.1] if letter == "a" else [0.2, 0.8] for letter in said], np.float32)
    return Answers(scores, ("a", "b"), 0.0)


def test_accuracy_recall_precision_and_f1_are_those_counted_by_hand() -> None:
    found = measure(answers("abbbba"), CLIPS)  # right: 1st, 3rd, 4th, 5th
    assert (found["correct"], found["clips"]) == (4, 6)
    assert found["per_label"]["a"] == {"recall": 0.5, "precision": 0.5}
    assert found["per_label"]["b"] == {"recall": 0.75, "precision": 0.75}
    assert found["metrics"]["macro F1"]["value"] == pytest.approx(0.625)
    low, high = found["interval"]
    assert (low, high) == pytest.approx((0.2999, 0.9032), abs=5e-4)  # Wilson for 4 of 6


def test_accuracys_interval_is_drawn_over_groups_where_clips_have_them() -> None:
    """Clips of a group are all right or all wrong: Wilson would take each for a draw of its own."""
    clips = [Clip(Path(__file__), "a", f"s{i // 10}") for i in range(40)]
    found = measure(answers("a" * 20 + "b" * 20), clips)
    assert found["interval_over"] == "groups"
    right = np.array([1.0] * 20 + [0.0] * 20)
    expected = bootstrap_interval(right, [str(clip.group) for clip in clips])
    assert found["interval"] == pytest.approx(list(expected))
    assert found["metrics"]["accuracy"]["interval"] == found["interval"]
    low, high = found["interval"]
    assert (low, high) == (0.0, 1.0)  # of four groups, two right


def test_agreement_of_tags_is_what_each_bundle_would_report() -> None:
    clips = [Clip(Path(__file__), "a"), Clip(Path(__file__), "b")]
    scores = np.array([[0.4, 0.1], [0.2, 0.6]], np.float32)
    own, teacher = (
        Answers(scores, ("a", "b"), 0.0, "sigmoid", {"a": least, "b": 0.5}) for least in (0.3, 0.7)
    )
    assert compare(own, own, clips)["agreement"] == 1.0
    assert compare(own, teacher, clips)["agreement"] == 0.75  # the first clip's a alone differs


def test_agreement_and_the_paired_difference() -> None:
    found = compare(answers("abbbba"), answers("aabbba"), CLIPS)
    assert found["agreement"] == pytest.approx(5 / 6)
    assert found["difference"] == pytest.approx(-1 / 6)
    low, high = found["difference_interval"]
    assert low <= -1 / 6 <= high <= 0


def test_a_bundle_is_verified_against_its_teacher(
    tiny_bundle: Path, recordings: Path, tmp_path: Path
) -> None:
    done = verify(tiny_bundle, recordings, tiny_bundle, split="all", out=tmp_path, track=track)
    assert done["bundle"]["clips"] == len(read_data(recordings).clips)
    assert done["bundle"]["score"] == 1.0  # the tiny bundle measures the power at each pitch
    assert done["bundle"]["agreement"] == 1.0
    assert done["held"]
    written = json.loads((tmp_path / "verify.json").read_text("utf-8"))
    assert written["bundle"] == done["bundle"]
    assert "100.00 %" in done["text"]


def test_a_bundle_that_hears_nothing_does_not_hold(recordings: Path, tmp_path: Path) -> None:
    good = make_bundle(tmp_path / "good")
    deaf = make_bundle(
        tmp_path / "deaf", ("high", "low", "middle")
    )  # its pitches are other labels'
    read = read_bundle(deaf)
    manifest = {k: v for k, v in read.manifest.items() if k != "files"} | {"labels": list(TONES)}
    files = {name: (deaf / name).read_bytes() for name in read.manifest["files"]}
    write_bundle(deaf, manifest, files)
    done = verify(deaf, recordings, good, split="all", track=track)
    assert not done["held"]
    assert "100.00 points under its teacher" in done["verdict"]


def recorded(
    folder: Path, clips: list[Clip], accuracy: float, made: dict[str, Any] | None = None
) -> Path:
    """Write a bundle that says how its teacher did on these clips."""
    read = read_bundle(make_bundle(folder))
    metrics: dict[str, Any] = {"accuracy": accuracy, "clips_digest": clips_digest(clips)}
    manifest = {k: v for k, v in read.manifest.items() if k != "files"}
    manifest["provenance"] = {"label_column": "label", "metrics": {"teacher": metrics}} | (
        made or {}
    )
    files = {name: (folder / name).read_bytes() for name in read.manifest["files"]}
    write_bundle(folder, manifest, files)
    return folder


def test_without_a_teacher_the_recorded_accuracy_counts_for_the_same_clips_alone(
    recordings: Path, tmp_path: Path
) -> None:
    bundle = recorded(tmp_path / "b", list(read_data(recordings).clips), 0.75)
    done = verify(bundle, recordings, split="all", track=track)
    assert done["baseline"] == 0.75
    assert "25.00 points over its teacher" in done["verdict"]
    other = make_recordings(tmp_path / "other", speakers=4, each=2)
    with pytest.raises(EdgepruneError, match="does not record its teacher's score on these clips"):
        verify(bundle, other, split="all", track=track)


@pytest.mark.parametrize("apart", ["speaker", "take", ""])
def test_the_split_is_the_one_the_bundle_was_made_with(
    apart: str, recordings: Path, tmp_path: Path
) -> None:
    """Without a split column, what is kept apart decides which clips are test clips."""
    rows = recordings.read_text("utf-8").splitlines()
    data = recordings.with_name(f"takes-{apart}.csv")
    takes = [f"{row},t{index % 6}" for index, row in enumerate(rows[1:])]
    data.write_text("\n".join([rows[0] + ",take", *takes]) + "\n", "utf-8")
    made = split_clips(read_data(data, group=apart or "none"))["test"]
    bundle = recorded(tmp_path / "b", list(made), 0.5, {"group_column": apart})
    assert verify(bundle, data, track=track)["baseline"] == 0.5


def test_other_data_need_not_name_what_the_bundle_kept_apart(
    recordings: Path, tmp_path: Path
) -> None:
    rows = [row.split(",") for row in recordings.read_text("utf-8").splitlines()]
    data = recordings.with_name("nobody.csv")
    data.write_text("".join(f"{path},{label},\n" for path, label, _ in rows).replace(
        "path,label,", "path,label,speaker"), "utf-8")  # fmt: skip
    clips = list(read_data(data).clips)
    bundle = recorded(tmp_path / "b", clips, 0.5, {"group_column": "speaker"})
    assert verify(bundle, data, split="all", track=track)["baseline"] == 0.5


def test_parts_of_one_recording_are_told_apart_whether_or_not_they_name_their_start() -> None:
    whole, part = Clip(Path(__file__), "a"), Clip(Path(__file__), "a", start_seconds=1.0)
    assert clips_digest([whole, part]) == clips_digest([part, whole])
    assert clips_digest([whole, part]) != clips_digest([whole, whole])


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"split": "tset"}, "There is no split 'tset'"),
        ({"label": "speaker"}, "does not know the label"),
    ],
)
def test_wrong_usage_is_one_sentence(
    options: dict[str, str], sentence: str, tiny_bundle: Path, recordings: Path
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        verify(tiny_bundle, recordings, tiny_bundle, track=track, **options)  # type: ignore[arg-type]
