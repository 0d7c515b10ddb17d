"""Clips without rows and rows without clips."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edgeprune_device.clips.clip_files import delete_clip, write_clip
from edgeprune_device.clips.clip_recorder import ClipInProgress, ClipRecorder
from edgeprune_device.clips.orphans import unrecorded, vanished
from edgeprune_device.settings import Clips as ClipSettings

NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


@pytest.fixture
def written(tmp_path: Path) -> list[ClipInProgress]:
    clips = ClipRecorder(ClipSettings(save=True, before_seconds=2.0), tmp_path, 1000)
    clips.push(0, np.zeros(9000, np.float32))
    for number, utc in enumerate((NOON, None, NOON)):
        clips.want(
            f"a{number}", "Tawny owl", 1000 * number, 1000 * number + 500, score=0.5, utc=utc
        )
    return clips.ready(None, 9000)


def test_a_clip_without_a_row_tells_what_belongs_in_it(
    tmp_path: Path, written: list[ClipInProgress]
) -> None:
    by_path = {clip.path: clip for clip in written}
    assert {clip.path: clip for clip in unrecorded(tmp_path, [])} == by_path
    assert unrecorded(tmp_path, [written[0].path, written[1].path]) == [written[2]]
    assert not unrecorded(tmp_path, by_path)


def test_a_file_without_our_tags_is_left_out(tmp_path: Path, written: list[ClipInProgress]) -> None:
    write_clip(tmp_path, "clips/2026-05-01/owl/120000_b1.flac", b"fLaC and no more")
    assert len(unrecorded(tmp_path, [])) == 3


def test_a_row_without_a_clip_is_named_unless_the_disk_is_away(
    tmp_path: Path, written: list[ClipInProgress]
) -> None:
    paths = [clip.path for clip in written]
    assert not vanished(tmp_path, paths)
    delete_clip(tmp_path, paths[1])
    assert vanished(tmp_path, paths) == [paths[1]]
    (tmp_path / "clips").rename(tmp_path / "away")
    (tmp_path / "clips").mkdir()
    assert not vanished(tmp_path, paths)
