"""Clips: exactly the samples that were heard, under names that no label can bend, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import settings as tries
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune_device.clips.clip_files import find_clips, read_tags, to_pcm16
from edgeprune_device.clips.clip_recorder import (
    BEGINS,
    ENDS,
    LATE,
    LONG,
    ClipInProgress,
    ClipRecorder,
)
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Clips as ClipSettings
from edgeprune_device.system.files import slug

RATE = 1000
NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
SETTINGS = ClipSettings(save=True, before_seconds=0.5, after_seconds=0.25, longest_seconds=2.0)
WINDOW = 400  # judged at every so many samples
Wish = tuple[str, int, int, int]
"""Id, first, last, and the window's end at which it is reported."""


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)


def no_voice(_first: int, _last: int) -> bool:
    return False


def feed(
    clips: ClipRecorder, stream: NDArray[np.float32], cuts: list[int], wishes: list[Wish],
    gaps: dict[int, int], blocked: Callable[[int, int], bool | None] = no_voice,
) -> list[ClipInProgress]:  # fmt: skip
    """Play a stream in blocks that end at ``cuts``; judge at every WINDOW samples; flush.

    ``gaps`` says at which samples how many are lost; the stream's places count them.
    """
    edges = sorted({*cuts, *gaps, len(stream)} - {0})
    done: list[ClipInProgress] = []
    heard = 0
    judged = 0
    for edge in edges:
        first = heard
        if first in gaps:
            heard_to = first + gaps[first]
            clips.gap(heard_to)
            first = heard_to
        if edge <= first:
            continue
        clips.push(first, stream[first:edge])
        heard = edge
        while judged + WINDOW <= heard:
            judged += WINDOW
            for id_, begin, end, told in wishes:
                if told == judged:
                    clips.want(id_, id_, begin, end, score=0.9, utc=NOON)
            done += clips.ready(blocked, judged)
    return done + clips.flush(blocked)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*.flac")}


def test_a_clip_decodes_to_what_the_model_heard_rounded_to_16_bits(tmp_path: Path) -> None:
    stream = noise(4000)
    [clip] = feed(ClipRecorder(SETTINGS, tmp_path, RATE), stream, [], [("a", 1000, 1400, 1600)], {})
    samples, rate = soundfile.read(tmp_path / clip.path, dtype="int16")
    expected = np.clip(np.rint(stream[500:1650].astype(np.float64) * 32768), -32768, 32767)
    np.testing.assert_array_equal(samples, expected)
    assert (rate, clip.first, clip.samples, clip.cut) == (RATE, 500, 1150, ())


@tries(max_examples=40, deadline=None)
@given(st.lists(st.integers(1, 5999), max_size=30), st.integers(1, 300))
def test_the_files_are_the_same_however_the_stream_is_cut(
    new_folder: Callable[[], Path], cuts: list[int], size: int
) -> None:
    stream = noise(6000)
    wishes = [("a", 100, 500, 800), ("b", 1900, 2300, 2400), ("c", 2000, 2400, 2400),
              ("d", 3300, 3700, 4000), ("e", 3000, 5700, 6000)]  # fmt: skip
    gaps = {2500: 300, 4444: 7}
    results = []
    for edges in ([6000], cuts, list(range(size, 6000, size))):
        folder = new_folder()
        done = feed(ClipRecorder(SETTINGS, folder, RATE), stream, edges, wishes, gaps)
        results.append((sorted(clip.id for clip in done), contents(folder)))
    assert results[0] == results[1] == results[2]
    assert results[0][0] == ["a", "b", "c", "d", "e"]


@st.composite
def scenes(draw: st.DrawFn) -> tuple[dict[int, int], list[tuple[int, int]], list[int]]:
    """Draw gaps (place to length), events (first, last) and the ends of blocks."""
    gaps = draw(st.dictionaries(st.integers(1, 5500), st.integers(1, 400), max_size=3))
    kept: dict[int, int] = {}
    for place in sorted(gaps):  # none inside another
        if not kept or place > max(kept) + kept[max(kept)]:
            kept[place] = gaps[place]
    events = draw(st.lists(
        st.tuples(st.integers(0, 5000), st.integers(1, 900)).map(lambda e: (e[0], e[0] + e[1])),
        min_size=1, max_size=4,
    ))  # fmt: skip
    return kept, events, draw(st.lists(st.integers(1, 5999), max_size=12))


