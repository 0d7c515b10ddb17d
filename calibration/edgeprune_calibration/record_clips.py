"""Recording a calibration set at the recorder's site, through the recorder's own capture path.

Clips of a fixed length, one at the beginning of every period, so that a day or a week is covered
instead of a minute. A clip is written under another name and renamed, then its row is added to
``manifest.csv``: listed clips are complete even after a power failure. The same command resumes
where it stopped.
"""

from __future__ import annotations

import csv
import io
import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from numpy.typing import NDArray

from edgeprune_device.audio.level import level_db
from edgeprune_device.audio.sources import from_file, from_microphone
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.monitoring.terminal import Say
from edgeprune_device.recorder.listen import stop_on_signals
from edgeprune_device.settings import Audio
from edgeprune_device.stream import Block, Item, Notice
from edgeprune_device.system.files import written_whole

MANIFEST = "manifest.csv"
STALL_SECONDS = 10.0
COLUMNS = ("path", "label", "source", "first_second", "utc", "level_db")
FORMATS = ("flac", "wav")
Now = Callable[[], datetime]


@dataclass(frozen=True)
class RecordingPlan:
    """What to record."""

    clips: int = 200
    """Number of clips in the folder, including those of earlier sessions."""
    clip_seconds: float = 5.0
    """Length of a clip in seconds."""
    every_seconds: float = 0.0
    """Time from the start of a clip to the start of the next in seconds; 0: no pauses."""
    rate: int = 16000
    """Sample rate in Hz, that of the bundle."""
    label: str = "background"
    """Label of the clips in the manifest."""
    format: str = "flac"
    """``flac`` or ``wav``, 16 bits."""


class Clipper:
    """Cuts a stream into clips at the beginning of every period; clips never span a gap.

    Parameters
    ----------
    length : int
        Samples per clip.
    period : int
        Samples from the start of a clip to the start of the next, at least ``length``.
    first : int
        Index of the first clip's first sample in the stream.

    """

    def __init__(self, length: int, period: int, first: int = 0) -> None:
        self.length, self.period = length, period
        self.position = 0
        self._next = first
        self._held: list[NDArray[np.float32]] = []

    def push(self, block: Block) -> Iterator[tuple[int, NDArray[np.float32]]]:
        """Add a block; yield (first sample in the stream, clip) for each complete clip."""
        samples = block.samples
        if block.lost_samples:
            self.position += block.lost_samples
            self._held = []
            self._next = max(self._next, self.position)  # a clip restarts after the gap
        while len(samples):
            held = sum(len(part) for part in self._held)
            start = self._next + held  # of the missing part of the clip
            if start >= self.position + len(samples):
                break
            take = samples[max(0, start - self.position) :][: self.length - held]
            self._held.append(take)
            used = max(0, start - self.position) + len(take)
            self.position, samples = self.position + used, samples[used:]
            if held + len(take) == self.length:
                first = self._next
                clip, self._held = np.concatenate(self._held), []
                self._next += self.period
                yield first, clip
        self.position += len(samples)


def record(
    out: Path, plan: RecordingPlan, *, device: str | None = None, from_wav: Path | None = None, say: Say,
    blocks: Iterator[Item] | None = None, now: Now = lambda: datetime.now(UTC),
) -> dict[str, Any]:  # fmt: skip
    """Record until there are enough clips, the source ends, or Ctrl-C.

    Parameters
    ----------
    out : Path
        Folder for ``clips/`` and ``manifest.csv``; an existing one is continued.
    plan : RecordingPlan
        What to record.
    device : str or None
        Input device: a number, a name or a part of one.
    from_wav : Path or None
        Take the clips from a file; the part that was used before is skipped.
    say : callable
        Prints a line per clip.
    blocks : iterator
        Source of blocks instead of the microphone.
    now : callable
        Returns the time in UTC.

    Returns
    -------
    dict
        ``clips`` in the folder, ``taken`` in this session, ``reason`` of the end, ``lost_seconds``,
        ``silent`` (clips of digital silence, as from a muted microphone), ``manifest``.

    Raises
    ------
    EdgepruneError
        The plan is out of range, the folder holds other files, the microphone stops (status 1), or
        the disk is full.

    """
    _check(plan)
    rows = read_rows(out)
    source = from_wav.name if from_wav else f"microphone {device or 'default'}"
    done: dict[str, Any] = {"clips": len(rows), "taken": 0, "reason": "enough", "silent": 0,
                            "lost_seconds": 0.0, "manifest": str(out / MANIFEST)}  # fmt: skip
    if len(rows) >= plan.clips:
        return done
    length = round(plan.clip_seconds * plan.rate)
    period = max(length, round(plan.every_seconds * plan.rate))
    earlier = [float(r["first_second"]) for r in rows if from_wav and r["source"] == source]
    first = round(max(earlier) * plan.rate) + period if earlier else 0
    if blocks is None:
        blocks = (from_file(from_wav, plan.rate) if from_wav
                  else from_microphone(Audio(device=device or ""), plan.rate))  # fmt: skip
    clipper, writer = Clipper(length, period, first), _Writer(out, plan, source, len(rows))
    patience = math.inf if from_wav else STALL_SECONDS
    with ExitStack() as stack:
        stack.enter_context(closing(blocks))  # type: ignore[type-var]
        stopped = stack.enter_context(stop_on_signals())
        try:
            _take(watched(blocks, patience), clipper, writer, stopped, say, done, now)
        finally:
            done["clips"] = writer.number
    return done


