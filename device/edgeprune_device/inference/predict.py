"""Python API of a bundle: open it once, then predict labels and scores of arrays and sound files.

    model = load_bundle("runs/birds/bundle")
    found = model.predict("forest.wav")            # or: model.predict(samples, sample_rate=48000)
    found.scores, found.labels, found.start_seconds

The audio is processed as on the recorder: resampled as a stream, cut into the same windows, scored
by the same runtime with the same temperature. What the recorder then computes from the scores over
time (smoothing, confirmation, refractory time) is left to ``edgeprune listen``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.audio.resample import Resampler
from edgeprune_device.audio.sound_files import HIGHEST_RATE, LOWEST_RATE, stream_file
from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference import runtime
from edgeprune_device.inference.choose_variant import choose_variant
from edgeprune_device.inference.predictions import Predictions
from edgeprune_device.inference.runtime import Scorer
from edgeprune_device.inference.temperature import apply_temperature

BLOCK_SECONDS = 0.1
HIGHEST_PEAK = 2.0  # decoders and resamplers overshoot full scale, but not by 6 dB


class LoadedBundle:
    """A bundle that was checked completely, opened, and passed its golden check.

    Parameters
    ----------
    bundle : Bundle
        As returned by ``read_bundle``; of two model files the faster one is used.
    threads : int
        Number of threads of the runtime.

    Raises
    ------
    EdgepruneError
        Its runtime is not installed (status 3) or rejects the file, or the scores differ from those
        of the machine that created the bundle (status 1).

    """

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        picked = choose_variant(bundle, threads)
        self.bundle: Bundle = picked.bundle
        self._score: Scorer = picked.run

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return self.bundle.name

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the scores."""
        return self.bundle.labels

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model's input in Hz; other rates are resampled."""
        return self.bundle.sample_rate

    @property
    def window_seconds(self) -> float:
        """Length of the model's input window in seconds."""
        return self.bundle.window_samples / self.bundle.sample_rate

    @property
    def hop_seconds(self) -> float:
        """Seconds from the start of a window to the start of the next."""
        return self.bundle.hop_samples / self.bundle.sample_rate

    def predict(
        self, audio: NDArray[Any] | str | Path, sample_rate: int | None = None
    ) -> Predictions:
        """Score audio window by window.

        Parameters
        ----------
        audio : array (samples,) or (samples, channels), or path
            Samples in [-1, 1], or 16-bit or 32-bit integers; channels are averaged. Or a file that
            libsndfile reads.
        sample_rate : int, optional
            Sample rate of an array in Hz; not allowed for a file, which has its own.

        Returns
        -------
        Predictions
            Audio shorter than a window is centered in zeros, as in training; audio shorter than
            half a hop gives no window.

        Raises
        ------
        EdgepruneError
            An array without a sample rate, of another shape or type, empty, not finite or far
            outside [-1, 1]; a file that cannot be read.

        """
        windower = Windower(self.bundle.window_samples, self.bundle.hop_samples)
        starts, scores = [], []
        for block in self._blocks(audio, sample_rate):
            for first, window in windower.push(block):
                starts.append(first)
                scores.append(self._score(window))
        for first, window in windower.flush():
            starts.append(first)
            scores.append(self._score(window))
        found = np.stack(scores) if scores else np.empty((0, *self.bundle.output_shape), np.float32)
        if self.bundle.activation != "ctc":
            found = apply_temperature(found, self.bundle.temperature, self.bundle.activation)
        return Predictions(self.labels, found, np.array(starts) / self.sample_rate,
                           self.window_seconds, self.bundle.tokens)  # fmt: skip

    def _blocks(
        self, audio: NDArray[Any] | str | Path, sample_rate: int | None
    ) -> Iterator[NDArray[np.float32]]:
        """Yield the audio at the model's rate."""
        if isinstance(audio, str | Path):
            if sample_rate is not None:
                raise EdgepruneError(
                    f"A file has its own sample rate; {sample_rate} Hz was given for {audio}.",
                    "Leave sample_rate out.",
                )
            yield from stream_file(
                Path(audio), self.sample_rate, round(BLOCK_SECONDS * self.sample_rate)
            )
            return
        samples = to_mono(np.asarray(audio))
        if sample_rate is None:
            raise EdgepruneError(
                "sample_rate is missing: an array does not say at what rate it was recorded.",
                "Example: model.predict(samples, sample_rate=16000)",
            )
        if not isinstance(sample_rate, int | np.integer):
            raise EdgepruneError(
                f"sample_rate = {sample_rate!r} is not a whole number of Hz.",
                "Example: model.predict(samples, sample_rate=16000)",
            )
        if not LOWEST_RATE <= sample_rate <= HIGHEST_RATE:
            raise EdgepruneError(
                f"sample_rate = {sample_rate} is out of range "
                f"(allowed: {LOWEST_RATE} to {HIGHEST_RATE} Hz).",
                "Example: model.predict(samples, sample_rate=16000)",
            )
        resampler = Resampler(sample_rate, self.sample_rate)
        yield resampler.push(samples)
        yield resampler.flush()

    def __repr__(self) -> str:
        """Show the bundle's name, number of labels, sample rate and window."""
        return (f"LoadedBundle({self.name!r}, {len(self.labels)} labels, {self.sample_rate} Hz, "
                f"windows of {self.window_seconds:g} s)")  # fmt: skip


