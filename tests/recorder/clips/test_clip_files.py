"""Clips on the disk: their names, tags and locks, and 16 bits of the sound."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.clips.clip_files import (
    clip_path,
    delete_clip,
    find_clips,
    read_tags,
    remove_parts,
    set_lock,
    to_flac,
    to_pcm16,
    write_clip,
)
from edgeprune_device.system.files import slug

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_sixteen_bit_sound_survives_exactly(values: list[int]) -> None:
    np.testing.assert_array_equal(
        to_pcm16(np.array(values, np.float32) / np.float32(32768)), values
    )


def test_what_lies_outside_full_scale_is_clipped_and_what_is_no_number_is_zero() -> None:
    odd = np.array([1.0, 2.0, -3.0, np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(to_pcm16(odd), [32767, 32767, -32768, 32767, -32768, 0])


def test_a_clip_of_a_file_is_named_by_stream_time() -> None:
    assert clip_path("owl", "a1", None, 3 * 3600 + 62.9) == "clips/stream/owl/030102_a1.flac"
    assert clip_path("owl", "a1", None, 100 * 3600) == "clips/stream/owl/1000000_a1.flac"


def test_a_clip_heard_live_is_named_by_utc_whatever_the_zone() -> None:
    there = datetime(2026, 5, 1, 1, 30, 5, tzinfo=timezone(timedelta(hours=2)))
    assert clip_path("Owl!", "a1", there, 0.0) == f"clips/2026-04-30/{slug('Owl!')}/233005_a1.flac"


@pytest.mark.parametrize("name", ["../../x", "a/b", "", "x" * 65, "ä", "a b"])
def test_an_id_that_is_no_plain_name_cannot_lead_elsewhere(name: str) -> None:
    path = clip_path("owl", name, NOON, 0.0)
    assert re.fullmatch(r"clips/2026-05-01/owl/120000_[a-z0-9-]+\.flac", path)


def test_a_file_holds_sound_and_tags_and_another_program_reads_both(tmp_path: Path) -> None:
    sound = np.arange(-500, 500, dtype=np.int16)
    tags = {"id": "a1", "label": "Größe\n\x00🦉", "event": [1, 2]}
    (tmp_path / "a.flac").write_bytes(to_flac(sound, 16_000, tags))
    with soundfile.SoundFile(tmp_path / "a.flac") as file:
        assert (file.samplerate, file.channels, file.subtype) == (16_000, 1, "PCM_16")
        assert file.title == "Größe🦉"
        assert json.loads(file.comment) == tags
        np.testing.assert_array_equal(file.read(dtype="int16"), sound)
    assert read_tags(tmp_path / "a.flac") == tags


def test_what_is_no_clip_of_ours_has_no_tags(tmp_path: Path) -> None:
    (tmp_path / "a.flac").write_bytes(b"no sound")
    soundfile.write(tmp_path / "b.flac", np.zeros(100), 16_000)
    with soundfile.SoundFile(tmp_path / "c.flac", "w", 16_000, 1) as file:
        file.comment = "[1, 2]"
        file.write(np.zeros(100))
    for name in ("a.flac", "b.flac", "c.flac", "nothing.flac"):
        assert read_tags(tmp_path / name) == {}


PATH = "clips/2026-05-01/owl/213005_a1.flac"


def test_a_clip_is_found_with_its_moment_its_room_and_its_lock(tmp_path: Path) -> None:
    write_clip(tmp_path, PATH, bytes(5000))
    (found,) = find_clips(tmp_path)
    moment = datetime(2026, 5, 1, 21, 30, 5, tzinfo=UTC).timestamp()
    assert (found.path, found.id, found.label, found.seconds) == (PATH, "a1", "owl", moment)
    assert found.bytes == (tmp_path / PATH).stat().st_blocks * 512 >= 5000
    assert not found.locked
    set_lock(tmp_path, PATH, True)
    assert [clip.locked for clip in find_clips(tmp_path)] == [True]
    set_lock(tmp_path, PATH, False)
    set_lock(tmp_path, PATH, False)
    assert [clip.locked for clip in find_clips(tmp_path)] == [False]
    assert not list(tmp_path.rglob("*.part"))


def test_clips_come_day_by_day_and_what_is_none_is_passed_over(tmp_path: Path) -> None:
    places = ("2026-05-01/owl", "2026-05-01/robin", "2026-05-02/owl", "stream/owl")
    paths = [f"clips/{place}/120000_a{number}.flac" for number, place in enumerate(places)]
    for path in (paths[2], paths[0], paths[3], paths[1]):
        write_clip(tmp_path, path, b"x")
    place = (tmp_path / paths[0]).parent
    (place / "notes.txt").write_text("mine")
    (place / "120000_a9.flac").mkdir()
    (place / "120001_a9.flac").symlink_to(tmp_path / paths[1])
    (tmp_path / "clips" / "link").symlink_to(tmp_path / "clips" / "2026-05-01")
    (tmp_path / "clips" / "120000_b.flac.part").write_bytes(b"fLaC")
    assert [clip.path for clip in find_clips(tmp_path)] == paths
    stream = next(clip for clip in find_clips(tmp_path) if "stream" in clip.path)
    assert stream.seconds == pytest.approx((tmp_path / paths[3]).stat().st_mtime)
    assert list(find_clips(tmp_path / "nothing")) == []


def test_a_deletion_takes_the_lock_and_the_empty_folders_along(tmp_path: Path) -> None:
    other = "clips/2026-05-01/robin/120000_a2.flac"
    for path in (PATH, other):
        write_clip(tmp_path, path, b"x")
    set_lock(tmp_path, PATH, True)
    delete_clip(tmp_path, PATH)
    assert not (tmp_path / PATH).parent.exists()
    assert (tmp_path / other).exists()
    delete_clip(tmp_path, PATH)  # gone already: fine
    delete_clip(tmp_path, other)
    assert list((tmp_path / "clips").iterdir()) == []


def test_only_half_written_files_that_are_old_are_removed(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    for name, at in (("old.flac.part", 100.0), ("new.flac.part", 300.0), ("old.flac", 100.0)):
        (tmp_path / "clips" / name).write_bytes(b"x")
        os.utime(tmp_path / "clips" / name, (at, at))
    assert remove_parts(tmp_path, before=200.0) == 1
    assert sorted(path.name for path in (tmp_path / "clips").iterdir()) == [
        "new.flac.part",
        "old.flac",
    ]
    assert remove_parts(tmp_path) == 1
    assert remove_parts(tmp_path / "nothing") == 0
