"""How sure the deployed file must be before it reports a label, and how sure it is at all.

Thresholds from single windows (as ``compress`` sets them), and the temperature that makes scores
mean what they say. ``operating`` sets thresholds on whole streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.manifest import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE
from edgeprune_device.inference.temperature import SMALLEST_SCORE, temper

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


def nll(
    scores: NDArray[np.floating], truth: NDArray[np.number], temperature: float, activation: str
) -> float:
    """Return the mean negative log likelihood of the truth, in nats a window.

    Parameters
    ----------
    scores : array (n, labels)
        0 to 1, as the deployed file answers.
    truth : array (n,) or (n, labels)
        Of a softmax the right label's index; of a sigmoid 1 where a tag is right, else 0.
    temperature : float > 0
    activation : str
        ``softmax`` or ``sigmoid``.

    """
    sure = temper(np.asarray(scores, np.float32), temperature, activation).astype(np.float64)
    if activation == "softmax":
        return -float(
            np.mean(np.log(np.maximum(sure[np.arange(len(sure)), truth], SMALLEST_SCORE)))
        )
    right = np.where(truth > 0, sure, 1 - sure)
    return -float(np.log(np.maximum(right, SMALLEST_SCORE)).sum(axis=1).mean())


def fit_temperature(
    scores: NDArray[np.floating], truth: NDArray[np.number], activation: str
) -> float:
    """Return the temperature under which the truth is likeliest.

    Guo et al. 2017, "On calibration of modern neural networks": one number for all labels, by the
    negative log likelihood, which has a single valley over the logarithm of the temperature; found
    by golden sections of 0.05 to 20 to four digits.

    Parameters
    ----------
    scores, truth, activation
        As ``nll``.

    """
    golden = (5**0.5 - 1) / 2
    low, high = np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE)
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        costs = [nll(scores, truth, float(np.exp(x)), activation) for x in (left, right)]
        low, high = (low, right) if costs[0] <= costs[1] else (left, high)
    middle = float(np.exp((low + high) / 2))
    return round(min(HIGHEST_TEMPERATURE, max(LOWEST_TEMPERATURE, middle)), 4)