@tries(max_examples=60, deadline=None)
@given(scenes())
def test_every_clip_is_the_part_of_its_stretch_that_was_asked_for(
    new_folder: Callable[[], Path],
    scene: tuple[dict[int, int], list[tuple[int, int]], list[int]],
) -> None:
    """The oracle goes through the stream sample by sample."""
    gaps, events, cuts = scene
    stream, folder = noise(6000), new_folder()
    wishes = [(f"e{n}", first, last, min(-(-last // WINDOW) * WINDOW, 6000))
              for n, (first, last) in enumerate(events)]  # fmt: skip
    done = {c.id: c for c in feed(ClipRecorder(SETTINGS, folder, RATE), stream, cuts, wishes, gaps)}
    stretch, of_sample = 0, []
    for sample in range(6000):
        stretch += sample in gaps
        lost = any(place <= sample < place + length for place, length in gaps.items())
        of_sample.append(-1 if lost else stretch)
    for name, first, last, _ in wishes:
        inside = [s for s in of_sample[first:last] if s >= 0]
        if not inside:
            assert name not in done
            continue
        most = max(sorted(set(inside)), key=inside.count)
        span = [
            n for n in range(max(0, first - 500), min(6000, last + 250)) if of_sample[n] == most
        ]
        clip = done[name]
        assert (clip.first, clip.samples) == (span[0], len(span))
        samples, _ = soundfile.read(folder / clip.path, dtype="int16")
        np.testing.assert_array_equal(samples, to_pcm16(stream[span]))
        assert (BEGINS in clip.cut) == (span[0] != first - 500)
        assert (ENDS in clip.cut) == (span[-1] + 1 != last + 250)


def test_a_clip_ends_and_begins_at_gaps_and_says_so(tmp_path: Path) -> None:
    stream = noise(6000)
    wishes = [("ends", 1900, 2300, 2400), ("begins", 2900, 3300, 3600), ("whole", 4400, 4800, 5200)]
    done = feed(ClipRecorder(SETTINGS, tmp_path, RATE), stream, [], wishes, {2400: 400})
    spans = {clip.id: (clip.first, clip.first + clip.samples, clip.cut) for clip in done}
    assert spans == {"ends": (1400, 2400, (ENDS,)), "begins": (2800, 3550, (BEGINS,)),
                     "whole": (3900, 5050, ())}  # fmt: skip
    for clip in done:
        samples, _ = soundfile.read(tmp_path / clip.path, dtype="int16")
        np.testing.assert_array_equal(
            samples, to_pcm16(stream[clip.first : clip.first + clip.samples])
        )
        assert read_tags(tmp_path / clip.path)["cut"] == list(clip.cut)


def test_the_streams_own_begin_and_end_bound_a_clip(tmp_path: Path) -> None:
    done = feed(ClipRecorder(SETTINGS, tmp_path, RATE), noise(1200), [],
                [("first", 0, 400, 400), ("last", 800, 1200, 1200)], {})  # fmt: skip
    assert {clip.id: (clip.first, clip.samples, clip.cut) for clip in done} == {
        "first": (0, 650, (BEGINS,)), "last": (300, 900, (ENDS,))}  # fmt: skip


def test_overlapping_events_have_a_file_each(tmp_path: Path) -> None:
    done = feed(ClipRecorder(SETTINGS, tmp_path, RATE), noise(4000), [],
                [("a", 1000, 1400, 1600), ("b", 1200, 1600, 1600)], {})  # fmt: skip
    assert [(clip.first, clip.samples) for clip in done] == [(500, 1150), (700, 1150)]
    assert len(contents(tmp_path)) == 2


def test_of_an_event_that_is_too_long_the_end_is_kept(tmp_path: Path) -> None:
    [clip] = feed(
        ClipRecorder(SETTINGS, tmp_path, RATE), noise(8000), [], [("a", 400, 6000, 6000)], {}
    )
    assert (clip.first, clip.samples, clip.cut) == (3500, 500 + 2000 + 250, (LONG,))


def test_sound_that_is_not_held_any_more_is_never_replaced_by_other_sound(tmp_path: Path) -> None:
    clips = ClipRecorder(SETTINGS, tmp_path, RATE, delay_seconds=0.0)  # holds 2.75 s
    wishes = [("late", 5100, 6000, 8000), ("gone", 400, 800, 8000)]
    [clip] = feed(clips, noise(9000), list(range(100, 9000, 100)), wishes, {})
    assert clip.id == "late"
    assert clip.cut == (LATE,)
    samples, _ = soundfile.read(tmp_path / clip.path, dtype="int16")
    np.testing.assert_array_equal(samples, to_pcm16(noise(9000)[clip.first : 6250]))
    assert clips.counts == {"wanted": 2, "written": 1, "missed": 1}
    assert [notice.kind for notice in clips.notices()] == ["clip-missed"]


def test_an_event_in_lost_sound_is_missed(tmp_path: Path) -> None:
    clips = ClipRecorder(SETTINGS, tmp_path, RATE)
    assert not feed(clips, noise(3000), [], [("a", 1000, 1300, 2000)], {1000: 400})
    assert clips.counts == {"wanted": 1, "missed": 1}


@pytest.mark.parametrize("answer", [True, None])
def test_a_voice_or_an_unknown_keeps_a_clip_from_being_written(
    tmp_path: Path, answer: bool | None
) -> None:
    clips = ClipRecorder(SETTINGS, tmp_path, RATE)
    asked = []

    def blocked(first: int, last: int) -> bool | None:
        asked.append((first, last))
        return answer

    assert not feed(clips, noise(4000), [], [("a", 1000, 1400, 1600)], {}, blocked)
    assert asked == [(500, 1650)], "once, about the whole of it"
    assert clips.counts == {"wanted": 1, "withheld": 1}
    assert not contents(tmp_path)


def test_a_clip_waits_until_its_post_roll_was_judged(tmp_path: Path) -> None:
    clips = ClipRecorder(SETTINGS, tmp_path, RATE)
    clips.push(0, noise(3000))
    clips.want("a", "a", 1000, 1400)
    assert not clips.ready(no_voice, 1400)
    assert not clips.ready(no_voice, 1649)
    assert [clip.id for clip in clips.ready(no_voice, 1650)] == ["a"]


def test_nothing_is_held_or_written_when_clips_are_off(tmp_path: Path) -> None:
    clips = ClipRecorder(ClipSettings(), tmp_path, RATE)
    assert not feed(clips, noise(4000), [], [("a", 1000, 1400, 1600)], {})
    assert not list(tmp_path.iterdir())
    assert not clips.counts


def test_the_tags_say_what_was_heard_when_and_by_what(tmp_path: Path) -> None:
    clips = ClipRecorder(SETTINGS, tmp_path, RATE, digest="d" * 64)
    clips.push(0, noise(3000))
    clips.want("5d41402abc4b2a76", "Waldkauz", 1000, 1400, score=0.91234567, utc=NOON)
    [clip] = clips.ready(None, 3000)
    assert clip.utc == NOON - timedelta(seconds=0.5)
    assert read_tags(tmp_path / clip.path) == {
        "id": "5d41402abc4b2a76", "label": "Waldkauz", "score": 0.9123,
        "utc": "2026-05-01T11:59:59.500+00:00", "bundle_digest": "d" * 64, "first_sample": 500,
        "samples": 1150, "rate": RATE, "event": [1000, 1400], "cut": [],
    }  # fmt: skip
    assert clip.path == f"clips/2026-05-01/{slug('Waldkauz')}/120000_5d41402abc4b2a76.flac"
    assert clip.bytes == (tmp_path / clip.path).stat().st_size


HOSTILE = ["../../etc/passwd", "..", ".", "...", "a\0b", "🦉", "x" * 300, "", " ", "CON", "a/b\\c",
           "-rf", "\ud800", "owl\n", "<b>", "clips", "Größe", "ねこ"]  # fmt: skip


@pytest.mark.parametrize("label", HOSTILE)
def test_no_label_leads_out_of_the_folder(tmp_path: Path, label: str) -> None:
    (tmp_path / "j").mkdir()
    clips = ClipRecorder(SETTINGS, tmp_path / "j", RATE)
    clips.push(0, noise(3000))
    clips.want("a1", label, 1000, 1400, utc=NOON)
    [clip] = clips.ready(None, 3000)
    [found] = list(find_clips(tmp_path / "j"))
    assert found.path == clip.path
    assert found.id == "a1"
    assert clip.path.count("/") == 3
    assert [p.name for p in tmp_path.iterdir()] == ["j"]
    assert read_tags(tmp_path / "j" / clip.path)["label"] == label


def test_what_a_crash_left_half_written_is_removed_at_the_start(tmp_path: Path) -> None:
    left = tmp_path / "clips" / "120000_a.flac.part"
    left.parent.mkdir()
    left.write_bytes(b"fLaC")
    sound = np.zeros(10, dtype=np.float32)
    ClipRecorder(ClipSettings(), tmp_path, RATE).push(0, sound)
    assert left.exists(), "clips are off: nothing is touched"
    ClipRecorder(SETTINGS, tmp_path, RATE).push(0, sound)
    assert not left.exists()


def test_a_rate_that_flac_has_not_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="FLAC supports up to 655350 Hz"):
        ClipRecorder(SETTINGS, tmp_path, 768_000)


class Trouble:
    """A disk that refuses to be synchronised while ``on``, and a clock that is set by hand."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.on, self.now, self._fsync = True, 0.0, os.fsync
        patch.setattr(os, "fsync", self.fsync)

    def fsync(self, number: int) -> None:
        if self.on:
            raise OSError(28, "No space left on device")
        self._fsync(number)

    def clock(self) -> float:
        return self.now


@pytest.fixture
def trouble(monkeypatch: pytest.MonkeyPatch) -> Trouble:
    return Trouble(monkeypatch)


def begun(folder: Path, trouble: Trouble, **more: Any) -> ClipRecorder:
    clips = ClipRecorder(SETTINGS, folder, RATE, clock=trouble.clock, **more)
    clips.push(0, noise(3000))
    clips.want("a", "owl", 1000, 1400, utc=NOON)
    return clips


def test_a_clip_that_fails_is_tried_again_and_never_half_there(
    tmp_path: Path, trouble: Trouble
) -> None:
    clips = begun(tmp_path, trouble)
    for trouble.now in (0.0, 0.5, 2.0, 29.0):
        assert not clips.ready(None, 3000)
        assert clips.waiting == 1
        assert not contents(tmp_path)
        assert not list(tmp_path.rglob("*.part"))
    trouble.on, trouble.now = False, 30.0
    assert [clip.id for clip in clips.ready(None, 3000)] == ["a"]
    assert clips.counts == {"wanted": 1, "written": 1}
    assert not clips.notices()


def test_a_clip_is_given_up_after_half_a_minute_and_both_ends_are_told(
    tmp_path: Path, trouble: Trouble
) -> None:
    clips = begun(tmp_path, trouble)
    clips.ready(None, 3000)
    trouble.now = 31.0
    assert not clips.ready(None, 3000)
    assert clips.waiting == 0
    assert clips.counts["lost"] == 1
    [lost] = clips.notices()
    assert lost.kind == "clips-lost"
    assert "No space left" in lost.text
    trouble.on = False
    clips.want("b", "owl", 1000, 1400, utc=NOON)
    assert [clip.id for clip in clips.ready(None, 3000)] == ["b"]
    [back] = clips.notices()
    assert (back.kind, back.details["lost"]) == ("clips-back", 1)


def test_what_waits_for_the_disk_is_bounded(
    tmp_path: Path, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune_device.clips.clip_recorder.MOST_WAITING_BYTES", 10_000)
    clips = begun(tmp_path, trouble)
    for number in range(20):
        clips.want(f"c{number}", "owl", 1000, 1400, utc=NOON)
    clips.ready(None, 3000)
    assert 0 < clips.waiting < 20
    assert clips.counts["lost"] == 21 - clips.waiting


def test_what_fails_at_the_end_of_the_stream_is_lost_at_once(
    tmp_path: Path, trouble: Trouble
) -> None:
    clips = begun(tmp_path, trouble)
    assert not clips.flush(None)
    assert clips.counts == {"wanted": 1, "lost": 1, "written": 0}


def test_no_clip_takes_the_journals_reserve(tmp_path: Path, trouble: Trouble) -> None:
    trouble.on = False
    clips = begun(tmp_path, trouble, reserve_bytes=1 << 60)
    assert not clips.ready(None, 3000)
    assert clips.waiting == 1


def test_a_folder_that_was_swapped_for_another_gets_no_clips(
    tmp_path: Path, trouble: Trouble
) -> None:
    trouble.on = False
    (tmp_path / "j").mkdir()
    clips = begun(tmp_path / "j", trouble)
    (tmp_path / "j").rename(tmp_path / "pulled-out")
    (tmp_path / "j").mkdir()
    assert not clips.ready(None, 3000)
    assert not list((tmp_path / "j").iterdir())
    (tmp_path / "j").rmdir()
    (tmp_path / "pulled-out").rename(tmp_path / "j")
    trouble.now = 2.0
    assert len(clips.ready(None, 3000)) == 1