def _take(
    blocks: Iterator[Block | None], clipper: Clipper, writer: _Writer, stopped: threading.Event,
    say: Say, done: dict[str, Any], now: Now,
) -> None:  # fmt: skip
    """Cut blocks into clips until an end condition is met."""
    plan = writer.plan
    for block in blocks:
        if stopped.is_set():
            done["reason"] = "interrupted"
            return
        if block is None:
            continue
        done["lost_seconds"] += block.lost_samples / plan.rate
        for first, clip in clipper.push(block):
            level = level_db(clip)
            name = writer.write(clip, first / plan.rate, level, now())
            done["taken"] += 1
            done["silent"] += not clip.any()
            say(f"{writer.number} of {plan.clips}  {name}  {level:.0f} dB")
            if writer.number >= plan.clips:
                return
    done["reason"] = "end of file"


def watched(blocks: Iterator[Item], patience_seconds: float) -> Iterator[Block | None]:
    """Yield blocks; raise if no sound arrives for too long."""
    last = time.monotonic()
    for item in blocks:
        block = None if isinstance(item, Notice) else item
        if block is not None and len(block.samples):
            last = time.monotonic()
        elif time.monotonic() - last > patience_seconds:
            raise EdgepruneError(
                f"No audio has arrived from the microphone for {patience_seconds:g} s.",
                "Check its connection; edgeprune devices lists the inputs.", FAILED_CHECK,
            )  # fmt: skip
        yield block


class _Writer:
    """Writes clips and their rows, numbered after existing ones."""

    def __init__(self, out: Path, plan: RecordingPlan, source: str, number: int) -> None:
        self.out, self.plan, self.source, self.number = out, plan, source, number

    def write(
        self, clip: NDArray[np.float32], first_second: float, level: float, utc: datetime
    ) -> str:
        name = f"clips/{self.number:06d}.{self.plan.format}"
        path = self.out / name
        row = (name, self.plan.label, self.source, f"{first_second:.6f}",
               utc.isoformat(timespec="seconds"), f"{level:.1f}")  # fmt: skip
        text = io.StringIO()
        if self.number == 0:
            csv.writer(text).writerow(COLUMNS)
        csv.writer(text).writerow(row)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with written_whole(path) as partial:
                soundfile.write(partial, clip, self.plan.rate, format=self.plan.format.upper(),
                                subtype="PCM_16")  # fmt: skip
            with (self.out / MANIFEST).open("a", encoding="utf-8", newline="") as file:
                file.write(text.getvalue())
        except (OSError, soundfile.SoundFileError) as error:
            raise EdgepruneError(
                f"The clip {path} cannot be written: {error}.",
                "Check that the disk is not full and that the folder is writable.",
            ) from None
        self.number += 1
        return name


def read_rows(out: Path) -> list[dict[str, str]]:
    """Return the rows of an existing calibration set; none for a new folder.

    Raises
    ------
    EdgepruneError
        The folder holds other files, or a listed clip is missing.

    """
    path = out / MANIFEST
    if not path.exists():
        if out.exists() and any(p.name != "clips" for p in out.iterdir()):
            raise EdgepruneError(f"{out} holds other files than a calibration set.",
                                 "Choose a new folder.")  # fmt: skip
        return []
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            raise EdgepruneError(f"{path} was not written by calibration record.",
                                 "Choose a new folder.")  # fmt: skip
    whole = [row for row in rows if None not in row.values()]  # power loss may truncate the last
    if len(whole) < len(rows):
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([COLUMNS, *[[row[c] for c in COLUMNS] for row in whole]])
    for row in whole:
        if not (out / row["path"]).is_file():
            raise EdgepruneError(f"{path} lists {row['path']}, which does not exist.",
                                 "Remove its line, or choose a new folder.")  # fmt: skip
    return whole


def _check(plan: RecordingPlan) -> None:
    times = {"--seconds": plan.clip_seconds, "--every": plan.every_seconds}
    for name, value in times.items():
        if not 0 <= value < math.inf or (name == "--seconds" and value * plan.rate < 1):
            raise EdgepruneError(f"{name} {value:g} is out of range.", "Allowed: more than 0.")
    if plan.clips < 1 or not 1000 <= plan.rate <= 384_000 or plan.format not in FORMATS:
        raise EdgepruneError(
            f"Recording {plan.clips} clips at {plan.rate} Hz as {plan.format!r} is not possible.",
            f"Allowed: --clips from 1, --rate 1000 to 384000, --format {' or '.join(FORMATS)}.",
        )
    if 0 < plan.every_seconds < plan.clip_seconds:
        raise EdgepruneError(
            f"--every {plan.every_seconds:g} is less than the clip length of "
            f"{plan.clip_seconds:g} s."
        )
    if not plan.label.strip():
        raise EdgepruneError("The label of the clips is empty.", "Use --label background.")