def load_bundle(path: str | Path, threads: int = 1) -> LoadedBundle:
    """Read a bundle completely, check it, and open its model.

    Parameters
    ----------
    path : str or Path
        A folder, or the same as one .zip.
    threads : int
        Number of threads of the runtime.

    Returns
    -------
    LoadedBundle

    Raises
    ------
    EdgepruneError
        There is no bundle, or it is damaged; or an error of ``LoadedBundle``.

    """
    return LoadedBundle(read_bundle(Path(path)), threads)


def open_model(bundle: str | Path | Bundle | LoadedBundle, threads: int = 1) -> Scorer:
    """Return the bare model of a bundle: samples (window_samples,) -> scores, both float32.

    For programs that cut windows and apply thresholds themselves; ``load_bundle`` does both as the
    recorder does.

    Parameters
    ----------
    bundle : str or Path, or a bundle
        A bundle; its first model file is opened.
    threads : int
        Number of threads of the runtime.

    Returns
    -------
    callable

    Raises
    ------
    EdgepruneError
        As ``read_bundle``; the runtime is not installed, or rejects the file.

    """
    if isinstance(bundle, LoadedBundle):
        bundle = bundle.bundle
    if not isinstance(bundle, Bundle):
        bundle = read_bundle(Path(bundle))
    return runtime.open_model(bundle, threads)


def to_mono(samples: NDArray[Any]) -> NDArray[np.float32]:
    """Return samples as mono float32 in [-1, 1].

    Parameters
    ----------
    samples : array (samples,) or (samples, channels)
        Floating point, int16 or int32.

    Raises
    ------
    EdgepruneError
        Another shape or type, no samples, a sample that is not finite or far outside [-1, 1].

    """
    if samples.ndim not in (1, 2) or samples.size == 0:
        raise EdgepruneError(
            f"An array of shape {samples.shape} is not audio.",
            "Use the shape (samples,) or (samples, channels).",
        )
    if samples.ndim == 2 and samples.shape[1] > samples.shape[0]:
        raise EdgepruneError(
            f"An array of shape {samples.shape} has more channels than samples.",
            "Channels come last, as soundfile reads them; transpose librosa's arrays: samples.T",
        )
    if samples.dtype in (np.int16, np.int32):
        samples = samples / np.float64(-np.iinfo(samples.dtype).min)
    elif not np.issubdtype(samples.dtype, np.floating):
        raise EdgepruneError(
            f"Samples of type {samples.dtype} are not supported.",
            "Use floats in [-1, 1], int16 or int32.",
        )
    mono = samples if samples.ndim == 1 else samples.mean(axis=1)
    if not np.isfinite(mono).all():
        raise EdgepruneError("The array has samples that are not finite numbers.")
    peak = float(np.abs(mono).max())
    if peak > HIGHEST_PEAK:
        raise EdgepruneError(
            f"The array has a sample of {peak:.6g}, but floats must be in [-1, 1].",
            "Divide 16-bit values by 32768, or pass them as int16; undo any normalization.",
        )
    return np.ascontiguousarray(mono, dtype=np.float32)
