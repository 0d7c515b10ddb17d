"""Probes of doctor besides the audio: disk, journal, bundle, permissions, sinks; no judgement.

Each function examines one thing and returns what it found; ``checks`` judges it.
"""

from __future__ import annotations

import grp
import os
import shutil
import socket
import sqlite3
import ssl
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.bundle_store import resolve
from edgeprune_device.inference.choose_variant import choose_variant
from edgeprune_device.journal.schema import DATABASE
from edgeprune_device.monitoring.latency import LatencyTrack
from edgeprune_device.settings import Mqtt, Settings
from edgeprune_device.sinks.credentials import read_secret

SYNCS, SYNC_BYTES = 5, 4096
CHECK_SECONDS = 20.0  # for a large journal
SINK_SECONDS = 5.0
WARM_WINDOWS, FEWEST_WINDOWS, TIMED_SECONDS = 3, 20, 3.0


@dataclass(frozen=True)
class Failure:
    """Something that failed: the error and its hint."""

    text: str
    hint: str = ""


def disk(folder: Path) -> dict[str, Any]:
    """Return a journal folder's disk: ``free_mb``, ``total_mb``, ``fsync_ms`` (median), ``error``.

    For a folder that does not exist yet, its nearest existing parent is examined.
    """
    place = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    found: dict[str, Any] = {"folder": str(place), "fsync_ms": None, "error": ""}
    try:
        used = shutil.disk_usage(place)
        found |= {"free_mb": used.free / 1e6, "total_mb": used.total / 1e6}
        times = []
        with tempfile.TemporaryFile(dir=place) as file:
            for _ in range(SYNCS):
                begin = time.perf_counter()
                file.write(os.urandom(SYNC_BYTES))
                file.flush()
                os.fsync(file.fileno())
                times.append(1000 * (time.perf_counter() - begin))
        found["fsync_ms"] = float(np.median(times))
    except OSError as error:
        found["error"] = f"{place} cannot be written: {error.strerror}."
    return {"free_mb": None, "total_mb": None} | found


def journal(folder: Path, seconds: float = CHECK_SECONDS) -> dict[str, Any] | None:
    """Return SQLite's check of a journal: ``ok``, ``said``, ``detections``; None: no journal.

    It is opened read-only, so that a recorder may be running. ``ok`` is None if the check took too
    long or was not possible.
    """
    file = folder / DATABASE
    if not file.is_file():
        return None
    end = time.monotonic() + seconds
    try:
        with closing(sqlite3.connect(f"{file.absolute().as_uri()}?mode=ro", uri=True)) as database:
            database.set_progress_handler(lambda: int(time.monotonic() > end), 10_000)
            said = str(database.execute("PRAGMA quick_check(3)").fetchone()[0])
            count = database.execute("SELECT count(*) FROM detections").fetchone()[0]
            return {"ok": said == "ok", "said": said, "detections": int(count)}
    except sqlite3.OperationalError as error:
        return {"ok": None, "said": str(error), "detections": None}
    except sqlite3.DatabaseError as error:
        return {"ok": False, "said": str(error), "detections": None}


@dataclass(frozen=True)
class Opened:
    """A bundle that was read, checked and timed on this machine."""

    bundle: Bundle
    golden_difference: float
    latency: Mapping[str, Any]
    """As from ``latency.LatencyTrack.summary``."""
    sentence: str
    """Which of two model files was chosen."""


def bundle(
    path: Path, settings: Settings, sound: Callable[[Bundle], NDArray[np.float32] | None],
    clock: Callable[[], float] = time.perf_counter,
) -> Opened | Failure:  # fmt: skip
    """Read a bundle, compare its golden outputs, and time its windows.

    Parameters
    ----------
    path : Path
        A bundle, or the ``current`` of a store.
    settings : Settings
        Threads, hop and trusted keys.
    sound : callable
        Returns the audio to time the bundle on, at its rate; None: its golden inputs.
    clock : callable
        Returns seconds.

    """
    try:
        read = read_bundle(resolve(path), settings.security)
        picked = choose_variant(read, settings.operate.threads)
    except EdgepruneError as error:
        return Failure(str(error), error.hint)
    heard, size = sound(read), read.window_samples
    windows = [golden.samples for golden in picked.bundle.golden]
    if heard is not None and len(heard) >= size:
        windows = [heard[at : at + size] for at in range(0, len(heard) - size + 1, size)]
    for index in range(WARM_WINDOWS):
        picked.run(windows[index % len(windows)])
    latencies, start, count = LatencyTrack(), clock(), 0
    while count < FEWEST_WINDOWS or clock() - start < TIMED_SECONDS:
        begin = clock()
        picked.run(windows[count % len(windows)])
        latencies.add(1000 * (clock() - begin))
        count += 1
        if clock() - start > 10 * TIMED_SECONDS:
            break
    hop = settings.decide.hop_seconds or read.hop_samples / read.sample_rate
    summary = latencies.summary(hop, size / read.sample_rate)
    return Opened(read, picked.golden_difference, summary, picked.sentence)


