"""Clips listed, locked and forgotten; the commands of the keeper."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from edgeprune.cli.app import app
from edgeprune_device.clips.clip_files import find_clips
from edgeprune_device.clips.clip_recorder import ClipRecorder
from edgeprune_device.clips.forget import ClipFilter, forget, list_clips, lock, moment_of
from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.journal.journal import Journal
from edgeprune_device.settings import Clips as ClipSettings

RATE = 1000
NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)
HEARD = [("owl", 0), ("Turdus merula", 1), ("owl", 2), ("../\x1b[2J", 3)]
"""Label, and days after NOON."""


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    """A journal with a detection and a clip a day, and the table of clips as the recorder has it."""
    folder = tmp_path / "journal"
    for label, day in HEARD:
        then = partial(datetime.fromtimestamp, (NOON + timedelta(days=day)).timestamp(), UTC)
        with Journal(folder, "birds", "d" * 64, "mic", live=True, clock=then) as book:
            book.add(Detection(label, 0.9, 1.0, 2.0), RATE)
            book.close({})
    with sqlite3.connect(folder / "journal.sqlite") as database:
        rows = database.execute("SELECT id, label, utc FROM detections ORDER BY utc").fetchall()
    clips = ClipRecorder(ClipSettings(save=True), folder, RATE)
    clips.push(0, np.zeros(9000, np.float32))
    for id_, label, utc in rows:
        clips.want(id_, label, 1000, 2000, score=0.9, utc=datetime.fromisoformat(utc))
    written = clips.ready(None, 9000)
    assert len(written) == len(HEARD)
    with sqlite3.connect(folder / "journal.sqlite") as database:
        database.execute("DROP TABLE IF EXISTS clips")
        database.execute("CREATE TABLE clips (path TEXT PRIMARY KEY, detection TEXT)")
        database.executemany(
            "INSERT INTO clips (path, detection) VALUES (?, ?)", [(c.path, c.id) for c in written]
        )
    return folder


def labels(folder: Path) -> list[str]:
    return [clip["label"] for clip in list_clips(folder)]


def rows(folder: Path, table: str) -> list[dict[str, Any]]:
    with sqlite3.connect(folder / "journal.sqlite") as database:
        database.row_factory = sqlite3.Row
        return [dict(row) for row in database.execute(f"SELECT * FROM {table}")]


def test_clips_are_listed_with_what_the_journal_knows(journal: Path) -> None:
    found = list_clips(journal)
    assert [clip["label"] for clip in found] == [label for label, _ in HEARD]
    assert [clip["utc"][:10] for clip in found] == [f"2026-05-0{1 + day}" for _, day in HEARD]
    assert all(clip["score"] == 0.9 and not clip["locked"] for clip in found)


def test_without_a_database_the_tags_tell(journal: Path) -> None:
    for name in ("journal.sqlite", "journal.sqlite-wal", "journal.sqlite-shm"):
        (journal / name).unlink(missing_ok=True)
    assert labels(journal) == [label for label, _ in HEARD]
    (journal / "journal.sqlite").write_bytes(b"no database at all" * 99)
    assert labels(journal) == [label for label, _ in HEARD]


def test_locks_are_set_and_taken_back(journal: Path) -> None:
    first = list_clips(journal)[0]
    assert lock(journal, [first["id"]], locked=True) == [first["path"]]
    assert [clip["locked"] for clip in list_clips(journal)] == [True, False, False, False]
    lock(journal, [first["id"]], locked=False)
    assert not any(clip["locked"] for clip in list_clips(journal))
    with pytest.raises(EdgepruneError, match="no clip 0000"):
        lock(journal, [first["id"], "0000"], locked=True)
    assert not any(clip["locked"] for clip in list_clips(journal))


@pytest.mark.parametrize(
    ("which", "left"),
    [
        (ClipFilter(label="owl"), ["Turdus merula", "../\x1b[2J"]),
        (ClipFilter(label="Turdus Merula"), [label for label, _ in HEARD]),
        (ClipFilter(before=NOON + timedelta(days=1, hours=6)), ["owl", "../\x1b[2J"]),
        (ClipFilter("owl", NOON + timedelta(days=1)), ["Turdus merula", "owl", "../\x1b[2J"]),
        (ClipFilter(label="../\x1b[2J"), ["owl", "Turdus merula", "owl"]),
        (ClipFilter(), []),
    ],
)
@pytest.mark.parametrize("with_rows", [False, True])
def test_only_what_was_named_is_forgotten(
    journal: Path, which: ClipFilter, left: list[str], with_rows: bool
) -> None:
    gone = len(HEARD) - len(left)
    done = forget(journal, which, rows=with_rows)
    assert done == {"clips": gone, "detections": gone if with_rows else 0, "waiting": 0}
    assert labels(journal) == left
    assert {row["path"] for row in rows(journal, "clips")} == {c.path for c in find_clips(journal)}
    kept = [row["label"] for row in rows(journal, "detections")]
    lines = [
        json.loads(x)["label"] for x in (journal / "detections.jsonl").read_text().splitlines()
    ]
    assert kept == lines == (left if with_rows else [label for label, _ in HEARD])


def test_what_was_forgotten_stands_nowhere_in_the_folder(journal: Path) -> None:
    list_of_locked = [clip["id"] for clip in list_clips(journal)]
    lock(journal, list_of_locked, locked=True)
    forget(journal, ClipFilter(), rows=True)
    for path in journal.rglob("*"):
        if path.is_file():
            assert b"Turdus merula" not in path.read_bytes(), path
    assert not [p for p in journal.rglob("*") if p.suffix in (".flac", ".lock", ".part")]


def test_the_journal_goes_on_after_rows_were_forgotten(journal: Path) -> None:
    with Journal(journal, "birds", "d" * 64, "mic", live=True, clock=lambda: NOON) as book:
        forget(journal, ClipFilter(label="owl"), rows=True)
        book.add(Detection("wren", 0.8, 5.0, 6.0), 5 * RATE)
        book.close({})
    kept = [row["label"] for row in rows(journal, "detections")]
    lines = [
        json.loads(x)["label"] for x in (journal / "detections.jsonl").read_text().splitlines()
    ]
    assert kept == lines == ["Turdus merula", "../\x1b[2J", "wren"]


def test_a_locked_database_leaves_the_rows_and_says_so(
    journal: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeprune_device.clips.forget.BUSY_MILLISECONDS", 50)
    other = sqlite3.connect(journal / "journal.sqlite", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(
        EdgepruneError, match="4 clips were deleted; their rows could not be deleted"
    ) as raised:
        forget(journal, ClipFilter(), rows=True)
    assert raised.value.status == 1
    assert not list(find_clips(journal))
    other.execute("ROLLBACK")
    other.close()
    assert forget(journal, ClipFilter(), rows=True)["detections"] == 4


def test_rows_that_wait_in_a_spool_are_counted(journal: Path) -> None:
    (journal / "spool.jsonl").write_text('["detections", {}]\n' * 3)
    assert forget(journal, ClipFilter(), rows=True)["waiting"] == 3


def test_a_date_is_utc_and_nonsense_is_refused() -> None:
    assert moment_of("2026-05-01") == datetime(2026, 5, 1, tzinfo=UTC)
    assert moment_of("2026-05-01T10:00+02:00") == datetime(2026, 5, 1, 8, tzinfo=UTC)
    with pytest.raises(EdgepruneError, match="is not a date"):
        moment_of("yesterday")


def run(*arguments: str, answer: str = "") -> Any:
    return CliRunner().invoke(app, list(arguments), input=answer)


def test_the_command_lists_without_control_characters_and_locks(journal: Path) -> None:
    shown = run("clips", str(journal)).output
    assert len(shown.splitlines()) == 4
    assert "\x1b" not in shown
    name = list_clips(journal)[0]["id"]
    assert "locked" in run("clips", str(journal), "--lock", name).output
    told = json.loads(run("clips", str(journal), "--json").output)
    assert [clip["locked"] for clip in told["clips"]] == [True, False, False, False]


def test_the_command_asks_before_it_forgets(journal: Path) -> None:
    refused = run("forget", str(journal), "--all", answer="n\n")
    assert "Delete 4 clips (0 of them locked) for good?" in refused.output
    assert isinstance(refused.exception, EdgepruneError)
    assert len(list_clips(journal)) == 4
    for wrong in ([], ["--all", "--label", "owl"]):
        assert isinstance(run("forget", str(journal), *wrong).exception, EdgepruneError)
    assert "1 clips" in run("forget", str(journal), "--before", "2026-05-02", "--yes").output
    assert "3 clips" in run("forget", str(journal), "--all", answer="y\n").output


def test_the_other_commands_run(journal: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    store, out = str(tmp_path / "store"), str(tmp_path / "s.zip")
    done = json.loads(run("install", str(tiny_bundle), store, "--json").output)
    assert done["changed"]
    assert "was current already" in run("install", str(tiny_bundle), store).output
    assert isinstance(run("rollback", store).exception, EdgepruneError)
    assert "settings.json" in run("support", str(journal), "-o", out, "--bundle", store).output
