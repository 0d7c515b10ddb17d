"""Records a few seconds with the recorder's own capture, and analyses them for doctor."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.level import level_db
from edgeprune_device.audio.sources import from_microphone
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.monitoring.signal_faults import faults_of
from edgeprune_device.settings import Audio
from edgeprune_device.stream import Block, Item, Notice

PATIENCE_SECONDS = 30.0  # on top of the recording, for libraries, sound servers and first frames
SETTLED_SECONDS = 1.0  # the first blocks arrive in a burst
LEAST_BLOCKS = 5
Arrival = tuple[float, int]
"""Time at which a block arrived, in monotonic seconds, and the number of samples by then."""


@dataclass(frozen=True)
class Recording:
    """A few seconds of audio."""

    device: str
    rate: int
    """Capture rate in Hz."""
    samples: NDArray[np.float32]
    """Array (n,), at the model's rate, which is ``model_rate``."""
    model_rate: int
    lost: int
    """Number of lost samples."""
    reasons: tuple[str, ...]
    """Reasons for the losses."""
    clock_ratio: float | None
    """Ratio of the measured to the nominal sample rate; None: too few blocks."""
    notices: tuple[str, ...]

    @property
    def seconds(self) -> float:
        """Duration of the audio."""
        return len(self.samples) / self.model_rate

    def described(self) -> dict[str, Any]:
        """Return its statistics: ``level_db``, ``peak_db``, ``offset``, ``clipped``, ``faults``."""
        sound = self.samples
        peak = float(np.abs(sound).max(initial=0.0))
        faults: dict[str, int] = {}
        before = sound[:0]
        for second in seconds_of(sound, self.model_rate):
            for fault in faults_of(second, before):
                faults[fault] = faults.get(fault, 0) + 1
            before = second
        return {
            "seconds": round(self.seconds, 3), "level_db": level_db(sound),
            "peak_db": 20 * float(np.log10(peak)) if peak else -np.inf,
            "offset": float(sound.mean(dtype=np.float64)) if len(sound) else 0.0,
            "clipped": float(np.mean(np.abs(sound) >= 0.999)) if len(sound) else 0.0,
            "faults": faults,
        }  # fmt: skip


def record(
    audio: Audio, rate: int, seconds: float, *,
    open_microphone: Callable[[Audio, int], Any] = from_microphone,
    clock: Callable[[], float] = time.monotonic,
) -> Recording:  # fmt: skip
    """Record some seconds with the recorder's capture process.

    Parameters
    ----------
    audio : settings.Audio
    rate : int
        Sample rate of the model in Hz.
    seconds : float
        Duration to record.
    open_microphone, clock : callable
        The source, and a function that returns monotonic seconds.

    Returns
    -------
    Recording

    Raises
    ------
    EdgepruneError
        PortAudio is missing, there is no such input, it cannot be opened, or no audio arrives.

    """
    heard: list[NDArray[np.float32]] = []
    arrivals: list[Arrival] = []
    reasons: list[str] = []
    notices: list[str] = []
    count = lost = 0
    end = clock() + seconds + PATIENCE_SECONDS
    with closing(open_microphone(audio, rate)) as source:
        items: Iterator[Item] = iter(source)
        for item in items:
            if isinstance(item, Notice):
                notices.append(item.text)
            elif isinstance(item, Block):
                heard.append(item.samples)
                count, lost = count + len(item.samples), lost + item.lost_samples
                reasons += [item.reason] * bool(item.lost_samples)
                arrivals.append((clock(), count + lost))
            if count >= seconds * rate or clock() > end:
                break
        device, own = str(getattr(source, "device", "")), int(getattr(source, "rate", 0))
    if not count:
        raise EdgepruneError(
            f"The microphone has sent no audio for {PATIENCE_SECONDS:.0f} s.",
            " ".join(notices), FAILED_CHECK,
        )  # fmt: skip
    return Recording(
        device or "default", own or rate, np.concatenate(heard), rate, lost,
        tuple(dict.fromkeys(reasons)), clock_ratio(arrivals, rate), tuple(notices),
    )  # fmt: skip


def clock_ratio(arrivals: Sequence[Arrival], rate: int) -> float | None:
    """Return the measured sample rate as a ratio to the nominal: slope of a line through arrivals.

    The first second is left out, because audio that had waited arrives at once.
    """
    if not arrivals:
        return None
    late = [one for one in arrivals if one[0] >= arrivals[0][0] + SETTLED_SECONDS]
    if len(late) < LEAST_BLOCKS or late[-1][0] - late[0][0] < SETTLED_SECONDS:
        return None
    when, samples = np.array(late, dtype=np.float64).T
    when, samples = when - when.mean(), samples - samples.mean()
    return float(when @ samples / (when @ when) / rate)


def seconds_of(sound: NDArray[np.float32], rate: int) -> Iterator[NDArray[np.float32]]:
    """Yield complete seconds; of less than one, all of it."""
    yield from (sound[at : at + rate] for at in range(0, len(sound) - rate + 1, rate))
    if 0 < len(sound) < rate:
        yield sound
