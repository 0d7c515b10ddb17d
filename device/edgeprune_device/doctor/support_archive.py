"""Writes one zip for support requests: the recorder's machine, settings, status and recent events.

Every part is text, collected independently: a part that fails contains the error. Never included:
audio, golden inputs, labels of detections (a transcript is what somebody said), secrets, the host
name, and coordinates unless requested. `redact` removes them; ``PARTS`` lists the content.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import shutil
import sqlite3
import subprocess
import tomllib
import zipfile
from collections.abc import Callable, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any
from urllib.parse import quote

from edgeprune_device.bundle.manifest import MANIFEST
from edgeprune_device.clips.clip_files import find_clips
from edgeprune_device.clips.disk import free_bytes
from edgeprune_device.doctor.redact import places_of, redact, scrub, secrets_of
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference.bundle_store import resolve
from edgeprune_device.system.files import written_whole
from edgeprune_device.system.machine import machine_facts, machine_state

DATABASE = "journal.sqlite"
MOST_EVENTS, MOST_LINES, MOST_SESSIONS = 500, 200, 20
LOG_SECONDS, CHECK_SECONDS, BUSY_MILLISECONDS = 10.0, 60.0, 2000
OPERATIONS = 10_000  # of SQLite between checks of the clock
PACKAGES = ("edgeprune", "numpy", "onnxruntime", "ai-edge-litert", "sounddevice", "soundfile",
            "soxr", "paho-mqtt", "prometheus-client", "cryptography")  # fmt: skip
GOLDEN = ("golden", "alternative_golden")
LABELLED = ("bundle.json", "about.json", "machine.json", "disk.json")
"""Parts without labels of detections, which may have those of the bundle."""
MOST_BYTES = 4 << 20  # of an included file


@dataclass(frozen=True)
class Asked:
    """What to collect."""

    journal: Path
    settings: Path | None = None
    bundle: Path | None = None
    service: str = "edgeprune"
    """Systemd unit whose log is read."""
    with_place: bool = False
    """Whether to include coordinates."""


def support(asked: Asked, out: Path) -> dict[str, Any]:
    """Write the archive.

    Parameters
    ----------
    asked : Asked
        What to collect.
    out : Path
        Zip to write.

    Returns
    -------
    dict
        `out`, and `parts`: name -> size in bytes.

    Raises
    ------
    EdgepruneError
        There is no such journal, or the zip cannot be written.

    """
    if not asked.journal.is_dir():
        raise EdgepruneError(f"There is no journal {asked.journal}.")
    table, problem = _settings_table(asked.settings)
    hidden = secrets_of(table, os.environ)
    hidden |= set() if asked.with_place else places_of(table)
    parts = {"settings.json": problem or _text(table, hidden, asked, with_labels=True)}
    for name, collect in PARTS.items():
        try:
            found = collect(asked)
        except (OSError, sqlite3.Error, ValueError, EdgepruneError) as error:
            found = f"could not be collected: {error}"
        if isinstance(found, str):
            parts[name] = scrub(found, hidden)
        elif found is not None:
            parts[name] = _text(found, hidden, asked, with_labels=name in LABELLED)
    try:
        with written_whole(out) as partial:
            handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with (
                open(handle, "wb") as file,
                zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as made,
            ):
                for name, text in parts.items():
                    made.writestr(name, text)
    except OSError as error:
        raise EdgepruneError(
            f"{out} cannot be written: {error.strerror or error}.",
            "Is the disk full?",
            FAILED_CHECK,
        ) from error
    return {"out": str(out), "parts": {name: len(text.encode()) for name, text in parts.items()}}


def _text(value: Any, hidden: set[str], asked: Asked, *, with_labels: bool) -> str:
    shown = redact(value, hidden, with_place=asked.with_place, with_labels=with_labels)
    return json.dumps(shown, indent=1, default=str)


def _settings_table(path: Path | None) -> tuple[Mapping[str, Any], str]:
    """Return the settings' tables, or why there are none (an error's text may contain a secret)."""
    if path is None:
        return {}, "no settings file was named"
    try:
        return tomllib.loads(path.read_text("utf-8")), ""
    except (OSError, ValueError) as error:
        return {}, f"could not be read: {type(error).__name__}"


def _about(asked: Asked) -> dict[str, Any]:
    versions = {}
    for name in PACKAGES:
        with suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "created": datetime.now(UTC).isoformat(timespec="seconds"), "versions": versions,
        "sqlite": sqlite3.sqlite_version, "with_place": asked.with_place,
        "left_out": "audio, golden inputs, labels of detections, secrets, the host name"
        + ("" if asked.with_place else ", coordinates"),
    }  # fmt: skip


def _machine(_asked: Asked) -> dict[str, Any]:
    return {"facts": machine_facts(), "state": machine_state()}


def _bundle(asked: Asked) -> dict[str, Any] | None:
    if asked.bundle is None:
        return None
    path = resolve(asked.bundle)
    if path.is_file():
        with zipfile.ZipFile(path) as packed, packed.open(MANIFEST) as file:
            raw = file.read(MOST_BYTES)
    else:
        raw = (path / MANIFEST).read_bytes()[:MOST_BYTES]
    manifest = json.loads(raw)
    files = {name: entry for name, entry in manifest.get("files", {}).items()
             if not name.startswith("golden/")}  # fmt: skip
    return {**{key: value for key, value in manifest.items() if key not in GOLDEN}, "files": files}


def _database(asked: Asked) -> dict[str, Any]:
    """Return the state of the database, and the number of rows in its tables."""
    file = asked.journal / DATABASE
    if not file.is_file():
        return {"problem": "there is no database"}
    uri = f"file:{quote(str(file.resolve()))}?mode=ro"
    with closing(sqlite3.connect(uri, uri=True)) as database:
        database.row_factory = sqlite3.Row
        database.execute(f"PRAGMA busy_timeout={BUSY_MILLISECONDS}")
        until = monotonic() + CHECK_SECONDS
        database.set_progress_handler(lambda: monotonic() > until, OPERATIONS)
        names = [row[0] for row in database.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]  # fmt: skip
        told: dict[str, Any] = {
            "rows": {f"{name} rows": _one(database, f'SELECT count(*) FROM "{name}"')
                     for name in names},
            "journal_mode": _one(database, "PRAGMA journal_mode"),
            "user_version": _one(database, "PRAGMA user_version"),
        }  # fmt: skip
        if "sessions" in names:
            told["sessions"] = _last(database, "sessions", MOST_SESSIONS)
        if "coverage" in names:
            told["coverage"] = [dict(row) for row in database.execute(
                "SELECT session, kind, reason, sum(samples) AS samples FROM coverage "
                "GROUP BY session, kind, reason")]  # fmt: skip
        if "events" in names:
            told["last_events"] = _last(database, "events", MOST_EVENTS)
        told["quick_check"] = [row[0] for row in database.execute("PRAGMA quick_check(10)")]
    return told


def _last(database: sqlite3.Connection, table: str, most: int) -> list[dict[str, Any]]:
    """Return the last rows of a table, oldest first; columns with JSON are parsed."""
    rows = database.execute(f"SELECT * FROM {table} ORDER BY rowid DESC LIMIT {most}").fetchall()
    shown = []
    for row in reversed(rows):
        entry = dict(row)
        for key in ("stats", "details"):
            with suppress(TypeError, ValueError, KeyError):
                entry[key] = json.loads(entry[key])
        shown.append(entry)
    return shown


def _one(database: sqlite3.Connection, query: str) -> Any:
    return database.execute(query).fetchone()[0]


def _json_file(name: str) -> Callable[[Asked], Any]:
    def read(asked: Asked) -> Any:
        path = asked.journal / name
        if not path.is_file():
            return None
        with path.open("rb") as file:
            return json.loads(file.read(MOST_BYTES))

    return read


def _disk(asked: Asked) -> dict[str, Any]:
    usage = shutil.disk_usage(asked.journal)
    inodes = os.statvfs(asked.journal)
    clips = list(find_clips(asked.journal))
    files = {
        entry.name: entry.lstat().st_size for entry in sorted(asked.journal.iterdir())
        if entry.is_file()
    }  # fmt: skip
    return {
        "total_bytes": usage.total, "used_bytes": usage.used,
        "free_bytes": free_bytes(asked.journal), "free_inodes": inodes.f_favail,
        "read_only": bool(inodes.f_flag & os.ST_RDONLY), "files": files,
        "clips": {"count": len(clips), "bytes": sum(clip.bytes for clip in clips),
                  "locked": sum(clip.locked for clip in clips)},
    }  # fmt: skip


def _log(asked: Asked) -> str:
    tool = shutil.which("journalctl")
    if tool is None:
        return "there is no journalctl"
    try:
        done = subprocess.run(
            [tool, "--unit", asked.service, "--lines", str(MOST_LINES), "--no-pager", "--quiet",
             "--no-hostname", "--output", "short-iso"],
            capture_output=True, text=True, errors="replace", timeout=LOG_SECONDS, check=False,
            stdin=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return "journalctl did not respond"
    return done.stdout or f"nothing could be read: {done.stderr.strip() or 'no entries'}"


PARTS: Mapping[str, Callable[[Asked], Any]] = {
    "about.json": _about,
    "machine.json": _machine,
    "bundle.json": _bundle,
    "database.json": _database,
    "stats.json": _json_file("stats.json"),
    "status.json": _json_file("status.json"),
    "disk.json": _disk,
    "service.log": _log,
}
