"""Retention: what is deleted, what never is, and that a step is short however much there is."""

from __future__ import annotations

import errno
import os
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.clips import retention as module
from edgeprune_device.clips.clip_files import ClipFile, find_clips, set_lock, write_clip
from edgeprune_device.clips.clip_recorder import ClipInProgress
from edgeprune_device.clips.retention import EARLIEST, ClipRetention, plan
from edgeprune_device.settings import Retention as RetentionSettings

NOW = datetime(2026, 5, 20, 12, 0, 0, tzinfo=UTC)
DAY = 86_400.0
PLENTY = 10**12
NONE = RetentionSettings(free_megabytes=0, ballast_megabytes=0)

clip_files = st.builds(
    ClipFile,
    path=st.uuids().map(str),
    label=st.sampled_from(["owl", "robin", "wren"]),
    seconds=st.one_of(st.floats(0, DAY), st.floats(EARLIEST, NOW.timestamp() + 10 * DAY)),
    bytes=st.integers(0, 5_000_000),
    locked=st.booleans(),
)
all_settings = st.builds(
    RetentionSettings, days=st.sampled_from([0.0, 1.0, 100.0]),
    megabytes=st.sampled_from([0.0, 1.0, 20.0]), free_megabytes=st.sampled_from([0.0, 5.0, 50.0]),
    keep_per_label=st.integers(0, 4),
)  # fmt: skip
listings = st.lists(clip_files, max_size=25)


@given(listings, all_settings, st.integers(0, 60_000_000), st.booleans())
def test_the_plan_keeps_what_must_be_kept_and_deletes_no_more_than_it_must(
    clips: list[ClipFile], settings: RetentionSettings, free: int, trusted: bool
) -> None:
    now = NOW.timestamp()
    done = plan(clips, now, free, settings, trusted=trusted)
    gone = {clip.path for clip in done.delete}
    left = [clip for clip in clips if clip.path not in gone]
    assert len(gone) == len(done.delete) == len(done.reasons)
    assert not any(clip.locked for clip in done.delete)

    # Of each label the newest are left: at least so many as are to be kept, or as there were.
    for label in ("owl", "robin", "wren"):
        newest = sorted((c for c in clips if c.label == label), key=lambda c: (c.seconds, c.path))
        for clip in newest[::-1][: settings.keep_per_label]:
            assert clip in left

    # What may still go is neither too old nor needed.
    counted = Counter(clip.label for clip in left)
    oldest_left = sorted(left, key=lambda c: (c.seconds, c.path))
    ranks: Counter[str] = Counter()
    spare = []
    for clip in oldest_left:
        ranks[clip.label] += 1
        if not clip.locked and ranks[clip.label] <= counted[clip.label] - settings.keep_per_label:
            spare.append(clip)
    removed = sum(clip.bytes for clip in done.delete)
    if spare:
        assert not settings.megabytes or sum(c.bytes for c in left) <= settings.megabytes * 1e6
        assert free + removed >= settings.free_megabytes * 1e6
    assert done.missing_bytes == max(0, settings.free_megabytes * 1e6 - free - removed)
    aged = [c for c in done.delete if settings.days and c.seconds < now - settings.days * DAY]
    assert all(c in aged for c, reason in zip(done.delete, done.reasons, strict=True)
               if reason == "age")  # fmt: skip
    if settings.days and trusted:
        assert not [c for c in spare if EARLIEST <= c.seconds < now - settings.days * DAY]

    # The last one that went for room was needed.
    if done.reasons and done.reasons[-1] != "age":
        before = removed - done.delete[-1].bytes
        over = sum(c.bytes for c in clips) - before > settings.megabytes * 1e6 > 0
        assert over or free + before < settings.free_megabytes * 1e6


@given(listings, st.integers(0, 60_000_000))
def test_without_limits_nothing_is_deleted(clips: list[ClipFile], free: int) -> None:
    assert not plan(clips, NOW.timestamp(), free, NONE).delete


@given(listings)
def test_a_clock_that_cannot_be_believed_ages_nothing(clips: list[ClipFile]) -> None:
    settings = RetentionSettings(days=1.0, free_megabytes=0)
    assert not plan(clips, NOW.timestamp() + 1e9, PLENTY, settings, trusted=False).delete
    assert not plan(clips, 12.0, PLENTY, settings).delete


def clip(
    folder: Path,
    label: str,
    days_ago: float,
    size: int = 1000,
    name: str = "",
    locked: bool = False,
) -> str:
    utc = NOW - timedelta(days=days_ago)
    path = f"clips/{utc:%Y-%m-%d}/{label}/{utc:%H%M%S}_{name or os.urandom(4).hex()}.flac"
    write_clip(folder, path, b"x" * size)
    if locked:
        set_lock(folder, path, True)
    return path


