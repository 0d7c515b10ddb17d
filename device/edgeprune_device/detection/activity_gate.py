"""The activity gate: only windows that are loud enough, or have speech, are passed to the model.

A gate saves computation and power. In doubt it is open: a missed window costs more than one too
many.
"""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.level import level_db
from edgeprune_device.detection.vad import Vad
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Gate as GateSettings

KEPT_SECONDS = 60  # of audio kept, for the level of a window


class ActivityGate:
    """Decides for windows, in order, whether they are passed to the model.

    Parameters
    ----------
    settings : settings.Gate
    rate : int
        Sample rate of the stream in Hz.
    vad : Vad or None
        As returned by ``open_vad``; the caller pushes audio to it before it asks the gate.

    Raises
    ------
    EdgepruneError
        The gate needs a voice activity detector, and there is none.

    """

    def __init__(self, settings: GateSettings, rate: int, vad: Vad | None = None) -> None:
        if settings.kind == "vad" and vad is None:
            raise EdgepruneError(
                "gate.kind = 'vad' needs a voice activity detector, but there is none.",
                "Name silero_vad.onnx in gate.vad_model.",
            )
        self.settings = settings
        self.rate = rate
        self._vad = vad
        self._until = -1  # windows that end until then pass because of the hold
        self._blocks: deque[tuple[int, NDArray[np.float32]]] = deque()

    def push(self, first: int, samples: NDArray[np.float32]) -> None:
        """Take the next samples (n,), all finite, at stream position ``first``."""
        if self.settings.kind != "level" or not len(samples):
            return
        oldest = first - KEPT_SECONDS * self.rate
        while self._blocks and self._blocks[0][0] + len(self._blocks[0][1]) <= oldest:
            self._blocks.popleft()
        self._blocks.append((first, samples))

    def open(self, first: int, last: int) -> bool:
        """Return whether a window is passed to the model.

        Parameters
        ----------
        first, last : int
            Samples of stream time, half-open; windows must come in order.

        """
        if not self.settings.kind:
            return True
        sounds = (
            self._loud(first, last) if self.settings.kind == "level" else self._voice(first, last)
        )
        if sounds:
            self._until = last + round(self.settings.hold_seconds * self.rate)
        return sounds or last <= self._until

    def gap(self, position: int) -> None:
        """Forget the audio so far: the stream continues at ``position``."""
        self._blocks.clear()
        self._until = -1

    def _loud(self, first: int, last: int) -> bool:
        parts = [block[max(0, first - begin) : last - begin] for begin, block in self._blocks
                 if begin < last and first < begin + len(block)]  # fmt: skip
        window = np.concatenate(parts) if parts else np.empty(0, dtype=np.float32)
        return len(window) < last - first or level_db(window) >= self.settings.level_db

    def _voice(self, first: int, last: int) -> bool:
        highest = self._vad.max_probability(first, last) if self._vad is not None else None
        return highest is None or highest >= self.settings.vad_threshold
