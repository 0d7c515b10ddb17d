"""Health: what is no sound is found out, what is merely quiet is not, in any chunks."""

from __future__ import annotations

import csv
import itertools
from collections.abc import Callable

import numpy as np
import pytest
import soxr
from faults_table import Tally
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from repository import shared
from sounds import RATE, clipped, noise, repeated
from tries import tries

from edgeprune_device.audio.sound_files import read_clip
from edgeprune_device.monitoring.signal_faults import faults_of
from edgeprune_device.monitoring.signal_health import Flag, SignalHealth
from edgeprune_device.stream import Notice

NOTHING = np.empty(0, np.float32)
Samples = NDArray[np.float32]


def judge(sound: Samples, chunk: int = 4000, rate: int = RATE) -> tuple[list[Flag], list[Notice]]:
    health = SignalHealth(rate)
    flags = [flag for first in range(0, len(sound), chunk)
             for flag in health.push(first, sound[first : first + chunk])]  # fmt: skip
    return flags + health.flush(), health.notices()


def kinds(notices: list[Notice]) -> list[str]:
    return [notice.kind for notice in notices]


def full(value: float) -> Callable[[float], Samples]:
    return lambda seconds: np.full(round(seconds * RATE), value, np.float32)


FAULTS: dict[str, tuple[Callable[[float], Samples], str, float]] = {
    "digital silence": (full(0.0), "health-silent", 5),
    "a stuck value": (full(-0.25), "health-stuck", 5),
    "an offset with hardly any noise": (lambda s: noise(s, -90) + np.float32(0.3), "health-dc", 5),
    "one block over and over": (repeated, "health-repeated", 5),
    "hard clipping": (clipped, "health-clipped", 0),
    "a square wave below full scale": (
        lambda s: np.asarray(0.4 * np.sign(noise(s)), np.float32), "health-clipped", 0,
    ),
}  # fmt: skip