def rights(root: Path = Path("/")) -> dict[str, Any]:
    """Return ``root``, ``audio`` (in that group), sound ``devices``, and those ``closed`` to the user."""
    folder = root / "dev/snd"
    devices = sorted(str(path) for path in folder.glob("pcm*c"))
    groups = set()
    for number in {*os.getgroups(), os.getegid()}:
        try:
            groups.add(grp.getgrgid(number).gr_name)
        except KeyError:
            continue
    return {
        "root": os.geteuid() == 0, "audio": "audio" in groups, "devices": devices,
        "closed": [path for path in devices if not os.access(path, os.R_OK | os.W_OK)],
    }  # fmt: skip


def available_mb(root: Path = Path("/")) -> float | None:
    """Return the memory available to programs in MB (1e6 bytes); None if unknown."""
    try:
        lines = (root / "proc/meminfo").read_text("ascii").splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


def sinks(settings: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Return each configured sink with its problem, or empty; no detection is sent."""
    found = {}
    if settings.mqtt.host:
        found["mqtt"] = _asked(lambda: _mqtt(settings.mqtt, environ))
    if settings.webhook.url:
        found["webhook"] = _asked(lambda: _webhook(settings, environ))
    if settings.command.run:
        program = settings.command.run[0]
        found["command"] = "" if shutil.which(program) else f"There is no program {program}."
    return found


def _asked(ask: Callable[[], None]) -> str:
    try:
        ask()
    except EdgepruneError as error:
        return str(error)
    except (OSError, ValueError) as error:
        return f"It cannot be reached: {getattr(error, 'strerror', None) or error}."
    return ""


def _webhook(settings: Settings, environ: Mapping[str, str]) -> None:
    """Open a connection to a webhook's host, with TLS if needed, without a request."""
    read_secret(settings.webhook.token_env, settings.webhook.token_file, environ, "webhook.token")
    parts = urlsplit(settings.webhook.url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise EdgepruneError("webhook.url is not an http:// or https:// address.")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    with socket.create_connection((parts.hostname, port), SINK_SECONDS) as plain:
        if parts.scheme == "https":
            context = ssl.create_default_context()
            context.wrap_socket(plain, server_hostname=parts.hostname).close()


def _mqtt(mqtt: Mqtt, environ: Mapping[str, str]) -> None:
    """Connect to a broker without publishing anything."""
    from paho.mqtt.client import Client
    from paho.mqtt.enums import CallbackAPIVersion

    password = read_secret(mqtt.password_env, mqtt.password_file, environ, "mqtt.password")
    answered, answer = threading.Event(), list[str]()

    def on_connect(_c: Any, _u: Any, _f: Any, reason: Any, _p: Any) -> None:
        if reason.is_failure:
            answer.append(str(reason))
        answered.set()

    client = Client(CallbackAPIVersion.VERSION2, f"edgeprune-doctor-{os.getpid()}",
                    reconnect_on_failure=False)  # fmt: skip
    client.on_connect, client.connect_timeout = on_connect, SINK_SECONDS
    if mqtt.username:
        client.username_pw_set(mqtt.username, password.reveal() or None)
    if mqtt.tls:
        client.tls_set()
    client.connect(mqtt.host, mqtt.port)
    client.loop_start()
    try:
        if not answered.wait(SINK_SECONDS):
            raise EdgepruneError(f"{mqtt.host} did not respond within {SINK_SECONDS:g} s.")
        if answer:
            raise EdgepruneError(f"{mqtt.host} refused the connection: {answer[0]}.")
    finally:
        client.disconnect()
        client.loop_stop()
