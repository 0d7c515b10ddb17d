"""Reads sound files as mono float32 at a model's rate, at once or as a stream, and cuts windows.

The workstation and the recorder use these same functions, so that a model gets the same input in
training, in verification and in the field. Channels are averaged; the resampler is soxr at its HQ
setting.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from edgeprune_device.errors import EdgepruneError

LOWEST_RATE, HIGHEST_RATE = (
    1000,
    768_000,
)  # Hz; outside this range the header is probably wrong
QUALITY = "HQ"


def read_clip(
    path: Path, sample_rate: int | None, start_seconds: float | None = None,
    end_seconds: float | None = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Read a clip or a part of it.

    Parameters
    ----------
    path : Path
        Any format libsndfile reads.
    sample_rate : int or None
        Wanted rate in Hz; None: the file's own.
    start_seconds, end_seconds : float or None
        The part to read, in seconds; None: from the beginning, to the end.

    Returns
    -------
    array (samples,)
        Mono float32, at the wanted rate.

    Raises
    ------
    EdgepruneError
        There is no such file, it is not audio, has no samples, samples that are not finite, or a
        rate that cannot be resampled; or the part lies outside the file.

    """
    with _open(path) as file:
        rate = file.samplerate
        first, last = _part(file, path, start_seconds, end_seconds)
        samples = _mono(_read(file, path, last - first, first), path)
    if samples.size == 0:
        raise EdgepruneError(f"The clip {path} is empty.")
    if sample_rate is not None and rate != sample_rate:
        samples = soxr.resample(samples, rate, sample_rate, quality=QUALITY)
    if samples.size == 0:
        raise EdgepruneError(f"The clip {path} is too short to be resampled.")
    return samples


def pad_to_window(
    clip: NDArray[np.float32], window_samples: int
) -> tuple[NDArray[np.float32], int]:
    """Center a clip that is not longer than a window in zeros.

    Returns
    -------
    window : array (window_samples,)
    first : int
        Sample of the window at which the clip begins.

    """
    first = (window_samples - len(clip)) // 2
    window = np.zeros(window_samples, dtype=np.float32)
    window[first : first + len(clip)] = clip
    return window, first


def windows_of(
    clip: NDArray[np.float32], window_samples: int, hop_samples: int
) -> list[NDArray[np.float32]]:
    """Cut a clip into windows that cover all of it; the last one ends where the clip ends.

    Parameters
    ----------
    clip : array (samples,)
    window_samples, hop_samples : int

    Returns
    -------
    list of array (window_samples,)
        A clip shorter than a window gives one window, with the clip centered in zeros.

    """
    if len(clip) <= window_samples:
        return [pad_to_window(clip, window_samples)[0]]
    last = len(clip) - window_samples
    starts = [*range(0, last, hop_samples), last]
    return [clip[start : start + window_samples] for start in starts]


def stream_file(path: Path, sample_rate: int, block_samples: int) -> Iterator[NDArray[np.float32]]:
    """Yield a file as blocks of mono samples at the wanted rate, of any length.

    Parameters
    ----------
    path : Path
    sample_rate : int
        Wanted rate in Hz.
    block_samples : int
        Number of samples read at a time, at the file's own rate.

    Raises
    ------
    EdgepruneError
        As ``read_clip``.

    """
    with _open(path) as file:
        if file.frames == 0:
            raise EdgepruneError(f"The file {path} is empty.")
        resampler = None
        if file.samplerate != sample_rate:
            resampler = soxr.ResampleStream(
                file.samplerate, sample_rate, 1, dtype="float32", quality=QUALITY
            )
        while True:
            block = _mono(_read(file, path, block_samples), path)
            last = len(block) < block_samples
            if resampler is not None:
                block = resampler.resample_chunk(block, last=last)
            if block.size:
                yield block
            if last:
                return


def seconds_of(
    path: Path, start_seconds: float | None = None, end_seconds: float | None = None
) -> float:
    """Return the duration of a file or a part of it in seconds, from its header.

    Parameters
    ----------
    path : Path
    start_seconds, end_seconds : float or None
        As ``read_clip``.

    Raises
    ------
    EdgepruneError
        As ``read_clip``, except for errors found only when samples are read.

    """
    with _open(path) as file:
        first, last = _part(file, path, start_seconds, end_seconds)
        return float((last - first) / file.samplerate)


def rate_of(path: Path) -> int:
    """Return a file's own sampling rate in Hz, from its header."""
    with _open(path) as file:
        return int(file.samplerate)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise EdgepruneError(f"There is no sound file {path}.")
    try:
        file = soundfile.SoundFile(path)
    except (soundfile.SoundFileError, TypeError, ValueError) as error:
        raise _unreadable(path, error) from None
    if not LOWEST_RATE <= file.samplerate <= HIGHEST_RATE:
        file.close()
        raise EdgepruneError(
            f"The sample rate of {path}, {file.samplerate} Hz, is out of range.",
            f"Allowed: {LOWEST_RATE} to {HIGHEST_RATE} Hz; is the file's header right?",
        )
    return file


def _part(file: Any, path: Path, start: float | None, end: float | None) -> tuple[int, int]:
    """Return a part's first sample and the one after its last, at the file's own rate."""
    first = round((start or 0.0) * file.samplerate)
    last = file.frames if end is None else min(file.frames, round(end * file.samplerate))
    if file.frames > 0 and not 0 <= first < last:
        raise EdgepruneError(
            f"The part from {start or 0:g} s to {'the end' if end is None else f'{end:g} s'} "
            f"is not in {path}, which lasts {file.frames / file.samplerate:g} s."
        )
    return first, last


def _read(file: Any, path: Path, frames: int, first: int | None = None) -> NDArray[np.float32]:
    try:
        if first is not None:
            file.seek(first)
        return np.asarray(file.read(frames, dtype="float32", always_2d=True))
    except (soundfile.SoundFileError, ValueError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> EdgepruneError:
    reason = str(error).replace(str(path), "it").replace(repr(str(path)), "it").rstrip(".")
    reason = reason.removeprefix("Error opening 'it': ")
    return EdgepruneError(f"{path} cannot be read as audio: {reason}.")


def _mono(frames: NDArray[np.float32], path: Path) -> NDArray[np.float32]:
    with np.errstate(over="ignore", invalid="ignore"):  # reported below as an error
        mono = frames[:, 0] if frames.shape[1] == 1 else frames.mean(axis=1, dtype=np.float32)
        finite = math.isfinite(float(mono.sum(dtype=np.float64)))
    if not finite:
        raise EdgepruneError(f"{path} has samples that are not finite numbers.")
    return np.ascontiguousarray(mono)


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
