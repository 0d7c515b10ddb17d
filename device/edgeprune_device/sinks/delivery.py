"""Delivers detections to sinks: an MQTT broker, a webhook, a command.

    journal.sqlite -> outbox (cursor) -> sender -> receiver          one thread per sink

A detection is committed before any sink sends it, and a sink's cursor moves when its receiver has
it: every detection arrives at least once, in order, with its id. An unavailable receiver is tried
again after 1 s, 2 s, and so on up to 5 min, with random jitter; if more than ``operate.spool_rows``
detections wait, the oldest are skipped, counted and reported. A detection that the receiver rejects
``MOST_REFUSALS`` times is skipped, too. Sinks never block the recorder.
"""

from __future__ import annotations

import os
import random
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from edgeprune_device.settings import Settings
from edgeprune_device.sinks.command import make_command
from edgeprune_device.sinks.credentials import FOLDER, read_secret
from edgeprune_device.sinks.mqtt import make_mqtt
from edgeprune_device.sinks.outbox import Outbox, check_cursors
from edgeprune_device.sinks.sender import Message, NotSentError, Sender
from edgeprune_device.sinks.webhook import make_webhook
from edgeprune_device.stream import Notice

DELAYS = (1.0, 300.0)
"""First and longest delay between tries, seconds."""
MOST_REFUSALS = 5
BATCH = 50
IDLE_SECONDS = 300.0
"""Time between two checks of the journal without ``poke``."""
LOOK_SECONDS = 5.0
"""Time between two counts of waiting detections while a receiver is unavailable."""
GOODBYE_SECONDS = 1.0
NOTICES = 1000
Say = Callable[[str], None]


@dataclass
class DeliveryStats:
    """Statistics of a sink since its start."""

    sent: int = 0
    waiting: int = 0
    skipped: int = 0
    """Detections skipped because too many waited."""
    refused: int = 0
    """Detections skipped because the receiver rejected them."""
    failures: int = 0
    """Number of failed tries."""
    last_error: str = ""
    last_success: str | None = None
    """Time of the last success, UTC, ISO 8601."""


class Sinks:
    """All configured sinks.

    Parameters
    ----------
    settings : Settings
        Settings of the recorder.
    folder : Path
        Folder of the journal, which must be open when ``start`` is called.
    say : callable
        Prints a line for each notice.
    environ : mapping or None
        Environment with secrets; None: that of this process.
    delays : tuple of float
        First and longest delay between tries, seconds.

    Raises
    ------
    EdgepruneError
        An address or a secret is missing or invalid.

    """

    def __init__(
        self, settings: Settings, folder: Path, say: Say, *,
        environ: Mapping[str, str] | None = None, delays: tuple[float, float] = DELAYS,
    ) -> None:  # fmt: skip
        self._folder, self._say = folder, say
        self._notices: deque[Notice] = deque(maxlen=NOTICES)
        senders = make_senders(settings, folder, os.environ if environ is None else environ)
        self._workers = [
            _Worker(sender, folder, settings.operate.spool_rows, delays, self._notices.append)
            for sender in senders
        ]

    def __bool__(self) -> bool:
        """Return whether any sink is configured."""
        return bool(self._workers)

    def start(self) -> None:
        """Start sending what is committed from now on, and what an earlier run has not sent."""
        if not self._workers:
            return
        try:
            text = check_cursors(self._folder, datetime.now(UTC))
        except (OSError, sqlite3.Error) as error:
            text = f"It is not known yet which detections were sent: {error}."
        if text:
            self._notices.append(Notice("deliveries-malformed", text))
        for worker in self._workers:
            worker.start()

    def notify(self) -> None:
        """Report that a detection was committed."""
        for worker in self._workers:
            worker.wake.set()

    def heartbeat(self, state: Mapping[str, Any]) -> None:
        """Send the recorder's state to receivers that show it (MQTT); only the latest is sent."""
        for worker in self._workers:
            worker.show(state)

    def status(self) -> dict[str, dict[str, Any]]:
        """Return each sink's statistics by its name."""
        return {worker.name: worker.account_now() for worker in self._workers}

    def notices(self) -> list[Notice]:
        """Return the notices since the last call, for the journal, and print them."""
        found = []
        while self._notices:
            found.append(self._notices.popleft())
            self._say(found[-1].text)
        return found

    def close(self, seconds: float) -> list[Notice]:
        """Send for at most so many seconds, then stop; what still waits is sent next time.

        Takes at most ``GOODBYE_SECONDS`` longer. Returns the last notices.
        """
        until = time.monotonic() + seconds
        for worker in self._workers:
            worker.finish()
        for worker in self._workers:
            worker.join(max(0.0, until - time.monotonic()))
        endings = [threading.Thread(target=worker.end, daemon=True) for worker in self._workers]
        for ending in endings:
            ending.start()
        until = time.monotonic() + GOODBYE_SECONDS
        for ending in endings:
            ending.join(max(0.0, until - time.monotonic()))
        return self.notices()


def make_senders(settings: Settings, folder: Path, environ: Mapping[str, str]) -> list[Sender]:
    """Return the senders that a recorder's settings configure.

    Raises
    ------
    EdgepruneError
        An address or a secret is missing or invalid.

    """
    mqtt, webhook, command = settings.mqtt, settings.webhook, settings.command
    hidden = {mqtt.password_env, webhook.token_env, FOLDER, "NOTIFY_SOCKET", "WATCHDOG_USEC"}
    made = []
    if mqtt.host:
        password = read_secret(mqtt.password_env, mqtt.password_file, environ, "mqtt.password")
        made.append(make_mqtt(mqtt, password, str(folder.absolute())))
    if webhook.url:
        token = read_secret(webhook.token_env, webhook.token_file, environ, "webhook.token")
        made.append(make_webhook(webhook, token))
    if command.run:
        shown = {key: value for key, value in environ.items() if key not in hidden}
        made.append(make_command(command, shown))
    return made


