"""The accuracy that one model loses against another on the same clips, with its standard error."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class PairedLoss:
    """Mean of the paired differences, and how far it may be off."""

    loss: float
    """First model's mean value minus the second's."""
    error: float
    """Standard error of the loss over resampled groups (or clips); infinite with fewer than two."""

    @property
    def upper(self) -> float:
        """Loss plus one standard error, which the true loss exceeds once in six times."""
        return self.loss + self.error


def paired_loss(
    first: ArrayLike, second: ArrayLike, groups: Sequence[str] | None = None
) -> PairedLoss:
    """Return what the second model loses against the first.

    Parameters
    ----------
    first, second : array (clips,)
        Value of each clip, such as 1 if it is right and 0 if not, in the same order.
    groups : sequence of str, optional
        Group of each clip (speaker, recording). Clips of one group are not independent, so the
        standard error is that of a mean over clusters (Cochran 1977, section 9A.2).

    """
    lost = np.asarray(first, dtype=float) - np.asarray(second, dtype=float)
    mean = float(lost.mean())
    labels = np.arange(len(lost)) if groups is None else np.unique(groups, return_inverse=True)[1]
    count = int(labels.max()) + 1
    if count < 2:
        return PairedLoss(mean, float("inf"))
    sums = np.bincount(labels, weights=lost - mean, minlength=count)
    variance = count / (count - 1) * float(np.square(sums).sum()) / len(lost) ** 2
    return PairedLoss(mean, float(np.sqrt(variance)))
