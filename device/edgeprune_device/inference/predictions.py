"""Scores of windows as arrays, one window at a time, as text, or as a table in a notebook."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.inference.ctc import decode_greedy, to_text

SHOWN_ROWS = 20


@dataclass(frozen=True)
class Prediction:
    """The model's prediction for one window."""

    start_seconds: float
    """Start of the window, from the beginning of the audio."""
    end_seconds: float
    label: str
    """The label with the highest score; of a ctc model, the transcript."""
    score: float
    """Score of that label, 0 to 1; of a transcript, the mean posterior of its frames."""


@dataclass(frozen=True)
class Predictions:
    """Scores of all windows of audio; ``found[0]`` or iterating gives a ``Prediction``."""

    labels: tuple[str, ...]
    """Labels in the order of the scores."""
    scores: NDArray[np.float32]
    """Array (windows, labels), of ctc models (windows, frames, labels); 0 to 1."""
    start_seconds: NDArray[np.float64]
    """Array (windows,)."""
    window_seconds: float
    tokens: str = ""
    """Tokens of a ctc model: ``characters`` or ``words``; otherwise empty."""

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self.scores)

    def __getitem__(self, window: int) -> Prediction:
        """Return one window's best label; the last window is -1, as in a list."""
        window = operator.index(window)  # a slice of windows has no one label
        scores, start = self.scores[window], float(self.start_seconds[window])
        if self.tokens:
            reading = decode_greedy(scores, self.labels, self.tokens)
            label, score = to_text(reading.tokens, self.tokens), reading.score
        else:
            best = int(scores.argmax())
            label, score = self.labels[best], float(scores[best])
        return Prediction(start, start + self.window_seconds, label, score)

    def __iter__(self) -> Iterator[Prediction]:
        """Iterate over the windows in order, each with its best label."""
        return (self[window] for window in range(len(self)))

    def __str__(self) -> str:
        """Return one line per window, of many the first and last: start in seconds, score, label."""
        rows = [f"{p.start_seconds:9.2f} s  {p.score:.2f}  {p.label}" for p in self]
        if len(rows) > SHOWN_ROWS:
            left_out = len(rows) - SHOWN_ROWS
            half = SHOWN_ROWS // 2
            rows = [*rows[:half], f"... {left_out} more windows ...", *rows[-half:]]
        return "\n".join(rows)

    def _repr_html_(self) -> str:
        """Show the first windows as a table in a notebook."""
        rows = "".join(
            f"<tr><td>{p.start_seconds:.2f}</td><td>{escape(p.label)}</td><td>{p.score:.2f}</td></tr>"
            for p, _ in zip(self, range(SHOWN_ROWS), strict=False)
        )
        rest = len(self) - SHOWN_ROWS
        more = f"<p>and {rest} more windows</p>" if rest > 0 else ""
        head = "<tr><th>start, s</th><th>label</th><th>score</th></tr>"
        return f"<table><thead>{head}</thead><tbody>{rows}</tbody></table>{more}"