class _Worker:
    """The thread that serves one sender."""

    def __init__(
        self, sender: Sender, folder: Path, limit: int, delays: tuple[float, float],
        tell: Callable[[Notice], None],
    ) -> None:  # fmt: skip
        self.name, self.wake = sender.name, threading.Event()
        self._sender, self._limit, self._delays, self._tell = sender, limit, delays, tell
        self._outbox = Outbox(folder, sender.name, sender.target)
        self._account, self._lock = DeliveryStats(), threading.Lock()
        self._finishing, self._stopped = threading.Event(), threading.Event()
        self._state: Message | None = None
        self._refusals, self._delay = 0, 0.0
        self._begun = False
        self._thread = threading.Thread(target=self._run, name=f"sink {sender.name}", daemon=True)

    def start(self) -> None:
        """Find the cursor at once, so that the next commit is not missed; then start the thread."""
        try:
            self._begin()
        except (OSError, sqlite3.Error) as error:
            self._failed(f"the journal cannot be read: {error}")
        self._thread.start()

    def show(self, state: Message) -> None:
        """Keep a state to send next."""
        if self._sender.beat is not None:
            self._state = dict(state)
            self.wake.set()

    def account_now(self) -> dict[str, Any]:
        """Return a copy of the statistics."""
        with self._lock:
            return asdict(self._account)

    def finish(self) -> None:
        """Stop when nothing waits, or with the next failure."""
        self._finishing.set()
        self.wake.set()

    def join(self, seconds: float) -> None:
        """Wait for the thread to end, for at most ``seconds``."""
        if self._thread.ident is not None:
            self._thread.join(seconds)

    def end(self) -> None:
        """Stop now."""
        self._stopped.set()
        self.wake.set()
        self._sender.close()
        self.join(GOODBYE_SECONDS)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.wake.clear()
            try:
                idle = self._work()
            except NotSentError as error:
                self._failed(str(error))
            except (OSError, sqlite3.Error) as error:
                self._failed(f"the journal cannot be read: {error}")
            except Exception as error:  # a thread that ends silently would be worse
                self._failed(f"internal error {type(error).__name__}")
            else:
                if idle and self._finishing.is_set():
                    break
                if idle:
                    self.wake.wait(IDLE_SECONDS)
                continue
            if self._finishing.is_set():
                break
            self._wait()
        self._outbox.close()

    def _work(self) -> bool:
        """Send the waiting messages in order; True if there was none."""
        if not self._begun:
            self._begin()
        state, self._state = self._state, None
        if state is not None and self._sender.beat is not None:
            try:
                self._sender.beat(state)
            except NotSentError:
                self._state = self._state or state  # unless a newer one has arrived
                raise
            self._succeeded(0)
        self._count()
        waiting = self._outbox.next(BATCH)
        for seq, message in waiting:
            if self._stopped.is_set():
                break
            try:
                self._sender.send(message)
            except NotSentError as error:
                self._refusals += error.refused
                if self._refusals < MOST_REFUSALS:
                    raise
                self._leave_out(message, str(error))
            else:
                self._succeeded(1)
            self._refusals = 0
            self._outbox.done(seq, str(message["id"]))
        self._count()
        return not waiting

    def _begin(self) -> None:
        trouble = self._outbox.begin()
        self._begun = True
        if trouble:
            self._tell(Notice("sink-place-lost", f"{self.name}: {trouble}", {"sink": self.name}))

    def _count(self) -> None:
        """Count the waiting detections, and skip the oldest if there are too many."""
        waiting = self._outbox.waiting()
        if (extra := waiting - self._limit) > 0:
            self._outbox.skip(extra)
            waiting = self._limit
            text = (
                f"{self.name}: {extra} detections were skipped, because more than {waiting} waited."
            )
            self._tell(Notice("sink-skipped", text, {"sink": self.name, "rows": extra}))
        with self._lock:
            self._account.waiting = waiting
            self._account.skipped += max(0, extra)
            if self._outbox.unkept:
                self._account.last_error = f"the cursor cannot be saved: {self._outbox.unkept}"

    def _leave_out(self, message: Message, error: str) -> None:
        with self._lock:
            self._account.refused += 1
            self._account.failures += 1
            self._account.last_error = error
        text = f"{self.name}: detection {message['id']} was rejected and is skipped: {error}."
        self._tell(Notice("sink-refused", text, {"sink": self.name, "id": message["id"]}))

    def _succeeded(self, messages: int) -> None:
        if self._delay:
            self._delay = 0.0
            self._tell(Notice("sink-recovered", f"{self.name} works again.", {"sink": self.name}))
        with self._lock:
            self._account.sent += messages
            self._account.last_success = datetime.now(UTC).isoformat(timespec="milliseconds")

    def _failed(self, error: str) -> None:
        with self._lock:
            self._account.failures += 1
            self._account.last_error = error
        first, longest = self._delays
        if not self._delay:
            text = f"{self.name}: {error}. Detections wait until it works again."
            self._tell(Notice("sink-failing", text, {"sink": self.name}))
        self._delay = min(longest, 2 * self._delay or first)

    def _wait(self) -> None:
        """Wait before the next try; keep counting the waiting detections."""
        until = time.monotonic() + self._delay * random.uniform(0.75, 1.0)
        while not self._finishing.is_set() and (left := until - time.monotonic()) > 0:
            self._finishing.wait(min(left, LOOK_SECONDS))
            try:
                self._count()
            except (OSError, sqlite3.Error) as error:
                with self._lock:
                    self._account.last_error = f"the journal cannot be read: {error}"
