"""Verify: the file's own accuracy, counted by hand, against its teacher or what the bundle records."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import make_bundle
from tiny_recordings import TONES, make_recordings

from edgeprune.core.console import Silent
from edgeprune.deployment.verify import clips_digest, verify
from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.splits import split_clips
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import write_bundle
from edgeprune_device.errors import EdgepruneError

track = Silent().track


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
    assert "100.00 percentage points below its teacher" in done["verdict"]


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
    assert "25.00 percentage points above its teacher" in done["verdict"]
    other = make_recordings(tmp_path / "other", speakers=4, each=2)
    with pytest.raises(EdgepruneError, match="does not record its teacher's score on these clips"):
        verify(bundle, other, split="all", track=track)


@pytest.mark.parametrize(("recipes", "asked", "held"), [
    (0.05, None, True), (0.005, None, False), (None, None, False), (0.005, 0.05, True),
])  # fmt: skip
def test_the_drop_allowed_is_that_of_the_bundles_recipe_unless_another_is_given(
    recipes: float | None, asked: float | None, held: bool, recordings: Path, tmp_path: Path
) -> None:
    clips = list(read_data(recordings).clips)
    made = {} if recipes is None else {"settings": {"max_drop": recipes}}
    bundle = recorded(tmp_path / "b", clips, 1.02, made)  # the bundle itself is right on all clips
    done = verify(bundle, recordings, split="all", max_drop=asked, track=track)
    assert done["held"] is held
    assert done["max_drop"] == (asked or recipes or 0.01)


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
        ({"split": "tset"}, "split = 'tset' is not known"),
        ({"label": "speaker"}, "does not know the label"),
    ],
)
def test_wrong_usage_is_one_sentence(
    options: dict[str, str], sentence: str, tiny_bundle: Path, recordings: Path
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        verify(tiny_bundle, recordings, tiny_bundle, track=track, **options)  # type: ignore[arg-type]
