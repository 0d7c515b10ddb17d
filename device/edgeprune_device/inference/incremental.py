"""Score overlapping windows without computing the front end's frames of shared sound again.

A bundle's model may come cut in two (``incremental`` in its manifest): ``front`` makes frames of a
chunk of samples, ``back`` makes scores of a window's frames. Of a window that begins a hop after
the one before, only the new frames are computed (``overlap``), and the back, which sees the whole
window, runs as ever::

    window 1   [f f f f f f f f]  -> back -> scores
    window 2       [. . . . . . f f]  -> back -> scores        . kept, f computed

A kept frame is used only where the samples it was made of stand in the new window, every one of
them compared: no gap, restart or late block can bring a frame of other sound into a window.
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
CHECKED_WINDOWS = 3  # overlapping ones, when a bundle is opened
Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]


class IncrementalScorer:
    """From (first sample, window) to scores; holds the last window's frames.

    Parameters
    ----------
    plan : Plan
    front : callable
        Samples (``plan.chunk_samples``,) to frames (``plan.chunk``, ...).
    back : callable
        Frames (``plan.frames``, ...) to scores (labels,), of transcripts (frames, labels).

    """

    def __init__(self, plan: FrameOverlap, front: Run, back: Run) -> None:
        self.plan, self.front, self.back = plan, front, back
        self.computed = self.kept = 0
        """Frames so far, of all windows: for the recorder's figures."""
        self._first = 0
        self._window: NDArray[np.float32] | None = None
        self._frames: NDArray[np.float32] | None = None

    def __call__(self, first_sample: int, window: NDArray[np.float32]) -> NDArray[np.float32]:
        """Score a window.

        Parameters
        ----------
        first_sample : int
            Where it begins in the stream.
        window : array of float32, (window_samples,)

        Returns
        -------
        array of float32, (labels,), of transcripts (frames, labels)
            What the whole model answers, within 1e-4.

        """
        plan = self.plan
        shift = self._shift(first_sample, window)
        frames, kept = self._frames, plan.kept(plan.frames)
        if shift is not None and frames is not None:
            kept = plan.kept(shift)
            frames[kept.start : kept.stop] = frames[kept.start + shift : kept.stop + shift].copy()
        self._window = None  # should a runtime fail half way, nothing is kept
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
        """Forget the last window: what comes next is not what followed it."""
        self._window = None

    def _shift(self, first_sample: int, window: NDArray[np.float32]) -> int | None:
        """Return how many frames a window begins after the last; None where nothing can be kept."""
        if self._window is None:
            return None
        shift, rest = divmod(first_sample - self._first, self.plan.step)
        if rest or not 0 <= shift < self.plan.frames:
            return None
        later = self._window[shift * self.plan.step :]
        return shift if np.array_equal(later, window[: len(later)]) else None


def why_not(bundle: Bundle, hop_samples: int | None = None) -> str:
    """Say why a bundle's frames cannot be kept from window to window; empty if they can.

    Parameters
    ----------
    bundle : Bundle
    hop_samples : int or None
        From one window to the next; None: the bundle's.

    """
    model, hop = bundle.manifest["model"], hop_samples or bundle.hop_samples
    if "incremental" not in model:
        said: str = model.get("not_incremental", "")
        return said or f"{bundle.file} is not accompanied by its two halves."
    plan = overlap_of(model)
    if hop % plan.step:
        return (f"A hop of {hop} samples is no multiple of the {plan.step} between two frames of "
                "this model.")  # fmt: skip
    if not plan.kept(hop // plan.step):
        return f"Windows of {plan.window_samples} samples share no frame at a hop of {hop}."
    return ""


def open_incremental(
    bundle: Bundle, threads: int = 1, hop_samples: int | None = None
) -> IncrementalScorer | None:
    """Open a bundle's two halves and check them here; None where ``why_not`` says why.

    The whole model's file is not opened: its golden outputs are what the halves are held to, and
    overlapping windows of a stream of golden inputs to what the halves answer with nothing kept.

    Parameters
    ----------
    bundle : Bundle
        One variant of it (``Picked.bundle``).
    threads : int
        Inside one inference.
    hop_samples : int or None
        From one window to the next; None: the bundle's.

    Raises
    ------
    EdgepruneError
        The runtime is not installed or refuses a file, or the halves answer otherwise than the
        model did (status 1).

    """
    if why_not(bundle, hop_samples):
        return None
    scorer = open_halves(bundle, threads)
    _check(bundle, scorer, hop_samples or bundle.hop_samples)
    return scorer


def open_halves(bundle: Bundle, threads: int = 1) -> IncrementalScorer:
    """Open a bundle's two halves, unchecked."""
    entry = bundle.manifest["model"]["incremental"]
    axis = int(entry["axis"])
    front, back = (_runner(bundle, entry[name], threads) for name in NAMES)

    def make(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.moveaxis(front(samples[None])[0], axis - 1, 0)

    def answer(frames: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.array(back(np.moveaxis(frames, 0, axis - 1)[None])[0])

    return IncrementalScorer(overlap_of(bundle.manifest["model"]), make, answer)


def _runner(bundle: Bundle, half: dict[str, Any], threads: int) -> Run:
    """Open one file; what it takes and gives must be what the manifest says."""
    session = onnx_session(replace(bundle, model_bytes=bundle.halves[half["file"]]), threads)
    found = [(x.name, list(x.shape), x.type)
             for x in (*session.get_inputs(), *session.get_outputs())]  # fmt: skip
    said = [(half[side]["name"], list(half[side]["shape"]), "tensor(float)")
            for side in ("input", "output")]  # fmt: skip
    if found != said:
        raise EdgepruneError(
            f"{half['file']} of bundle {bundle.name} takes or gives something else than "
            "bundle.json says.",
            "Make the bundle again.",
        )
    source, target = half["input"]["name"], [half["output"]["name"]]

    def run(values: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(target, {source: np.ascontiguousarray(values)})[0])

    return run


def _check(bundle: Bundle, scorer: IncrementalScorer, hop: int) -> None:
    """Compare the halves with the golden outputs, then kept frames with frames made anew."""
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
            f"The halves of bundle {bundle.name} answer differently here than its model: a score "
            f"is off by {difference:.3g} (allowed: {most:g}).",
            "Listen without them, or make the bundle again for this processor.", FAILED_CHECK,
        )  # fmt: skip
