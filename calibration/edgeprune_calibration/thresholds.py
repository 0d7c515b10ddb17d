"""Decision thresholds: how sure the deployed file must be before it reports a label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LOWEST = 0.5  # more likely than all other labels together
LOWEST_TAG = 0.2  # the sigmoid of a rare tag seldom comes to a half
LOWEST_UNTAUGHT = 0.8  # a softmax that was never taught "nothing" gives unknown sounds up to this
HIGHEST = 0.995
NO_LABEL = -1


def choose_thresholds(
    scores: NDArray[np.floating], truth: NDArray[np.number], labels: Sequence[str],
    precision: float, lowest: float = LOWEST,
) -> dict[str, float]:  # fmt: skip
    """Return each label's lowest threshold that reaches a precision on these windows.

    Parameters
    ----------
    scores : array (n, labels)
        What the deployed file answered, 0 to 1.
    truth : array (n,) or (n, labels)
        The right label's index, -1 where there is none (noise); of tags, 1 where one is right,
        else 0.
    labels : sequence of str
    precision : float
        Share of a label's reports that must be right, 0 to 1.
    lowest : float
        No threshold is under this.

    Returns
    -------
    dict
        Label to threshold, between ``lowest`` and 0.995. A label that cannot reach the precision gets
        the threshold above its highest wrong score.

    """
    thresholds = {}
    for index, label in enumerate(labels):
        own = scores[:, index]
        right = truth == index if truth.ndim == 1 else truth[:, index] > 0
        candidates = np.unique(own[own >= lowest])
        reported = (len(own) - np.searchsorted(np.sort(own), candidates)).astype(float)
        hits = right.sum() - np.searchsorted(np.sort(own[right]), candidates)
        good = candidates[hits >= precision * reported]
        wrong = own[~right]
        highest_wrong = float(wrong.max()) if wrong.size else 0.0
        reached = float(good[0]) if good.size else highest_wrong + 1e-3
        # Half-way down to the next lower score, so that rounding on the board changes nothing.
        below = own[own < reached]
        middle = (reached + float(below.max())) / 2 if below.size else reached
        thresholds[label] = min(HIGHEST, max(lowest, middle))
    return thresholds