def there(folder: Path) -> set[str]:
    return {found.path for found in find_clips(folder)}


def retention(folder: Path, **settings: float) -> ClipRetention:
    given_settings = RetentionSettings(**{"free_megabytes": 0, "ballast_megabytes": 0, **settings})  # type: ignore[arg-type]
    return ClipRetention(given_settings, folder, now=NOW.timestamp)


def test_old_clips_go_with_their_empty_folders_and_the_rest_stays(tmp_path: Path) -> None:
    old = [clip(tmp_path, "owl", 9), clip(tmp_path, "owl", 8)]
    kept = {
        clip(tmp_path, "owl", 9, locked=True),
        clip(tmp_path, "robin", 9),
        clip(tmp_path, "owl", 1),
    }
    keeper = retention(tmp_path, days=7, keep_per_label=1)
    [notice] = keeper.step()
    assert there(tmp_path) == kept
    assert sorted(keeper.deleted()) == sorted(old)
    assert keeper.deleted() == []
    assert (notice.kind, notice.details["age"]) == ("clips-deleted", 2)
    assert not (tmp_path / old[1]).parent.exists()


def test_size_is_counted_in_blocks_of_the_disk(tmp_path: Path) -> None:
    paths = [clip(tmp_path, "owl", 9 - n, 100) for n in range(5)]  # 100 bytes take a block each
    block = os.stat(tmp_path / paths[0]).st_blocks * 512
    keeper = retention(tmp_path, megabytes=3 * block / 1e6)
    keeper.step()
    assert there(tmp_path) == set(paths[2:])


def test_what_is_no_clip_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    outside = clip(tmp_path / "elsewhere", "owl", 300)
    path = clip(tmp_path, "owl", 300)
    folder = (tmp_path / path).parent
    (folder / "notes.txt").write_text("mine")
    (folder / "my.flac").write_text("mine")
    (tmp_path / "clips" / "2020-01-01").symlink_to(tmp_path / "elsewhere" / "clips")
    (folder / "120000_ab.flac").symlink_to(tmp_path / "elsewhere" / outside)
    retention(tmp_path, days=7).step()
    assert not (tmp_path / path).exists()
    assert (tmp_path / "elsewhere" / outside).exists()
    assert sorted(p.name for p in folder.iterdir()) == ["120000_ab.flac", "my.flac", "notes.txt"]


def test_a_lock_that_is_set_after_the_scan_still_counts(tmp_path: Path) -> None:
    path = clip(tmp_path, "owl", 5)
    keeper = retention(tmp_path, days=7, every_seconds=1)
    keeper.step()
    set_lock(tmp_path, path, True)
    keeper.settings = RetentionSettings(days=1, free_megabytes=0)
    keeper.step(urgent=True)
    assert there(tmp_path) == {path}
    set_lock(tmp_path, path, False)
    keeper._index.stale()
    keeper.step(urgent=True)
    assert not there(tmp_path)


def test_a_clip_written_just_now_counts_without_another_look(tmp_path: Path) -> None:
    keeper = retention(tmp_path, megabytes=0.01)
    keeper.step()
    paths = [clip(tmp_path, "owl", 3 - n, 4000) for n in range(3)]
    keeper.wrote(ClipInProgress("a", "owl", path, 0, 9, 4000, NOW - timedelta(days=3 - n), 0.5, ())
                 for n, path in enumerate(paths))  # fmt: skip
    keeper.step(urgent=True)
    assert there(tmp_path) == set(paths[1:])


def test_steps_between_their_times_do_nothing(tmp_path: Path) -> None:
    moment = [0.0]
    keeper = ClipRetention(
        RetentionSettings(days=7, free_megabytes=0, ballast_megabytes=0), tmp_path,
        now=NOW.timestamp, clock=lambda: moment[0],
    )  # fmt: skip
    keeper.step()
    keeper._index.stale()
    path = clip(tmp_path, "owl", 9)
    moment[0] = 59.0
    assert not keeper.step()
    assert there(tmp_path) == {path}
    moment[0] = 61.0
    assert [notice.kind for notice in keeper.step()] == ["clips-deleted"]


def test_nothing_is_deleted_before_all_was_seen(tmp_path: Path) -> None:
    """A scan that its time cuts short must not take the newest it saw for the newest there is."""
    for number in range(600):
        clip(tmp_path, "owl", 9, 10, f"{number:04d}")
    moment = [0.0]

    def slow() -> float:
        moment[0] += 0.15
        return moment[0]

    keeper = ClipRetention(RetentionSettings(days=7, free_megabytes=0, ballast_megabytes=0), tmp_path,
                           now=NOW.timestamp, clock=slow)  # fmt: skip
    keeper.step()
    assert len(there(tmp_path)) == 600
    for _ in range(1000):
        keeper.step()
        if not there(tmp_path):
            break
    assert not there(tmp_path)


