"""Thresholds of labels from single windows, as ``compress`` sets them, and the temperature.

The temperature calibrates scores as probabilities. ``operating_point`` sets thresholds on whole
streams.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.manifest import HIGHEST_TEMPERATURE, LOWEST_TEMPERATURE
from edgeprune_device.inference.temperature import SMALLEST_SCORE, apply_temperature

LOWEST = 0.5  # more likely than all other labels together
LOWEST_TAG = 0.2  # the sigmoid of a rare tag seldom reaches 0.5
# Without background in training, a softmax gives unknown sounds up to this.
LOWEST_WITHOUT_BACKGROUND = 0.8
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
        Scores of the deployed file, 0 to 1.
    truth : array (n,) or (n, labels)
        Index of the true label, -1 without one (noise); for tags, 1 where a tag is present, else 0.
    labels : sequence of str
        Names of the labels.
    precision : float
        Share of a label's detections that must be correct, 0 to 1.
    lowest : float
        Lowest threshold allowed.

    Returns
    -------
    dict
        Label -> threshold, between ``lowest`` and 0.995. A label that cannot reach the precision
        gets a threshold above its highest wrong score.

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
        # Midway to the next lower score, so that rounding on the board changes nothing.
        below = own[own < reached]
        middle = (reached + float(below.max())) / 2 if below.size else reached
        thresholds[label] = min(HIGHEST, max(lowest, middle))
    return thresholds


def nll(
    scores: NDArray[np.floating], truth: NDArray[np.number], temperature: float, activation: str
) -> float:
    """Return the mean negative log-likelihood of the truth, in nats per window.

    Parameters
    ----------
    scores : array (n, labels)
        Scores of the deployed file, 0 to 1.
    truth : array (n,) or (n, labels)
        Softmax: index of the true label; sigmoid: 1 where a tag is present, else 0.
    temperature : float > 0
        Temperature to apply.
    activation : str
        ``softmax`` or ``sigmoid``.

    """
    sure = apply_temperature(np.asarray(scores, np.float32), temperature, activation).astype(
        np.float64
    )
    if activation == "softmax":
        return -float(
            np.mean(np.log(np.maximum(sure[np.arange(len(sure)), truth], SMALLEST_SCORE)))
        )
    right = np.where(truth > 0, sure, 1 - sure)
    return -float(np.log(np.maximum(right, SMALLEST_SCORE)).sum(axis=1).mean())


def fit_temperature(
    scores: NDArray[np.floating], truth: NDArray[np.number], activation: str
) -> float:
    """Return the temperature that maximizes the likelihood of the truth.

    Guo et al. 2017, "On calibration of modern neural networks": one temperature for all labels. The
    negative log-likelihood is unimodal in the logarithm of the temperature; its minimum is found by
    golden-section search from 0.05 to 20, to four digits.

    Parameters
    ----------
    scores, truth, activation
        As for ``nll``.

    """
    golden = (5**0.5 - 1) / 2
    low, high = np.log(LOWEST_TEMPERATURE), np.log(HIGHEST_TEMPERATURE)
    while high - low > 1e-4:
        left, right = high - golden * (high - low), low + golden * (high - low)
        costs = [nll(scores, truth, float(np.exp(x)), activation) for x in (left, right)]
        low, high = (low, right) if costs[0] <= costs[1] else (left, high)
    middle = float(np.exp((low + high) / 2))
    return round(min(HIGHEST_TEMPERATURE, max(LOWEST_TEMPERATURE, middle)), 4)
