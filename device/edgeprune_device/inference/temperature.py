"""Temperature scaling of scores: changes their confidence, not the order of the labels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SMALLEST_SCORE = 1e-7  # below this a float32 score does not determine its logit


def apply_temperature(
    scores: NDArray[np.float32], temperature: float, activation: str
) -> NDArray[np.float32]:
    """Return the scores that the logits divided by a temperature would give.

    Guo et al. 2017, "On calibration of modern neural networks". For a softmax p^(1/T), normalised
    to sum to one; for a sigmoid the sigmoid of logit(p) / T. The order of the labels stays.

    Parameters
    ----------
    scores : array (..., labels)
        0 to 1.
    temperature : float > 0
        1 changes nothing; above 1 the scores become less confident.
    activation : str
        ``softmax`` or ``sigmoid``.

    """
    if temperature == 1:
        return scores
    sure = np.clip(scores, SMALLEST_SCORE, 1.0).astype(np.float64)
    if activation == "softmax":
        logits = np.log(sure) / temperature
        powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=-1, keepdims=True), dtype=np.float32)
    unsure = np.clip(1.0 - scores.astype(np.float64), SMALLEST_SCORE, 1.0)
    logits = (np.log(sure) - np.log(unsure)) / temperature
    return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float32)