def test_storage_that_was_swapped_is_left_alone_until_it_is_back(tmp_path: Path) -> None:
    folder = tmp_path / "j"
    folder.mkdir()
    keeper = retention(folder, days=7)
    keeper.step(urgent=True)
    folder.rename(tmp_path / "away")
    folder.mkdir()
    path = clip(folder, "owl", 9)
    [notice] = keeper.step(urgent=True)
    assert notice.kind == "disk-detached"
    assert there(folder) == {path}
    assert not keeper.step(urgent=True), "said once"
    folder.rename(tmp_path / "other")
    (tmp_path / "away").rename(folder)
    clip(folder, "owl", 9)
    keeper._index.stale()
    kinds = [(notice.kind, notice.details.get("raised")) for notice in keeper.step(urgent=True)]
    assert kinds == [("disk-detached", False), ("clips-deleted", None)]


def test_what_cannot_be_deleted_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = clip(tmp_path, "owl", 9)
    keeper = retention(tmp_path, days=7)

    def read_only(*_: object, **__: object) -> None:
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", read_only)
        assert [notice.kind for notice in keeper.step(urgent=True)] == ["clips-stuck"]
        assert not keeper.step(urgent=True)
    assert there(tmp_path) == {path}
    kinds = [notice.kind for notice in keeper.step(urgent=True)]
    assert sorted(kinds) == ["clips-deleted", "clips-stuck"]


def test_old_half_written_files_are_removed_and_new_ones_left(tmp_path: Path) -> None:
    (tmp_path / "clips").mkdir()
    old, new = (tmp_path / "clips" / f"{name}.flac.part" for name in ("old", "new"))
    for part, age in ((old, 7200.0), (new, 60.0)):
        part.write_bytes(b"fLaC")
        os.utime(part, (NOW.timestamp() - age,) * 2)
    retention(tmp_path).step()
    assert not old.exists()
    assert new.exists()


@pytest.mark.slow
def test_no_step_takes_a_second_with_a_hundred_thousand_clips(tmp_path: Path) -> None:
    """One run: 100,000 clips of 50 labels in 200 days; scan, plan, delete 20,000; the longest step."""
    for day in range(200):
        utc = NOW - timedelta(days=day)
        for label in range(50):
            folder = tmp_path / "clips" / f"{utc:%Y-%m-%d}" / f"label-{label}"
            folder.mkdir(parents=True)
            for number in range(10):
                (folder / f"12000{number}_{day:04d}{label:02d}{number}.flac").touch()
    keeper = retention(tmp_path, days=160, keep_per_label=10)
    longest, steps = 0.0, 0
    while len(there(tmp_path)) > 81_000 if steps > 10 else True:
        began = time.process_time()  # not of the others on a busy machine
        keeper.step(urgent=True)
        longest = max(longest, time.process_time() - began)
        steps += 1
        assert steps < 200
    quiet = []
    for _ in range(5):
        began = time.process_time()
        keeper.step(urgent=True)
        quiet.append(time.process_time() - began)
    print(f"{steps} steps, the longest {longest:.2f} s; nothing to do: {max(quiet):.3f} s")
    assert longest < 1.0


def test_a_look_that_fails_half_way_is_no_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that fails once: the next step sees all four clips, and not the one before the error."""
    for day in range(1, 5):
        write_clip(tmp_path, f"clips/2026-05-0{day}/owl/000000_{day:016d}.flac", b"x" * 4000)
    tries = []

    def failing(folder: Path) -> Iterator[ClipFile]:
        tries.append(folder)
        for clip in find_clips(folder):
            yield clip
            if len(tries) == 1:
                raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(module, "find_clips", failing)
    now = [0.0]
    keeper = ClipRetention(
        RetentionSettings(megabytes=0.01, free_megabytes=0, ballast_megabytes=0), tmp_path,
        clock=lambda: now[0],
    )  # fmt: skip
    kinds = []
    for _ in range(3):
        kinds += [notice.kind for notice in keeper.step()]
        now[0] += 60
    assert kinds[0] == "clips-stuck"
    assert len(list(find_clips(tmp_path))) == 2


def test_a_disk_that_needs_room_to_delete_gets_it_by_emptying_the_file_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """btrfs answers ENOSPC to unlink where all its room is taken; once emptied, it obeys."""
    path = clip(tmp_path, "owl", 9)
    unlink = Path.unlink

    def full(self: Path, missing_ok: bool = False) -> None:
        if self.suffix == ".flac" and self.stat().st_size:
            raise OSError(28, "No space left on device")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", full)
    keeper = retention(tmp_path, days=7)
    keeper.step()
    assert keeper.deleted() == [path]
