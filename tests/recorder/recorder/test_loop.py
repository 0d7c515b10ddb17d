"""The recorder's loop: the same answers however sound arrives, and every sample accounted for."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
from faults_table import Tally
from hypothesis import HealthCheck, given
from hypothesis import settings as how
from hypothesis import strategies as st
from recorder_loop import START, SUNG, Run, Samples, clips_of, in_blocks, stream
from tiny_recordings import RATE

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.journal.coverage import ANALYSED, BACKLOG, DROPPED, INVALID, NOT_CAPTURED
from edgeprune_device.journal.stream_time import StreamTime
from edgeprune_device.recorder.loop import Components
from edgeprune_device.settings import Clips, Decide, Load, Settings
from edgeprune_device.stream import Block, Notice


@how(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(1, 30_000), max_size=60))
def test_detections_clips_and_coverage_do_not_depend_on_the_blocks(
    tiny_bundle: Path, new_folder: Callable[[], Path], sizes: list[int]
) -> None:
    folder = new_folder()
    settings = Settings(clips=Clips(save=True, before_seconds=0.5, after_seconds=0.25))
    whole = Run(tiny_bundle, folder / "whole", [Block(stream())], settings)
    parts = Run(tiny_bundle, folder / "parts", in_blocks(stream(), sizes), settings)
    assert whole.labels == list(SUNG.values())
    assert parts.lines == whole.lines
    assert parts.ledger.totals == whole.ledger.totals
    assert len(clips_of(whole.out)) == 3
    assert clips_of(parts.out) == clips_of(whole.out)
    whole.check()
    parts.check()


@how(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 20_000), st.integers(0, 40_000),
                  st.sampled_from(["stalled", "microphone lost", BACKLOG])), max_size=12),
)  # fmt: skip
def test_whatever_is_lost_every_sample_is_accounted_for(
    tiny_bundle: Path, new_folder: Callable[[], Path],
    pieces: list[tuple[int, int, str]],
) -> None:  # fmt: skip
    sound = stream(20)
    items, first = [], 0
    for size, lost, reason in pieces:
        items.append(Block(sound[first : first + size], lost, reason))
        first += size
    run = Run(tiny_bundle, new_folder() / "j", items)
    run.check()
    heard = sum(min(size, 1 << 30) for size, _, _ in pieces)
    assert run.loop.progress.captured == min(heard, len(sound))
    for reason in ("stalled", "microphone lost"):
        wanted = sum(lost for _, lost, why in pieces if why == reason)
        assert run.ledger.totals[NOT_CAPTURED, reason] == wanted
    assert run.ledger.totals[DROPPED, BACKLOG] == sum(n for _, n, why in pieces if why == BACKLOG)


def test_a_clip_holds_the_samples_around_its_detection(tiny_bundle: Path, tmp_path: Path) -> None:
    settings = Settings(clips=Clips(save=True, before_seconds=0.5, after_seconds=0.25))
    run = Run(tiny_bundle, tmp_path / "j", in_blocks(stream(), [777] * 100), settings)
    with closing(sqlite3.connect(run.out / "journal.sqlite")) as database:
        rows = database.execute("SELECT path, first_sample, samples FROM clips").fetchall()
    assert len(rows) == 3
    for path, first, count in rows:
        heard, rate = soundfile.read(run.out / path, dtype="int16")
        assert rate == RATE
        assert len(heard) == count
        expected = np.round(stream()[first : first + count] * 32768)
        assert np.abs(heard - expected).max() <= 1


def test_a_gap_ends_a_clip_at_once_and_not_when_there_is_sound_again(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    written = []

    def items() -> Iterator[Block]:
        yield Block(stream()[: round(5.4 * RATE)])
        for _ in range(2):
            yield Block(np.empty(0, np.float32), RATE, "microphone lost")
            written.append(len(clips_of(tmp_path / "j")))

    settings = Settings(clips=Clips(save=True, before_seconds=0.5, after_seconds=1.0))
    Run(tiny_bundle, tmp_path / "j", items(), settings)
    assert written == [3, 3]


def test_a_clip_at_the_beginning_of_minutes_in_one_block_is_kept(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    settings = Settings(
        clips=Clips(save=True, before_seconds=0.5, after_seconds=0.25, longest_seconds=1.0),
        decide=Decide(hop_seconds=0.1),
    )
    run = Run(tiny_bundle, tmp_path / "j", [Block(stream(140))], settings)
    assert len(clips_of(run.out)) == 3


def test_a_clip_of_events_that_are_merged_for_minutes_is_kept(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    settings = Settings(
        clips=Clips(save=True, before_seconds=0.5, after_seconds=0.25, longest_seconds=1.0),
        decide=Decide(hop_seconds=0.1, merge_seconds=100),
    )
    run = Run(tiny_bundle, tmp_path / "j", in_blocks(stream(130), [RATE] * 130), settings)
    assert len(run.labels) == len(clips_of(run.out)) == 3


@pytest.mark.fault("F9")
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38])
def test_sound_that_is_no_sound_is_invalid_and_no_score_of_it_is_kept(
    value: float, tiny_bundle: Path, tmp_path: Path, tally: Tally
) -> None:
    """One bad sample in each of 20 places: its window is invalid, the rest is analysed."""
    sound, asked = stream(), list[Samples]()

    def change(parts: Components) -> Components:
        def model(first: int, window: Samples) -> Samples:
            asked.append(window)
            return parts.model(first, window)

        return replace(parts, model=model)

    places = np.random.default_rng(3).integers(0, len(sound), 20)
    sound[places] = value
    run = Run(tiny_bundle, tmp_path / "j", in_blocks(sound, [1600] * 90), change=change)
    run.check()
    assert run.total(INVALID) > 0
    assert run.total(ANALYSED) > len(sound) / 3
    assert all(np.isfinite(window).all() and np.abs(window).max() < 10 for window in asked)
    assert run.events, "an alarm is written"
    tally(len(places), 0, f"{value:g}: windows invalid, no score kept")


@pytest.mark.fault("F13")
@pytest.mark.parametrize("kind", ["nan", "constant", "raises"])
def test_scores_that_are_none_are_an_alarm_and_not_nothing_heard(
    kind: str, tiny_bundle: Path, tmp_path: Path, tally: Tally
) -> None:
    """A model that gives NaN, the same scores for ever, or an error, for two minutes of sound."""

    def change(parts: Components) -> Components:
        count = len(parts.decider.rule.labels)

        def model(_first: int, _window: Samples) -> Samples:
            if kind == "raises":
                raise RuntimeError("broken")
            value = np.nan if kind == "nan" else 0.3
            return np.full(count, value, dtype=np.float32)

        return replace(parts, model=model)

    sound = np.tile(stream(), 15)
    run = Run(tiny_bundle, tmp_path / "j", in_blocks(sound, [1600] * 1300), change=change)
    run.check()
    assert run.labels == []
    assert run.total(INVALID) > (0.5 if kind == "constant" else 0.99) * len(sound)
    assert run.events, "an alarm is written"
    assert run.loop.progress.bad_scores > 0
    tally(run.loop.progress.windows, 0, f"{kind}: invalid and an alarm")


class SlowBoard:
    """A microphone before a model that takes twice the hop, on a clock that nobody waits for."""

    def __init__(self, seconds: float, ring_seconds: float, cost_seconds: float) -> None:
        self.now = 0.0
        self.seconds, self.ring, self.cost = seconds, round(ring_seconds * RATE), cost_seconds
        self.most_waiting = 0

    def model(self, first: int, window: Samples) -> Samples:
        self.now += self.cost
        return np.array([0.2, 0.3, 0.5], dtype=np.float32) + np.float32(1e-3) * window[:3]

    def items(self) -> Iterator[Block]:
        sound, read, size = stream(self.seconds + 60), 0, RATE // 2
        while read < self.seconds * RATE:
            written = round(self.now * RATE)
            if written - read < size:
                self.now = (read + size) / RATE
                continue
            lost = max(0, written - read - self.ring)
            read += lost
            self.most_waiting = max(self.most_waiting, written - read)
            block = sound[read : read + size]
            read += size
            yield Block(block, lost, BACKLOG, heard_at=self.now,
                        backlog_seconds=(written - read) / RATE)  # fmt: skip


@pytest.mark.fault("F11")
@pytest.mark.parametrize("steps", [(), ("no-clips",), ("longer-hop",), ("skip",),
                                   ("no-clips", "longer-hop", "skip")])  # fmt: skip
def test_a_model_that_takes_twice_the_hop_drops_exactly_what_it_says(
    steps: tuple[str, ...], tiny_bundle: Path, tmp_path: Path, tally: Tally,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Ten minutes of sound; captured = analysed + dropped to the sample, at most 20 s wait."""
    hop = read_bundle(tiny_bundle).hop_samples / RATE
    board = SlowBoard(600, 20, 2 * hop)
    monkeypatch.setattr(
        "edgeprune_device.recorder.loop.time", SimpleNamespace(monotonic=lambda: board.now)
    )
    run = Run(
        tiny_bundle, tmp_path / "j", board.items(),
        Settings(load=Load(steps=steps, behind_seconds=5, calm_seconds=60)),
        lambda parts: replace(parts, model=board.model),
    )  # fmt: skip
    run.check()
    assert run.total(NOT_CAPTURED) == 0
    assert run.total(ANALYSED) + run.total(DROPPED) + run.total(INVALID) == run.loop.position
    assert board.most_waiting <= board.ring
    if not steps or steps == ("no-clips",):
        assert run.ledger.totals[DROPPED, BACKLOG] > 0
    if "skip" in steps:
        assert run.ledger.totals[DROPPED, "load"] > 0
    shed = [kind for kind in run.events if kind == "load-shed"]
    assert bool(shed) == bool(steps)
    said = ", ".join(steps) or "none"
    share = run.total(ANALYSED) / run.loop.position
    tally(1, 0, f"policy {said}: {share:.0%} analysed, the rest counted as dropped")


