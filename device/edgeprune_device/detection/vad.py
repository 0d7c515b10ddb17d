"""Silero's voice activity detector (VAD) on a stream, in any chunks.

    Vad   frames of 512 samples at 16 kHz, 64 samples of context each, recurrent state

The model is snakers4/silero-vad 5 (MIT), one ONNX file that the settings name. Audio at another
rate is resampled in cells of fixed length counted from the last gap, so that the frames, and the
moment at which each is known, depend on the stream alone.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soxr
from numpy.typing import NDArray

from edgeprune_device.audio.sound_files import QUALITY
from edgeprune_device.errors import NOT_INSTALLED, EdgepruneError
from edgeprune_device.settings import Settings

RATE = 16_000
FRAME, CONTEXT = 512, 64  # samples at RATE
CELLS_A_SECOND = 50  # cells per second in which audio is resampled
KEPT_SECONDS = 600
NEWEST = "Get silero_vad.onnx of snakers4/silero-vad, version 5 or later."


@dataclass(frozen=True)
class Frame:
    """A span of the stream and its probability of speech."""

    first: int
    """First and last sample of stream time, half-open."""
    last: int
    speech_probability: float | None
    """Probability of speech, 0 to 1; None: the model returned no finite number."""
    known: int
    """Stream position at which it is known, independent of the chunks."""


def open_vad(settings: Settings, rate: int) -> Vad | None:
    """Return the detector if the gate or the privacy rule needs one, else None."""
    if settings.gate.kind == "vad" or settings.privacy.vad:
        return Vad(Path(settings.gate.vad_model), rate)
    return None


class Vad:
    """Computes the probability of speech of a stream as it arrives.

    Parameters
    ----------
    model : Path
        ``silero_vad.onnx``, or one of its 16 kHz variants.
    rate : int
        Sample rate of the stream in Hz.

    Raises
    ------
    EdgepruneError
        The model cannot be read or is another model, or onnxruntime is not installed.

    """

    def __init__(self, model: Path, rate: int) -> None:
        self.rate = rate
        self.position = 0
        """End of the audio received so far, in samples of stream time."""
        self._session, self._fixed = _open(model)
        self._cell = FRAME if rate == RATE else max(1, rate // CELLS_A_SECOND)
        self._frames: deque[Frame] = deque()
        self._fresh: deque[Frame] = deque(maxlen=KEPT_SECONDS * RATE // FRAME)
        self._start = self._done = 0  # of the audio since the last gap, and end of its last cell
        self._scored = 0  # frames since the last gap
        self._held: NDArray[np.float32] = np.empty(0, dtype=np.float32)  # of a cell
        self._waiting: NDArray[np.float32] = self._held  # of a frame
        self._begin(0)

    def push(self, first: int, samples: NDArray[np.float32]) -> None:
        """Take the next samples (n,), all finite; a distance from the last ones is a gap."""
        if first != self.position:
            self.gap(first)
        oldest = first - KEPT_SECONDS * self.rate
        while self._frames and self._frames[0].last < oldest:
            self._frames.popleft()
        self._held = np.concatenate([self._held, samples])
        cells = len(self._held) // self._cell
        for cell in self._held[: cells * self._cell].reshape(cells, self._cell):
            self._done += self._cell
            self._score(self._resampled(cell, last=False))
        self._held = self._held[cells * self._cell :]
        self.position = first + len(samples)

    def gap(self, position: int) -> None:
        """End the audio so far; the next begins at ``position``, with a new state."""
        self.flush()
        self._begin(position)

    def flush(self) -> None:
        """Score the remaining audio, padded with zeros; then reset the state."""
        rest = self._resampled(self._held, last=True)
        waiting = len(self._waiting) + len(rest)
        if waiting:
            self._done = self.position
            self._score(np.concatenate([rest, np.zeros(-waiting % FRAME, dtype=np.float32)]), True)
        self._begin(self.position)

    def max_probability(self, first: int, last: int) -> float | None:
        """Return the highest probability of speech within a window, as known at its end.

        Parameters
        ----------
        first, last : int
            Samples of stream time, half-open. Of the last tenth of a second less is known; it
            counts for the next window.

        Returns
        -------
        float or None
            Highest probability of its frames, 0 to 1; None: unknown, treat it as speech.

        """
        highest = -1.0
        for frame in reversed(self._frames):
            if frame.last <= first:
                break
            if frame.first < last and frame.known <= last:
                if frame.speech_probability is None:
                    return None
                highest = max(highest, frame.speech_probability)
        return highest if highest >= 0 else None

    def fresh(self) -> list[Frame]:
        """Return the frames since the last call, for ``speech_privacy.SpeechTracker.voice``."""
        fresh = list(self._fresh)
        self._fresh.clear()
        return fresh

    def _begin(self, position: int) -> None:
        self._start = self._done = self.position = position
        self._scored = 0
        self._held = self._waiting = np.empty(0, dtype=np.float32)
        self._context = np.zeros(CONTEXT, dtype=np.float32)
        self._state = np.zeros((2, 1, 128), dtype=np.float32)
        self._resampler = None
        if self.rate != RATE:
            self._resampler = soxr.ResampleStream(self.rate, RATE, 1, "float32", QUALITY)

    def _resampled(self, cell: NDArray[np.float32], *, last: bool) -> NDArray[np.float32]:
        if self._resampler is None:
            return cell
        return np.asarray(self._resampler.resample_chunk(cell, last=last))

    def _score(self, samples: NDArray[np.float32], ends: bool = False) -> None:
        """Score the complete frames; ``ends``: they are the last ones before a gap."""
        self._waiting = np.concatenate([self._waiting, samples])
        while len(self._waiting) >= FRAME:
            heard, self._waiting = np.split(self._waiting, [FRAME])
            sound = np.concatenate([self._context, heard])[None]
            output, state = self._session.run(
                ["output", "stateN"], {"input": sound, "state": self._state, **self._fixed}
            )
            voice = float(output[0, 0])
            usable = math.isfinite(voice) and bool(np.isfinite(state).all())
            self._state = state if usable else np.zeros_like(self._state)
            self._context = heard[-CONTEXT:]
            first, last = (
                self._start + round((self._scored + step) * FRAME * self.rate / RATE)
                for step in (0, 1)
            )
            self._scored += 1
            last = self._done if ends and not len(self._waiting) else min(last, self._done)
            frame = Frame(first, last, voice if usable else None, self._done)
            if frame.first < frame.last:  # a resampler may return one sample too many
                self._frames.append(frame)
                self._fresh.append(frame)


def _open(model: Path) -> tuple[Any, dict[str, Any]]:
    """Return ONNX Runtime's session of the model, and its constant inputs."""
    try:
        import onnxruntime
    except ImportError:
        raise EdgepruneError(
            "The voice activity detector needs onnxruntime, which is not installed.",
            "pip install onnxruntime", NOT_INSTALLED,
        ) from None  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(
            model.read_bytes(), options, providers=["CPUExecutionProvider"]
        )
    except OSError as error:
        raise EdgepruneError(
            f"The voice activity detector {model} cannot be read: {error.strerror}.", NEWEST
        ) from None
    except Exception as error:  # onnxruntime raises its own types, which share no other base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise EdgepruneError(
            f"The voice activity detector {model} is not a model: {reason}", NEWEST
        ) from None
    taken = {x.name for x in session.get_inputs()}
    given = {x.name for x in session.get_outputs()}
    if not {"input", "state"} <= taken <= {"input", "state", "sr"} or given != {"output", "stateN"}:
        raise EdgepruneError(
            f"{model} is a model, but not silero's voice activity detector.", NEWEST
        )
    return session, {"sr": np.array(RATE, dtype=np.int64)} if "sr" in taken else {}
