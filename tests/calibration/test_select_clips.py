"""Calibration sets: what is picked, what is covered, and what is refused in a sentence."""

from __future__ import annotations

import csv
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tiny_recordings import RATE, TONES, tone

from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.select_clips import RULES, coverage, pick, select
from edgeprune_calibration.sound_features import (
    standardised,
)
from edgeprune_device.errors import EdgepruneError


def clouds(seed: int, each: int = 40) -> tuple[NDArray[np.float64], list[tuple[str, ...]]]:
    """Make 18 features of two classes, each in three clouds of unequal size."""
    generator = np.random.default_rng(seed)
    rows: list[NDArray[np.float64]] = []
    kinds: list[tuple[str, ...]] = []
    for label in "ab":
        for size in (each, each // 4, 2):
            rows.append(generator.normal(size=18) * 5 + generator.normal(size=(size, 18)))
            kinds += [(label,)] * size
    return np.concatenate(rows), kinds


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("seed", range(3))
def test_the_pick_covers_better_than_chance_and_is_always_the_same(rule: str, seed: int) -> None:
    table, kinds = clouds(seed)
    even = standardised(table)
    chosen = pick(even, kinds, 8, rule)
    assert chosen == pick(even, kinds, 8, rule)
    assert len(set(chosen)) == 8
    assert Counter(kinds[i][0] for i in chosen) == {"a": 4, "b": 4}
    covered = coverage(table, kinds, chosen)
    apart = np.linalg.norm(even[:, None] - even[None], axis=2)
    nearest = apart[:, chosen].min(axis=1)
    if rule == "facility":
        assert covered["distance"] < covered["random_distance"]
    else:
        draws = [np.random.default_rng(i).permutation(len(even))[:8] for i in range(20)]
        assert nearest.max() < np.mean([apart[:, d].min(axis=1).max() for d in draws])
    assert covered["distance"] == pytest.approx(nearest.mean())


def test_the_first_pick_by_facility_is_the_best_of_its_class() -> None:
    table, kinds = clouds(0)
    even = standardised(table)
    own = [i for i, kind in enumerate(kinds) if kind == ("a",)]
    reach = np.linalg.norm(even, axis=1) + 10
    gain = [np.maximum(0, reach - np.linalg.norm(even - even[i], axis=1)).sum() for i in own]
    assert pick(even, kinds, 1) == [own[int(np.argmax(gain))]]


def test_tags_count_for_each_of_theirs_and_a_class_that_is_used_up_is_passed_over() -> None:
    table = np.random.default_rng(0).normal(size=(10, 18))
    kinds = [("a", "b")] * 2 + [("a",)] * 8
    chosen = pick(table, kinds, 6)
    assert {0, 1} <= set(chosen)
    assert len(pick(table, kinds, 99)) == 10


def test_select_writes_a_manifest_that_reads_with_the_fields_noise_mixed_in(
    recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "field").mkdir()
    noise = np.random.default_rng(0).normal(size=4 * RATE) * np.linspace(0.001, 0.3, 4 * RATE)
    soundfile.write(tmp_path / "field" / "night.wav", noise.clip(-1, 1), RATE)
    done = select(recordings, 20, tmp_path / "set", noise=tmp_path / "field", noise_share=0.25)
    again = select(recordings, 20, tmp_path / "again", noise=tmp_path / "field", noise_share=0.25)
    text = (tmp_path / "set" / "manifest.csv").read_text("utf-8")
    assert text == (tmp_path / "again" / "manifest.csv").read_text("utf-8")
    assert done["clips"] == again["clips"]
    data = read_data(tmp_path / "set" / "manifest.csv")
    assert Counter(clip.label for clip in data.clips) == dict.fromkeys(TONES, 5) | {"noise": 5}
    assert all(clip.path.is_file() for clip in data.clips)
    assert done["clips"]["kinds"] == dict.fromkeys(TONES, 5)
    assert "15 of 108" in done["text"]


def write_set(folder: Path, sounds: dict[str, NDArray[np.floating]], rate: int = RATE) -> Path:
    folder.mkdir()
    rows = [("path", "label")]
    for name, sound in sounds.items():
        soundfile.write(folder / f"{name}.wav", sound, rate, subtype="FLOAT")
        rows.append((f"{name}.wav", name[0]))
    with (folder / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return folder / "labels.csv"


def refusal(data: Path, out: Path, **options: object) -> str:
    with pytest.raises(EdgepruneError) as error:
        select(data, 2, out, **options)  # type: ignore[arg-type]
    assert error.value.status == 2
    assert not out.exists()
    return str(error.value)


def test_a_set_of_one_class_all_silence_nan_or_another_rate_is_refused(tmp_path: Path) -> None:
    names, sound = ("a1", "a2", "b1", "b2"), tone(500, 0.2, 0)
    out = tmp_path / "out"
    one = write_set(tmp_path / "one", {"a1": sound, "a2": sound})
    assert "single label 'a'" in refusal(one, out)
    silent = write_set(tmp_path / "silent", dict.fromkeys(names, np.zeros(3200)))
    assert "All 4 clips" in refusal(silent, out)
    half = write_set(tmp_path / "half", {n: sound * (n[0] == "a") for n in names})
    assert "All clips of 'b'" in refusal(half, out)
    bad = write_set(tmp_path / "nan", dict.fromkeys(names, sound) | {"b2": sound * np.nan})
    assert "b2.wav has samples that are not finite numbers" in refusal(bad, out)
    slow = write_set(tmp_path / "slow", dict.fromkeys(names, sound), 8000)
    assert "4 of 4 files do not have the requested 16000 Hz" in refusal(slow, out, rate=16000)
    good = write_set(tmp_path / "good", dict.fromkeys(names, sound))
    assert "has no clips in the split 'valid'" in refusal(good, out, split="valid")
    assert "is not possible" in refusal(good, out, rule="best")
    with pytest.raises(EdgepruneError, match="5 clips cannot be selected from 4"):
        select(good, 5, out)
