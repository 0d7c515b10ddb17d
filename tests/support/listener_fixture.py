"""``edgeprune listen`` as its user runs it: a process, watched from outside and held to account."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tiny_recordings import RATE, TONES, tone

STUB = Path(__file__).parent / "fakes" / "listen_stub.py"
PATIENCE_SECONDS = 60.0
"""The machine may be busy; what is measured is measured, not waited for."""
END_SECONDS = 5.0


def song(seconds: int) -> NDArray[np.float32]:
    """Noise with a tone of 0.3 s every second, low, middle and high in turn; 16 bits hold it."""
    sound = 0.003 * np.random.default_rng(0).standard_normal(seconds * RATE)
    for second in range(seconds):
        label = list(TONES)[second % 3]
        first = second * RATE + RATE // 2
        sound[first : first + 4800] += tone(TONES[label], 0.3, second)
    return (np.rint(sound * 32767) / 32768).astype(np.float32)


@pytest.fixture(scope="session")
def song_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("song") / "song.wav"
    soundfile.write(path, song(120), RATE, subtype="PCM_16")
    return path


class Listener:
    """One ``edgeprune listen``.

    Parameters
    ----------
    folder : Path
        Gets settings, output and, as ``j``, the journal.
    bundle : Path
    arguments : str
        More of them.
    environment : mapping or None
    settings : str
        TOML.
    stub : bool
        Through ``fakes/listen_stub.py``, whose screws lie in ``folder``.

    """

    def __init__(
        self, folder: Path, bundle: Path, *arguments: str, journal: Path | None = None,
        environment: Mapping[str, str] | None = None, settings: str = "", stub: bool = False,
        stdin: Any = subprocess.DEVNULL,
    ) -> None:  # fmt: skip
        self.folder, self.journal = folder, journal or folder / "j"
        folder.mkdir(exist_ok=True)
        (folder / "recorder.toml").write_text(settings)
        self.environment = {
            **(environment or os.environ), "SCREWS": str(folder), "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        }  # fmt: skip
        program = [str(STUB)] if stub else ["-m", "edgeprune.cli"]
        self._out, self._err = (folder / "out.txt").open("wb"), (folder / "err.txt").open("wb")
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, *program, "listen", str(bundle), "-o", str(self.journal),
             "--settings", str(folder / "recorder.toml"), *arguments],
            env=self.environment, stdin=stdin, stdout=self._out, stderr=self._err,
        )  # fmt: skip

    @property
    def said(self) -> str:
        """Standard output and standard error."""
        return (self.folder / "out.txt").read_text() + (self.folder / "err.txt").read_text()

    def until(self, done: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> float:
        """Wait until something holds while it runs; return the seconds that took."""
        began = time.monotonic()
        while not done():
            assert self.process.poll() is None, f"it has ended: {self.said}"
            assert time.monotonic() - began < seconds, f"in vain: {self.said}"
            time.sleep(0.02)
        return time.monotonic() - began

    def rows(self, query: str, *values: Any) -> list[Any]:
        """Ask the journal; nothing while there is none yet."""
        place = self.journal / "journal.sqlite"
        if not place.exists():
            return []
        with closing(sqlite3.connect(place, timeout=10)) as database:
            try:
                return database.execute(query, values).fetchall()
            except sqlite3.OperationalError:  # it is being made
                return []

    def count(self, table: str = "detections") -> int:
        rows = self.rows(f"SELECT count(*) FROM {table}")
        return int(rows[0][0]) if rows else 0

    def more(self, detections: int) -> Callable[[], bool]:
        """Return whether so many detections more are in the journal, as a function."""
        wanted = self.count() + detections
        return lambda: self.count() >= wanted

    def events(self, beginning: str = "") -> list[str]:
        """Return the kinds of its events, in order."""
        rows = self.rows("SELECT kind FROM events ORDER BY seq")
        return [kind for (kind,) in rows if kind.startswith(beginning)]

    def noted(self, kind: str, times: int = 1) -> Callable[[], bool]:
        return lambda: self.events().count(kind) >= times

    def end(self, number: signal.Signals = signal.SIGTERM, status: int = 0) -> float:
        """End it by a signal; return how long that took."""
        began = time.monotonic()
        self.process.send_signal(number)
        found = self.process.wait(30)
        seconds = time.monotonic() - began
        assert found == status, self.said
        assert "Traceback" not in self.said
        return seconds

    def wait(self, status: int = 0) -> None:
        assert self.process.wait(PATIENCE_SECONDS) == status, self.said
        assert "Traceback" not in self.said

    def close(self) -> None:
        """Kill it if it is still there."""
        self.process.kill()
        self.process.wait()
        self._out.close()
        self._err.close()

    @property
    def stats(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.journal / "stats.json").read_text("utf-8"))
        return found

    def balanced(self, *, reason: str = "interrupted") -> dict[str, Any]:
        """Assert that the last session ended cleanly and accounts for every sample."""
        stats = self.stats
        assert stats["reason"] == reason
        session, clean, kept = self.rows(
            "SELECT id, clean, stats FROM sessions ORDER BY id DESC LIMIT 1"
        )[0]
        assert clean == 1
        assert json.loads(kept) == stats
        written: dict[str, dict[str, int]] = {}
        for kind, why, samples in self.rows(
            "SELECT kind, reason, sum(samples) FROM coverage WHERE session = ? "
            "GROUP BY kind, reason", session,
        ):  # fmt: skip
            written.setdefault(kind, {})[why] = samples
        told = {kind: reasons for kind, reasons in stats["coverage"].items() if reasons}
        assert {kind: {r or "": n for r, n in reasons.items()} for kind, reasons in told.items()} \
            == written  # fmt: skip
        assert sum(sum(reasons.values()) for reasons in written.values()) \
            == stats["position_samples"]  # fmt: skip
        assert self.rows("PRAGMA quick_check") == [("ok",)]
        lines = (self.journal / "detections.jsonl").read_text("utf-8").splitlines()
        assert [json.loads(line)["id"] for line in lines] \
            == [row[0] for row in self.rows("SELECT id FROM detections ORDER BY seq")]  # fmt: skip
        return stats


Listen = Callable[..., Listener]


@pytest.fixture
def listen_to(tmp_path: Path, tiny_bundle: Path) -> Iterator[Listen]:
    """Return a function that starts a listener; all are ended afterwards."""
    started: list[Listener] = []

    def start(*arguments: str, name: str = "run", bundle: Path | None = None, **how: Any) -> Any:
        started.append(Listener(tmp_path / name, bundle or tiny_bundle, *arguments, **how))
        return started[-1]

    yield start
    for listener in started:
        listener.close()


@contextmanager
def locked(journal: Path) -> Iterator[None]:
    """Hold the journal's write lock, as another process does."""
    with closing(sqlite3.connect(journal / "journal.sqlite", isolation_level=None)) as database:
        database.execute("PRAGMA busy_timeout=10000")
        database.execute("BEGIN EXCLUSIVE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")


class Manager:
    """A service manager's socket: what was said to it, and when."""

    def __init__(self, place: Path) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(place))
        self._socket.setblocking(False)
        self.place = place
        self.heard: list[tuple[float, str]] = []
        """Monotonic seconds and a line."""

    def listen(self) -> Manager:
        """Take what was sent."""
        while True:
            try:
                data = self._socket.recv(4096)
            except BlockingIOError:
                return self
            self.heard += [(time.monotonic(), line) for line in data.decode().splitlines()]

    def times(self, line: str) -> list[float]:
        self.listen()
        return [at for at, found in self.heard if found.startswith(line)]

    def close(self) -> None:
        self._socket.close()
