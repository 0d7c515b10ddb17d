"""The demonstration's recordings: from a seed, by individual, with a truth that fits the stream."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeprune.core.console import Silent
from edgeprune.data.synthetic_recordings import (
    BACKGROUND,
    SAMPLE_RATE,
    Parameters,
    clip,
    make_recordings,
    make_stream,
)
from edgeprune.data.synthetic_songs import SPECIES, Individual, song

SMALL = Parameters(seed=3, individuals=6, clips=2)
MIDDLE = Individual(pitch=1.0, tempo=1.0, timbre=(1.0, 0.0, 0.0, 0.0))


def rows_of(labels: Path) -> list[dict[str, str]]:
    with labels.open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("r") / "recordings", SMALL, Silent().track)


def test_the_same_seed_gives_the_same_files_and_another_seed_others(
    labels: Path, tmp_path: Path
) -> None:
    again = make_recordings(tmp_path / "again", SMALL, Silent().track)
    assert again.read_bytes() == labels.read_bytes()
    for row in rows_of(labels)[::17]:
        first, second = (soundfile.read(at.parent / row["path"])[0] for at in (labels, again))
        assert np.array_equal(first, second)
    other = Parameters(seed=4, individuals=6, clips=2)
    assert not np.array_equal(clip(SMALL, 0, 0, 0), clip(other, 0, 0, 0))


def test_no_individual_stands_in_two_splits_and_every_label_stands_in_all(labels: Path) -> None:
    sides: dict[str, set[str]] = {}
    kinds: dict[str, set[str]] = {}
    for row in rows_of(labels):
        sides.setdefault(row["individual"], set()).add(row["split"])
        kinds.setdefault(row["label"], set()).add(row["split"])
    assert all(len(side) == 1 for side in sides.values())
    assert all(kind == {"train", "valid", "test"} for kind in kinds.values())
    assert set(kinds) == {species.name for species in SPECIES} | {BACKGROUND}
    assert len(SPECIES) >= 8


def test_clips_are_finite_and_inside_full_scale() -> None:
    for kind in range(len(SPECIES) + 1):
        sound = clip(SMALL, kind, 1, 1)
        assert sound.shape == (SAMPLE_RATE,)
        assert np.isfinite(sound).all()
        assert 0 < np.abs(sound).max() < 1


@pytest.mark.parametrize("species", [s for s in SPECIES if s.buzz_hz == 0], ids=lambda s: s.name)
def test_a_song_lies_in_its_species_range(species: object) -> None:
    """Nine tenths of the fundamental's power, by FFT, within the row's limits (2 % more each way)."""
    assert species in SPECIES
    row = next(s for s in SPECIES if s == species)
    sung = song(row, MIDDLE, np.random.default_rng(0), SAMPLE_RATE)
    power = np.abs(np.fft.rfft(sung)) ** 2
    hertz = np.fft.rfftfreq(len(sung), 1 / SAMPLE_RATE)
    inside = (hertz > 0.94 * row.low_hz) & (hertz < 1.06 * row.high_hz)
    assert power[inside].sum() > 0.9 * power.sum()


def test_songs_of_a_stream_lie_in_it_and_do_not_overlap(tmp_path: Path) -> None:
    truth = make_stream(tmp_path / "s.flac", SMALL, minutes=1, songs=10)
    rows = rows_of(truth)
    times = [(float(row["start_seconds"]), float(row["end_seconds"])) for row in rows]
    assert len(times) == 10
    assert all(end > start for start, end in times)
    assert all(a[1] + 1.4 < b[0] for a, b in itertools.pairwise(times))
    sound, rate = soundfile.read(tmp_path / "s.flac")
    assert (rate, len(sound)) == (SAMPLE_RATE, 60 * SAMPLE_RATE)
    assert times[-1][1] < 60
    with pytest.raises(ValueError, match="do not fit"):
        make_stream(tmp_path / "t.flac", SMALL, minutes=1, songs=60)


def test_recordings_that_are_there_are_kept(labels: Path) -> None:
    before = labels.stat().st_mtime_ns
    assert make_recordings(labels.parent, SMALL, Silent().track) == labels
    assert labels.stat().st_mtime_ns == before