def test_a_notice_is_an_event_at_its_sample(tiny_bundle: Path, tmp_path: Path) -> None:
    items = [Block(stream()[:8000]), Notice("microphone-lost", "It is gone."), None,
             Block(stream()[8000:], 100, "microphone lost")]  # fmt: skip
    run = Run(tiny_bundle, tmp_path / "j", items)
    with closing(sqlite3.connect(run.out / "journal.sqlite")) as database:
        assert ("microphone-lost", 8000) in database.execute(
            "SELECT kind, sample FROM events"
        ).fetchall()
    assert run.said[0].endswith("It is gone.")


def test_a_denied_label_is_not_reported(tiny_bundle: Path, tmp_path: Path) -> None:
    run = Run(
        tiny_bundle, tmp_path / "j", [Block(stream())], Settings(decide=Decide(deny=("high",)))
    )
    assert run.labels == ["low", "middle"]


def test_the_time_of_day_follows_the_moment_of_capture_and_not_the_samples() -> None:
    """A device whose clock runs 1 % fast: after an hour the samples are 36 s ahead."""
    from edgeprune_device.system.clock import ClockState, WallClock

    wall = WallClock(START, 0.0, ClockState(True, "kernel"))
    times = StreamTime(RATE, START, wall)
    times.observe(round(3600 * 1.01 * RATE), 3600.0)
    assert abs(times.utc(round(3600 * 1.01 * RATE)) - (START + timedelta(hours=1))) < timedelta(
        milliseconds=1)  # fmt: skip
