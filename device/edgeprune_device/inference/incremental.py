"""Scores overlapping windows without recomputing the front end's frames of shared audio.

A bundle's model may come in two parts (``incremental`` in its manifest): ``front`` turns a chunk of
samples into frames, ``back`` turns a window's frames into scores. For a window that begins a hop
after the previous one, only the new frames are computed (``frame_overlap``), and the back, whose
input is the complete window, runs as usual::

    window 1   [f f f f f f f f]  -> back -> scores
    window 2       [. . . . . . f f]  -> back -> scores        . kept, f computed

A kept frame is reused only if all samples it was computed from are in the new window; every sample
is compared, so that no gap, restart or late block can bring a frame of other audio into a window.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.frame_overlap import NAMES, FrameOverlap, overlap_of
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference.runtime import onnx_session

SAME = 1e-4  # largest difference of a score between kept and computed frames
CHECKED_WINDOWS = 3  # overlapping windows compared when a bundle is opened
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class IncrementalScorer:
    """Scores windows given as (first sample, window); keeps the last window's frames.

    Parameters
    ----------
    plan : FrameOverlap
    front : callable
        Samples (``plan.chunk_samples``,) -> frames (``plan.chunk``, ...).
    back : callable
        Frames (``plan.frames``, ...) -> scores (labels,), of a ctc model (frames, labels).

    """

    def __init__(self, plan: FrameOverlap, front: Run, back: Run) -> None:
        self.plan, self.front, self.back = plan, front, back
        self.computed = self.kept = 0
        """Computed and kept frames so far, of all windows: for the recorder's statistics."""
        self._first = 0
        self._window: NDArray[np.float32] | None = None
        self._frames: NDArray[np.float32] | None = None

    def __call__(self, first_sample: int, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score a window.

        Parameters
        ----------
        first_sample : int
            First sample of the window in the stream.
        window : array of float32, (window_samples,)

        Returns
        -------
        array of float32, (labels,), of a ctc model (frames, labels)
            The scores of the complete model, within 1e-4.

        """
        plan = self.plan
        shift = self._shift(first_sample, window)
        frames, kept = self._frames, plan.kept(plan.frames)
        if shift is not None and frames is not None:
            kept = plan.kept(shift)
            frames[kept.start : kept.stop] = frames[kept.start + shift : kept.stop + shift].copy()
        self._window = None  # if a runtime fails halfway, nothing is kept
        for begin, start, stop in plan.chunks(kept):
            first = begin * plan.step
            part = self.front(window[first : first + plan.chunk_samples])
            if frames is None:
                frames = np.empty((plan.frames, *part.shape[1:]), dtype=np.float32)
            frames[start:stop] = part[start - begin : stop - begin]
            self.computed += stop - start
        scores = self.back(frames)  # type: ignore[arg-type]  # a first window has a chunk
        self.kept += len(kept)
        self._first, self._window, self._frames = first_sample, window.copy(), frames
        return scores

    def gap(self) -> None:
        """Forget the last window, because the next one does not follow it directly."""
        self._window = None

    def _shift(self, first_sample: int, window: NDArray[np.float32]) -> int | None:
        """Return how many frames a window begins after the last; None if nothing can be kept."""
        if self._window is None:
            return None
        shift, rest = divmod(first_sample - self._first, self.plan.step)
        if rest or not 0 <= shift < self.plan.frames:
            return None
        later = self._window[shift * self.plan.step :]
        return shift if np.array_equal(later, window[: len(later)]) else None


def incremental_problem(bundle: Bundle, hop_samples: int | None = None) -> str:
    """Return why a bundle's frames cannot be kept from window to window; empty if they can.

    Parameters
    ----------
    bundle : Bundle
    hop_samples : int or None
        Hop between windows in samples; None: the bundle's.

    """
    model, hop = bundle.manifest["model"], hop_samples or bundle.hop_samples
    if "incremental" not in model:
        said: str = model.get("not_incremental", "")
        return said or f"The bundle has no incremental files of {bundle.file}."
    plan = overlap_of(model)
    if hop % plan.step:
        return (f"A hop of {hop} samples is not a multiple of the {plan.step} samples between two "
                "frames of this model.")  # fmt: skip
    if not plan.kept(hop // plan.step):
        return f"Windows of {plan.window_samples} samples share no frame at a hop of {hop}."
    return ""


def open_incremental(
    bundle: Bundle, threads: int = 1, hop_samples: int | None = None
) -> IncrementalScorer | None:
    """Open a bundle's incremental files and check them; None if ``incremental_problem`` gives a reason.

    The file of the complete model is not opened. Both files together are compared with its golden
    outputs, and overlapping windows of a stream of golden inputs with the scores without reuse.

    Parameters
    ----------
    bundle : Bundle
        One variant of it (``ChosenVariant.bundle``).
    threads : int
        Number of threads of the runtime.
    hop_samples : int or None
        Hop between windows in samples; None: the bundle's.

    Returns
    -------
    IncrementalScorer or None

    Raises
    ------
    EdgepruneError
        The runtime is not installed or rejects a file, or the scores differ from those of the model
        (status 1).

    """
    if incremental_problem(bundle, hop_samples):
        return None
    scorer = open_incremental_unchecked(bundle, threads)
    _check(bundle, scorer, hop_samples or bundle.hop_samples)
    return scorer


def open_incremental_unchecked(bundle: Bundle, threads: int = 1) -> IncrementalScorer:
    """Open a bundle's two incremental files without checking them."""
    entry = bundle.manifest["model"]["incremental"]
    axis = int(entry["axis"])
    front, back = (_runner(bundle, entry[name], threads) for name in NAMES)

    def make(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.moveaxis(front(samples[None])[0], axis - 1, 0)

    def answer(frames: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(back(np.moveaxis(frames, 0, axis - 1)[None])[0])

    return IncrementalScorer(overlap_of(bundle.manifest["model"]), make, answer)


def _runner(bundle: Bundle, half: dict[str, Any], threads: int) -> Run:
    """Open one file; its input and output must match the manifest."""
    session = onnx_session(
        replace(bundle, model_bytes=bundle.incremental_files[half["file"]]), threads
    )
    found = [(x.name, list(x.shape), x.type)
             for x in (*session.get_inputs(), *session.get_outputs())]  # fmt: skip
    said = [(half[side]["name"], list(half[side]["shape"]), "tensor(float)")
            for side in ("input", "output")]  # fmt: skip
    if found != said:
        raise EdgepruneError(
            f"{half['file']} of bundle {bundle.name} has another input or output than bundle.json "
            "describes.",
            "Create the bundle again.",
        )
    source, target = half["input"]["name"], [half["output"]["name"]]

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(target, {source: np.ascontiguousarray(values)})[0])

    return run


def _check(bundle: Bundle, scorer: IncrementalScorer, hop: int) -> None:
    """Compare scores with the golden outputs, then kept frames with recomputed ones."""
    for golden in bundle.golden:
        scorer.gap()
        _close(bundle, scorer(0, golden.samples), golden.scores, golden.tolerance)
    stream = np.concatenate([golden.samples for golden in bundle.golden] * 2)
    fresh = IncrementalScorer(scorer.plan, scorer.front, scorer.back)
    scorer.gap()
    for first in range(0, CHECKED_WINDOWS * hop + 1, hop):
        window = stream[first : first + bundle.window_samples]
        if len(window) == bundle.window_samples:
            fresh.gap()
            _close(bundle, scorer(first, window), fresh(first, window), SAME)
    scorer.gap()
    scorer.computed = scorer.kept = 0


def _close(
    bundle: Bundle, found: NDArray[np.float32], wanted: NDArray[np.float32], most: float
) -> None:
    difference = float(np.abs(found - wanted).max())
    if not difference <= most:
        raise EdgepruneError(
            f"The incremental files of bundle {bundle.name} have other scores than its model: a score "
            f"is off by {difference:.3g} (allowed: {most:g}).",
            "Run it without them, or create the bundle again for this processor.", FAILED_CHECK,
        )  # fmt: skip
