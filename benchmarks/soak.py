"""Soak tests of a recorder, half an hour live or a day at full speed: memory, files, coverage.

    python benchmarks/soak.py live BUNDLE SOUND --minutes 30 -o OUT --results benchmarks/results
    python benchmarks/soak.py day BUNDLE SOUND --hours 24 -o OUT --results benchmarks/results

``live``: SOUND is played repeatedly to a virtual microphone (PulseAudio's null sink) that
``edgeprune listen`` records through PortAudio. ``day``: so many hours of SOUND are written to its
standard input as fast as it reads. Every few seconds, memory and open files of the listener and of
its capture process are read from /proc; the slope is that of a least-squares line after the first
fifth.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from pulse_fixture import Pulse

from edgeprune_device.audio.sound_files import read_clip
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.system.machine import machine_facts

LOOK_SECONDS = 5.0
LOOKS_KEPT = 400
SETTLED = 0.2  # share of the run after which the slope is taken
FULL_SCALE = 32767


def main() -> None:
    """Run one soak test and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("kind", choices=("live", "day"))
    parser.add_argument("bundle", type=Path)
    parser.add_argument("sound", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--hours", type=float, default=24)
    parser.add_argument("--settings", type=Path)
    parser.add_argument("--results", type=Path)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    seen = live(options) if options.kind == "live" else day(options)
    stats = json.loads((options.out / "journal" / "stats.json").read_text("utf-8"))
    result = {
        "kind": options.kind, "bundle": options.bundle.name, "machine": machine_facts(),
        "minutes": options.minutes if options.kind == "live" else 60 * options.hours,
        "processes": summary(seen), "stats": stats, "looks": thinned(seen),
        "balance_samples": sum(sum(x.values()) for x in stats["coverage"].values())
        - stats["position_samples"],
    }  # fmt: skip
    text = json.dumps(result, indent=1) + "\n"
    (options.out / "soak.json").write_text(text, "utf-8")
    if options.results:
        day_text = datetime.now(UTC).date().isoformat()
        (options.results / f"soak-{options.kind}-{day_text}.json").write_text(text, "utf-8")
    for name, row in result["processes"].items():
        sys.stdout.write(f"{name}: {json.dumps(row)}\n")
    sys.stdout.write(f"balance: {result['balance_samples']} samples\n")


def command(options: argparse.Namespace, *more: str) -> list[str]:
    """Return the recorder's command line."""
    settings = ["--settings", str(options.settings)] if options.settings else []
    return [sys.executable, "-m", "edgeprune.cli", "listen", str(options.bundle), "--json",
            "-o", str(options.out / "journal"), *settings, *more]  # fmt: skip


def live(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Run listen on a virtual microphone for so many minutes."""
    shutil.rmtree(options.out / "pulse", ignore_errors=True)
    pulse, over = Pulse(options.out / "pulse"), threading.Event()
    with ExitStack() as stack:
        pulse.start()
        stack.callback(pulse.stop)
        process = subprocess.Popen(
            command(options), env=pulse.environment, stdout=subprocess.DEVNULL
        )

        def play() -> None:
            while not over.is_set():
                pulse.play(options.sound.resolve()).wait()

        threading.Thread(target=play, daemon=True).start()
        seen = watch(process, 60 * options.minutes)
        begin = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=20)
        sys.stdout.write(f"ended {time.monotonic() - begin:.2f} s after SIGTERM, "
                         f"status {process.returncode}\n")  # fmt: skip
        over.set()
    return seen


def day(options: argparse.Namespace) -> list[dict[str, Any]]:
    """Write so many hours of sound to standard input."""
    rate = read_bundle(options.bundle).sample_rate
    sound = (np.clip(read_clip(options.sound, rate), -1, 1) * FULL_SCALE).astype("<i2").tobytes()
    process = subprocess.Popen(command(options, "--stdin"), stdin=subprocess.PIPE,
                               stdout=subprocess.DEVNULL)  # fmt: skip
    left = round(options.hours * 3600 * rate) * 2

    def push() -> None:
        nonlocal left
        assert process.stdin is not None
        with process.stdin as pipe:
            while left:
                part = sound[: min(left, len(sound))]
                pipe.write(part)
                left -= len(part)

    threading.Thread(target=push, daemon=True).start()
    return watch(process, float("inf"))


def watch(process: subprocess.Popen[bytes], seconds: float) -> list[dict[str, Any]]:
    """Sample a process and its children until it ends or the time is up."""
    begin, seen = time.monotonic(), []
    while process.poll() is None and time.monotonic() - begin < seconds:
        for name, pid in {"listener": process.pid, **children(process.pid)}.items():
            if row := look(pid):
                seen.append({"process": name, "seconds": time.monotonic() - begin, **row})
        time.sleep(LOOK_SECONDS)
    return seen


def children(pid: int) -> dict[str, int]:
    """Return the capture process by name, if there is one."""
    found = {}
    for place in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in place.read_text().split():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if (
                    b"edgeprune_device.audio.capture_process"
                    in Path(f"/proc/{child}/cmdline").read_bytes()
                ):
                    found["capture"] = int(child)
    return found


def look(pid: int) -> dict[str, float] | None:
    """Return memory in MB (1e6 bytes), descriptors and threads of a process; None if it ended."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
        files = len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return None
    held = dict(line.split(":", 1) for line in text.splitlines() if ":" in line)
    if "VmRSS" not in held:
        return None
    return {"rss_mb": int(held["VmRSS"].split()[0]) * 1024 / 1e6, "files": files,
            "threads": int(held["Threads"])}  # fmt: skip


def thinned(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return at most so many samples, evenly spaced."""
    return seen[:: max(1, len(seen) // LOOKS_KEPT)]


def summary(seen: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Return each process's memory at the start and end, its slope, and its descriptors."""
    table = {}
    for name in sorted({row["process"] for row in seen}):
        rows = [row for row in seen if row["process"] == name]
        late = [row for row in rows if row["seconds"] >= SETTLED * rows[-1]["seconds"]]
        x, y = (np.array([row[key] for row in late]) for key in ("seconds", "rss_mb"))
        slope = float(np.polyfit(x, y, 1)[0]) * 3600 if len(late) > 2 else float("nan")
        table[name] = {
            "looks": len(rows), "first_mb": rows[0]["rss_mb"], "last_mb": rows[-1]["rss_mb"],
            "highest_mb": max(row["rss_mb"] for row in rows), "slope_mb_per_hour": slope,
            "fewest_files": min(row["files"] for row in late),
            "most_files": max(row["files"] for row in late),
            "most_threads": max(row["threads"] for row in late),
        }  # fmt: skip
    return table


if __name__ == "__main__":
    main()
