"""The journal's tables and columns, from the statements that make them."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing

from edgeprune_device.journal.schema import TABLES, VERSION
from edgeprune_device.sinks.outbox import CURSORS
from generators.markdown import table

ABOUT = {
    "meta": "Facts about the journal itself.",
    "sessions": "One row for each start of the recorder, or each file that was processed.",
    "detections": "One row for each reported event.",
    "events": "Everything that happened to the recorder: a lost microphone, an alarm, a change of "
    "load. The kinds are listed [below](#kinds-of-events).",
    "coverage": "How many samples of each hour were analysed, dropped, invalid or not captured. "
    "See [the coverage ledger](../explanation/coverage-ledger.md).",
    "clips": "One row for each audio clip on the disk.",
}
COLUMNS = {
    "meta.key": "`lines_bytes`: the length of `detections.jsonl` at the last commit.",
    "meta.value": "Its value.",
    "sessions.id": "Number of the session, never used twice.",
    "sessions.started_utc": "Start, ISO 8601, UTC.",
    "sessions.ended_utc": "End; NULL while it runs or after an exit without a proper end.",
    "sessions.bundle": "Name of the bundle.",
    "sessions.bundle_digest": "SHA-256 of its `bundle.json`.",
    "sessions.source": "Microphone or file name.",
    "sessions.stats": "The content of `stats.json` at the end of the session.",
    "sessions.last_alive": "Time of the last commit, UTC: at most a minute old while it runs.",
    "sessions.clean": "NULL while it runs, 0 after an exit without a proper end, 1 after a proper one.",
    "sessions.rate": "Sample rate of the stream, Hz.",
    "sessions.live": "1 for a microphone, 0 for a file.",
    "sessions.spool": "Name of the spool file in which rows of this session wait.",
    "detections.seq": "Rises with every row and is never used twice.",
    "detections.id": "16 hexadecimal digits, derived from the bundle, the source, the first sample "
    "and the label: the same file processed twice gives the same ids.",
    "detections.session": "The session.",
    "detections.utc": "Time of the event, UTC; NULL for a file.",
    "detections.clock": "`synchronised`, `unsynchronised` or `unknown`.",
    "detections.offset_bound_seconds": "By how much the clock may be wrong at most, where that is "
    "known.",
    "detections.throttled": "The Raspberry Pi's `get_throttled` flags (under-voltage, throttling) at "
    "that time.",
    "detections.start_seconds": "Start of the event's most certain window, in seconds of the stream, "
    "lost audio included.",
    "detections.end_seconds": "End of that window.",
    "detections.first_sample": "The same start, in samples.",
    "detections.last_sample": "The same end, in samples.",
    "detections.label": "The label; for a model with `ctc`, the recognised text.",
    "detections.score": "Smoothed score of that window, 0 to 1.",
    "detections.bundle_digest": "SHA-256 of the `bundle.json` that made the detection.",
    "events.seq": "Rises with every row and is never used twice.",
    "events.id": "Unique name of the event.",
    "events.session": "The session.",
    "events.utc": "Time, UTC.",
    "events.sample": "Position in the stream, in samples.",
    "events.kind": "Short name for programs, such as `microphone-lost`.",
    "events.text": "One sentence for people.",
    "events.details": "JSON with the figures behind it.",
    "coverage.session": "The session.",
    "coverage.hour": "`2026-05-01T12` (UTC); for a file, the number of the hour in the stream.",
    "coverage.kind": "`analysed`, `dropped`, `invalid` or `not captured`.",
    "coverage.reason": "Why; empty for analysed samples.",
    "coverage.samples": "Number of samples; the numbers of a session add up to its length.",
    "clips.path": "Path of the file, relative to the journal folder.",
    "clips.detection": "Id of the detection.",
    "clips.session": "The session.",
    "clips.utc": "Time of the first sample, UTC; NULL for a file.",
    "clips.first_sample": "First sample of the clip in the stream.",
    "clips.samples": "Length in samples.",
    "clips.bytes": "Size of the file.",
    "clips.locked": "1: never deleted to make room (`edgeprune clips --lock`).",
    "deliveries.sink": "`mqtt`, `webhook` or `command`.",
    "deliveries.target": "Digest of the receiver's address.",
    "deliveries.seq": "`seq` of the last detection that the receiver has.",
    "deliveries.id": "Its id.",
}
"""Meaning of every column; a column that is missing here stops the generator."""


def listing() -> str:
    """Return a section for each table of ``journal.sqlite``."""
    parts = [f"The version of the tables is {VERSION} (`PRAGMA user_version`)."]
    for name in _names(TABLES):
        parts.append(f"### `{name}`\n\n{ABOUT[name]}\n\n{_columns(TABLES, name)}")
    return "\n\n".join(parts)


def deliveries() -> str:
    """Return the table of ``deliveries.sqlite``."""
    return _columns((CURSORS,), "deliveries")


def _names(statements: tuple[str, ...]) -> list[str]:
    found = (re.match(r"CREATE TABLE (\w+)", statement) for statement in statements)
    return [name[1] for name in found if name]


def _columns(statements: tuple[str, ...], name: str) -> str:
    with closing(sqlite3.connect(":memory:")) as database:
        for statement in statements:
            database.executescript(statement)
        found = database.execute(f"PRAGMA table_info({name})").fetchall()
    rows = []
    for _, column, kind, needed, _, key in found:
        null = "primary key" if key else "no" if needed else "yes"
        rows.append((f"`{column}`", kind.lower(), null, COLUMNS[f"{name}.{column}"]))
    return table(("Column", "Type", "May be NULL", "Meaning"), rows)
