"""Splits: a group on one side, every label on every side, the same each time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from edgeprune_calibration.dataset import Dataset
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.splits import split_clips
from edgeprune_device.errors import EdgepruneError

Row = tuple[str, str | None, str | None]
"""Label, speaker, split."""


def dataset(rows: Sequence[Row]) -> Dataset:
    clips = tuple(Clip(Path(f"/{i}.wav"), label, group, split)
                  for i, (label, group, split) in enumerate(rows))  # fmt: skip
    return Dataset(Path("/labels.csv"), clips, "label", "speaker" if rows[0][1] else "")


def birds(speakers: int = 20, seed: int = 0) -> Dataset:
    """Speakers with very different numbers of clips of three labels."""
    generator = np.random.default_rng(seed)
    return dataset([
        (label, f"s{s}", None) for s in range(speakers) for label in ("a", "b", "c")
        for _ in range(int(generator.integers(1, 12)))
    ])  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_groups_stay_on_one_side_and_every_label_stands_on_every_side(seed: int) -> None:
    parts = split_clips(birds(seed=seed), seed)
    sides = [{clip.group for clip in part} for part in parts.values()]
    assert sum(map(len, sides)) == len(set.union(*sides))
    assert all({clip.label for clip in part} == {"a", "b", "c"} for part in parts.values())


def test_the_shares_are_near_what_was_asked_for() -> None:
    data = birds(40)
    for fractions in ((0.7, 0.15, 0.15), (0.5, 0.25, 0.25)):
        parts = split_clips(data, 0, fractions)
        for part, share in zip(parts.values(), fractions, strict=True):
            assert len(part) / len(data.clips) == pytest.approx(share, abs=0.03)


def test_without_groups_every_label_has_its_share() -> None:
    data = dataset([(label, None, None) for label in "ab" for _ in range(100)])
    parts = split_clips(data, 3)
    for name, share in (("train", 70), ("valid", 15), ("test", 15)):
        assert Counter(c.label for c in parts[name]) == {"a": share, "b": share}


def test_the_same_seed_gives_the_same_split_and_another_seed_another() -> None:
    data = birds()
    assert split_clips(data, 1) == split_clips(data, 1)
    assert split_clips(data, 1) != split_clips(data, 2)


def test_every_clip_is_in_exactly_one_part() -> None:
    data = birds()
    parts = split_clips(data, 0)
    assert Counter(c for part in parts.values() for c in (x.path for x in part)) == dict.fromkeys(
        (clip.path for clip in data.clips), 1
    )


def test_a_given_split_is_left_as_it_is_and_a_missing_part_is_taken_from_train() -> None:
    rows: list[Row] = [("ab"[i % 2], f"s{i // 4}", "test" if i < 8 else "train") for i in range(80)]
    parts = split_clips(dataset(rows))
    assert [c.path.stem for c in parts["test"]] == [str(i) for i in range(8)]
    assert parts["valid"]
    assert not {c.group for c in parts["valid"]} & {c.group for c in parts["train"]}


def test_of_folds_the_last_tests_and_the_one_before_validates() -> None:
    rows: list[Row] = [
        ("ab"[i % 2], None, f"fold{i % 12 // 2 + 8}") for i in range(48)
    ]  # folds 8 to 13
    parts = split_clips(dataset(rows))
    assert {c.split for c in parts["test"]} == {"fold13"}
    assert {c.split for c in parts["valid"]} == {"fold12"}
    parts = split_clips(dataset(rows), test_fold="fold8")
    assert {c.split for c in parts["test"]} == {"fold8"}
    assert {c.split for c in parts["valid"]} == {"fold13"}
    with pytest.raises(EdgepruneError, match="has no fold 'fold99'"):
        split_clips(dataset(rows), test_fold="fold99")


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_three_sources_of_a_label_are_enough_for_three_parts(grouped: bool, seed: int) -> None:
    """Equal or not, beside plentiful labels: one each for train, valid and test."""
    sizes = {"a": (5, 5, 5), "b": (9, 2, 1), "c": (1,) * 40}
    rows: list[Row] = [
        (label, f"{label}{source}" if grouped else None, None)
        for label, of_label in sizes.items() for source, size in enumerate(of_label)
        for _ in range(size if grouped else 1)
    ]  # fmt: skip
    for part in split_clips(dataset(rows), seed).values():
        assert {clip.label for clip in part} == {"a", "b", "c"}


def test_a_label_of_one_group_cannot_stand_on_three_sides() -> None:
    rows: list[Row] = [("a", f"s{i % 9}", None) for i in range(27)]
    rows += [("owl", "s0", None)] * 5
    with pytest.raises(EdgepruneError, match="The label 'owl' cannot be in train, valid and test"):
        split_clips(dataset(rows))


def test_a_label_that_is_never_trained_is_named() -> None:
    rows: list[Row] = [
        ("ab"[i % 2], None, ("train", "valid", "test")[i // 2 % 3]) for i in range(24)
    ]
    rows += [("owl", None, "test"), ("owl", None, "valid")]
    with pytest.raises(
        EdgepruneError, match=r"The label 'owl' of .* has no clips in the train split"
    ):
        split_clips(dataset(rows))
