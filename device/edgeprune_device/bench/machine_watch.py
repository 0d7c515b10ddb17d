"""Watches the machine during a benchmark: reads its state once a second, and finds other load.

The reads are a few small files, well under a millisecond; ``vcgencmd`` (a separate process) is run
only every tenth time, and only if no file has the firmware's flags.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from edgeprune_device.system.machine import ROOT, cpu_times, machine_state

EVERY_SECONDS = 1.0
FIRMWARE_EVERY = 10
MOST_POINTS = 600
SHOWN = ("temperature_c", "frequency_mhz", "throttled", "load_average")
BUSY_SHARE = 0.01
"""Share of a core: a process that used less is not named."""
TICKS = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
NOW_BITS = 0xF
"""Bits of get_throttled for the present, not since boot."""

State = Callable[[Path, bool], dict[str, Any]]


class Watch:
    """Reads the machine's state in a thread until it is closed.

    Parameters
    ----------
    root : Path
        Root folder of /proc and /sys.
    every_seconds : float
        Time between two reads.
    state : callable
        ``machine_state``; another function in a test.

    """

    def __init__(
        self, root: Path = ROOT, every_seconds: float = EVERY_SECONDS, state: State = machine_state
    ) -> None:
        self.began = time.monotonic()
        self._root, self._every, self._state = root, every_seconds, state
        self.points: list[dict[str, Any]] = []
        self._processes, self._cpu, self._own = processes(root), cpu_times(root), _own_seconds()
        self.before = self._read(True)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._go, name="bench-watch", daemon=True)

    def __enter__(self) -> Watch:
        """Start the thread."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        """Stop the thread, whatever happened."""
        self._stop.set()
        self._thread.join()

    def summary(self) -> dict[str, Any]:
        """Read the state once more, and return the summary: see ``environment_of``."""
        after = self._read(True)
        seconds = time.monotonic() - self.began
        other = top_process(self._processes, processes(self._root), seconds, os.getpid())
        others = others_cores(self._cpu, cpu_times(self._root), _own_seconds() - self._own, seconds)
        return environment_of(self.points, self.before, after, (other, others), seconds)

    def _go(self) -> None:
        turn = 0
        while not self._stop.wait(self._every):
            turn += 1
            self._read(turn % FIRMWARE_EVERY == 0)

    def _read(self, firmware: bool) -> dict[str, Any]:
        state = self._state(self._root, firmware)
        at = round(time.monotonic() - self.began, 2)
        self.points.append({"at_seconds": at, **{key: state[key] for key in SHOWN}})
        return state


def environment_of(
    points: Sequence[Mapping[str, Any]], before: Mapping[str, Any], after: Mapping[str, Any],
    others: tuple[dict[str, Any] | None, float | None], seconds: float,
) -> dict[str, Any]:  # fmt: skip
    """Summarise the points.

    Parameters
    ----------
    points : sequence of mapping
        Readings of the thread.
    before, after : mapping
        ``machine_state`` before and after.
    others : tuple
        Results of ``top_process`` and ``others_cores``.
    seconds : float
        Duration of the watch.

    Returns
    -------
    dict
        ``seconds``; ``temperature_c`` and ``frequency_mhz`` (``before``, ``lowest``, ``highest``,
        ``after``), ``throttled`` (``before``, ``during``, ``after``: flags as numbers), ``swap``
        (pages ``in`` and ``out`` during the watch), ``load_average`` (as the first two),
        ``top_process`` (``name``, ``share_of_core``), ``others_cores`` (cores that all other
        processes kept busy together), ``series`` (the points), and ``missing``, a reason for
        whatever is None.

    """
    found: dict[str, Any] = {"seconds": round(seconds, 1)}
    for key in ("temperature_c", "frequency_mhz", "load_average"):
        seen = [point[key] for point in points if point[key] is not None]
        found[key] = {"before": before[key], "lowest": min(seen), "highest": max(seen),
                      "after": after[key]} if seen else None  # fmt: skip
    flags = [point["throttled"] for point in points if point["throttled"] is not None]
    during = 0
    for one in flags:
        during |= one & NOW_BITS
    found["throttled"] = {"before": before["throttled"], "during": during,
                          "after": after["throttled"]} if flags else None  # fmt: skip
    pages = {
        way: (before[f"swap_{way}_pages"], after[f"swap_{way}_pages"]) for way in ("in", "out")
    }
    told = all(None not in pair for pair in pages.values())
    found["swap"] = {way: last - first for way, (first, last) in pages.items()} if told else None
    other, cores = others
    found["top_process"], found["others_cores"] = other, cores
    missing = dict(before["missing"])
    if found["swap"] is None:
        missing["swap"] = before["missing"].get("swap_in_pages", "")
    if other is None:
        missing["top_process"] = (
            f"no other process used {BUSY_SHARE:.0%} of a core, or /proc hides it"
        )
    if cores is None:
        missing["others_cores"] = "there is no cpu line in /proc/stat"
    step = -(-len(points) // MOST_POINTS)
    return {**found, "series": [dict(point) for point in points[::step]], "missing": missing}


def others_cores(
    before: tuple[int, int] | None, after: tuple[int, int] | None, own_seconds: float,
    seconds: float,
) -> float | None:  # fmt: skip
    """Return how many cores everything else kept busy: other processes and a hypervisor.

    Parameters
    ----------
    before, after : tuple or None
        ``machine.cpu_times``.
    own_seconds : float
        Processor time of this process and its children in between.
    seconds : float
        Time in between.

    """
    if before is None or after is None or seconds <= 0:
        return None
    busy = ((after[1] - before[1]) - (after[0] - before[0])) / TICKS
    return max(0.0, round((busy - own_seconds) / seconds, 3))


def _own_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def processes(root: Path = ROOT) -> dict[int, tuple[str, int, int]]:
    """Return process id -> (name, parent's process id, used ticks) of every process."""
    found = {}
    for place in (root / "proc").glob("[0-9]*"):
        try:
            text = (place / "stat").read_text("utf-8", "replace")
        except OSError:  # it has ended in the meantime
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        fields = rest.split()
        if len(fields) > 12:
            found[int(place.name)] = (name, int(fields[1]), int(fields[11]) + int(fields[12]))
    return found


def top_process(
    before: Mapping[int, tuple[str, int, int]], after: Mapping[int, tuple[str, int, int]],
    seconds: float, own: int,
) -> dict[str, Any] | None:  # fmt: skip
    """Return the other process that used the most processor time, and its share of a core.

    A process that both began and ended in between is not seen. This process and its children do not
    count.
    """
    used = {
        pid: ticks - (before[pid][2] if pid in before else 0)
        for pid, (_, parent, ticks) in after.items()
        if own not in (pid, parent)
    }
    if not used or seconds <= 0:
        return None
    most = max(used, key=lambda pid: used[pid])
    share = used[most] / TICKS / seconds
    if share < BUSY_SHARE:
        return None
    return {"name": after[most][0], "share_of_core": round(share, 3)}