@pytest.mark.fault("F10")
@pytest.mark.parametrize("name", FAULTS)
@tries(4, 20)
def test_a_dead_microphone_is_an_alarm_and_its_windows_are_not_observed(
    name: str, tries: int, tally: Tally
) -> None:
    """Each of 6 faults begins 4 (20) times, at another sample; nothing before or after is lost."""
    make, kind, after = FAULTS[name]
    lost = 0
    for trial in range(tries):
        begin = 8 * RATE + 997 * trial
        end = begin + 12 * RATE
        sound = np.concatenate([noise(begin / RATE), make(12.0), noise(15)])
        health = SignalHealth(RATE)
        found = [flag for first in range(0, len(sound), 1600)
                 for flag in health.push(first, sound[first : first + 1600])]  # fmt: skip
        notices = health.notices()
        assert kinds(notices) == [kind, kind + "-cleared"]
        assert {flag.kind for flag in found} == {kind}
        first, last = min(f.first for f in found), max(f.last for f in found)
        assert begin - RATE < first < begin + 2 * RATE  # a repeat begins a second later
        assert end - RATE < last < end + RATE
        assert sum(f.last - f.first for f in found) == last - first
        assert health.invalid(end - 2 * RATE, end - RATE)
        sane = [*range(0, begin - RATE, RATE // 2), *range(end + RATE, end + 14 * RATE, RATE // 2)]
        lost += sum(health.invalid(at, at + RATE) != "" for at in sane)
        found_out = begin + round((after + 2.01) * RATE)
        assert all(health.invalid(at, at + RATE) for at in range(found_out, end - RATE, RATE // 2))
    assert lost == 0
    tally(tries, lost, f"{name}: found out within {after + 2:g} s")


@pytest.mark.fault("F9")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38, 4.5])
def test_a_window_with_a_sample_that_is_no_number_is_invalid_and_its_neighbours_are_not(
    value: float, tally: Tally
) -> None:
    """Each of 6 values is put in at 50 places; only windows that hold one of them are lost."""
    generator = np.random.default_rng(0)
    sound = noise(60)
    places = np.sort(generator.choice(len(sound), 50, replace=False))
    sound[places] = value
    health, asked = SignalHealth(RATE), []
    for first in range(0, len(sound), 777):
        health.push(first, sound[first : first + 777])
        cleaned = SignalHealth.clean(sound[first : first + 777])
        assert np.isfinite(cleaned).all()
        assert np.abs(cleaned).max() <= 4
        for begin in range(0, first, 1600):
            if first < begin + RATE <= first + 777:
                asked.append((begin, health.invalid(begin, begin + RATE)))
    assert len(asked) > 500
    for begin, reason in asked:
        holds = bool(((places >= begin) & (places < begin + RATE)).any())
        assert reason == ("not finite" if holds else "")
    assert "health-not-finite" in kinds(health.notices())
    tally(50, 0)


@pytest.mark.fault("F9")
def test_nothing_that_is_not_finite_passes_and_everything_else_does(tally: Tally) -> None:
    """One block of each kind: every good sample stays as it is, to the bit."""
    sound = noise(1)
    assert SignalHealth.clean(sound) is sound
    sound[[3, 500, 9000]] = np.nan, np.inf, 3e38
    cleaned = SignalHealth.clean(sound)
    assert cleaned[[3, 500, 9000]].tolist() == [0, 0, 0]
    good = np.isfinite(sound) & (np.abs(sound) < 4)
    np.testing.assert_array_equal(cleaned[good], sound[good])
    tally(3, 0, "only the windows that hold such a sample are invalid, never their neighbours")


@pytest.mark.parametrize(
    ("name", "least"),
    [("timit_sample", 480), ("librispeech_237", 190),
     pytest.param("esc10", 1990, marks=pytest.mark.slow)],
)  # fmt: skip
def test_real_recordings_raise_nothing_not_even_those_padded_with_zeros(
    name: str, least: int, pytestconfig: pytest.Config
) -> None:
    """ESC-10: 89 of its 400 clips hold zeros for longer than 0.2 s; one after the other, and every fifth."""
    manifest = shared(f"data/{name}/labels.csv", pytestconfig)
    with manifest.open(encoding="utf-8") as file:
        clips = [read_clip(manifest.parent / row["path"], RATE) for row in csv.DictReader(file)]
    for clip in clips[::5]:
        assert judge(clip) == ([], []), name
    sound = np.concatenate(clips)
    assert len(sound) > least * RATE
    flags, notices = judge(sound, RATE)
    assert flags == []
    assert notices == []


def test_recordings_that_came_over_a_telephone_are_noticed(pytestconfig: pytest.Config) -> None:
    for name, kept in (("fsdd_digits", RATE), ("librispeech_237", 8000)):  # digits: 8 kHz before
        manifest = shared(f"data/{name}/labels.csv", pytestconfig)
        with manifest.open(encoding="utf-8") as file:
            rows = list(itertools.islice(csv.DictReader(file), 300))
        clips = [read_clip(manifest.parent / row["path"], kept) for row in rows]
        rate = 16000 if name == "fsdd_digits" else 48000
        sound = soxr.resample(np.concatenate(clips), kept, rate, quality="HQ")
        flags, notices = judge(sound, rate, rate)
        assert flags == []
        assert kinds(notices)[:1] == ["health-narrow"]


@pytest.mark.parametrize(
    "db", [-85.0, *(pytest.param(db, marks=pytest.mark.slow) for db in (-50.0, -70.0))]
)
def test_a_quiet_night_is_quiet_and_not_dead(db: float) -> None:
    night = np.round(noise(700, db) * 32768) / np.float32(32768)  # as 16 bits have it
    assert judge(night.astype(np.float32), RATE) == ([], [])


def test_nothing_but_dither_is_observed_and_said_to_be_low() -> None:
    generator = np.random.default_rng(1)
    steps = generator.random(700 * RATE) - generator.random(700 * RATE)  # triangular, of 16 bits
    flags, notices = judge((np.round(steps) / 32768).astype(np.float32), RATE)
    assert flags == []
    assert kinds(notices) == ["health-low"]


def test_zeros_for_less_than_five_seconds_are_sound() -> None:
    sound = np.concatenate([noise(3.3), np.zeros(5 * RATE, np.float32), noise(3)])
    assert judge(sound) == ([], [])  # four whole seconds of them


def test_a_capsule_that_hears_only_the_mains_is_noticed_and_wind_is_not() -> None:
    time = np.arange(130 * RATE) / RATE
    lines = [0.02 / k * np.sin(2 * np.pi * 50.02 * k * time + k) for k in range(1, 6)]
    hum = np.sum(lines, axis=0).astype(np.float32) + noise(130, -95)
    assert judge(hum, RATE)[0] == []
    assert kinds(judge(hum, RATE)[1]) == ["health-hum"]
    wind = np.convolve(noise(130, -20), np.full(200, 1 / 200), "same").astype(np.float32)
    assert judge(wind + noise(130, -80, 1), RATE) == ([], [])


def test_soft_faults_are_notices_and_leave_windows_valid() -> None:
    loud = noise(90, -8)
    assert judge(np.clip(loud, -1, 1), RATE)[0] == []
    assert kinds(judge(np.clip(loud, -1, 1), RATE)[1]) == ["health-clipping"]
    off = noise(90) + np.float32(0.05)
    assert judge(off, RATE)[0] == []
    assert kinds(judge(off, RATE)[1]) == ["health-offset"]


def test_an_alarm_that_flickers_is_raised_once_and_cleared_once_with_how_long_it_lasted() -> None:
    parts = [noise(3)]
    for seed in range(10):
        parts += [clipped(1), noise(1, seed=seed)]
    flags, notices = judge(np.concatenate([*parts, noise(30)]))
    assert kinds(notices) == ["health-clipped", "health-clipped-cleared"]
    assert len(flags) == 10
    assert "19 s" in notices[1].text
    assert notices[1].details == {"first": 3 * RATE, "last": 22 * RATE}


def test_a_repeated_block_is_found_behind_the_resampler_of_a_48_khz_microphone() -> None:
    block = noise(1024 / 48000, -30, rate=48000)
    sound = soxr.resample(np.resize(block, 480_000), 48000, RATE, quality="HQ")
    assert kinds(judge(sound)[1]) == ["health-repeated"]


def test_silence_goes_on_across_gaps() -> None:
    health, found = SignalHealth(RATE), []
    for k in range(6):  # two seconds at a time
        found += health.push(100_000 * k, np.zeros(2 * RATE, np.float32))
    assert sum(f.last - f.first for f in found) == 12 * RATE
    assert all(f.first % 100_000 + f.last - f.first <= 2 * RATE for f in found)
    assert kinds(health.notices()) == ["health-silent"]


PARTS: list[Callable[[float], Samples]] = [
    noise, full(0.0), full(0.5), repeated, clipped, full(np.nan), lambda s: noise(s, -60),
]  # fmt: skip


SCRIPTS = st.lists(
    st.tuples(st.integers(0, len(PARTS) - 1), st.integers(1, 8 * RATE), st.booleans()),
    min_size=1, max_size=5,
)  # fmt: skip


@tries(8, 30)
def test_chunks_do_not_matter(tries: int) -> None:
    """Flags, notices and every window's verdict are those of one chunk a stretch."""

    @settings(max_examples=tries)
    @given(SCRIPTS, st.lists(st.integers(1, 3 * RATE), min_size=1, max_size=6),
           st.integers(RATE // 4, 3 * RATE))  # fmt: skip
    def check(script: list[tuple[int, int, bool]], chunks: list[int], window: int) -> None:
        stretches: list[list[Samples]] = [[]]
        for part, length, gap in script:
            stretches[-1].append(PARTS[part](length / RATE))
            if gap:
                stretches.append([])
        sounds = [np.concatenate(s) for s in stretches if s]
        assert verdicts(sounds, chunks, window) == verdicts(sounds, None, window)

    check()


def verdicts(
    sounds: list[Samples], sizes: list[int] | None, window: int
) -> tuple[list[Flag], list[Notice], list[str]]:
    """Judge stretches of sound in chunks of these sizes, or each as a whole.

    A chunk is cut where a window ends: a window may be asked about only then.
    """
    health, flags, found, position = SignalHealth(RATE), [], [], 0
    for sound in sounds:
        start, first = position, position
        end = start + len(sound)
        flags += health.gap(position)
        turn = itertools.cycle(sizes or [len(sound)])
        while position < end:
            chunk_end = min(position + next(turn), end)
            while position < chunk_end:
                cut = min(first + window, chunk_end)
                flags += health.push(position, sound[position - start : cut - start])
                position = cut
                if position == first + window:
                    found.append(health.invalid(first, position))
                    first += RATE // 2
        position += 12_345
    return flags + health.flush(), health.notices(), found


def test_before_a_gap_a_rest_of_a_second_is_judged_if_it_is_long_enough() -> None:
    health = SignalHealth(RATE)
    assert health.push(0, clipped(0.2)) == []
    assert health.gap(RATE) == []
    assert health.push(RATE, clipped(0.3)) == []
    assert [(f.first, f.last) for f in health.flush()] == [(RATE, RATE + round(0.3 * RATE))]
    assert faults_of(noise(1), NOTHING) == frozenset()


def test_a_short_window_within_a_dead_second_is_not_observed() -> None:
    """Windows of a tenth of a second end before their second does: it goes on as the last one did."""
    rate, hop = 1000, 100
    health, heard = SignalHealth(rate), []
    sound = np.concatenate([np.zeros(12 * rate), np.random.default_rng(0).normal(0, 0.1, rate)])
    for first in range(0, len(sound), hop):
        health.push(first, sound[first : first + hop].astype(np.float32))
        heard.append(health.invalid(first, first + hop))
    assert not any(heard[:49]), "five seconds may pass"
    assert all(reason == "digital silence" for reason in heard[50:120])
    assert not any(heard[120:]), "sound that comes back counts at once"
