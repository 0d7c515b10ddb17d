"""Metrics of the three tasks (classes, tags, CTC) with bootstrap intervals, in numpy.

A *tally* holds the outcome of one bundle or model on every clip, as numbers from which a metric can
be recomputed after drawing clips with replacement:

    classes   (clips, 2)           true class, predicted class
    tags      (clips, labels, 2)   score, and 1 where the tag is present
    ctc       (clips, 4)           token errors, tokens, word errors, words
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.inference.ctc import to_text, to_tokens

Array = NDArray[np.float64]
DRAWS = 2000
CHUNK = 2_000_000  # number of weights held in memory at once


@dataclass(frozen=True)
class Metric:
    """One metric over clips."""

    name: str
    compute: Callable[[Array, Array], Array]
    """(tally, weights (draws, clips): how often each clip was drawn) -> values (draws,)."""
    maximum: float = 1.0
    """Greatest possible value; the least is 0."""
    resampling_bias: bool = False
    """Whether drawing clips repeatedly biases it upwards, because tied scores count together."""


def value(metric: Metric, tally: Array) -> float:
    """Return a metric over all clips."""
    return float(metric.compute(tally, np.ones((1, len(tally))))[0])


def interval(
    metric: Metric, tallies: Sequence[Array], groups: Sequence[str] | None = None,
    base: Sequence[Array] = (), draws: int = DRAWS, seed: int = 0,
) -> tuple[float, float]:  # fmt: skip
    """Return a 95 % percentile bootstrap interval of a metric (Efron 1979).

    The draws of a metric that resampling biases (average precision) are shifted so that their mean
    is the metric's value (Efron and Tibshirani 1993, chapter 10).

    Parameters
    ----------
    metric : Metric
        Metric to compute.
    tallies : sequence of array
        Tallies of the same clips, one per seed; the metric is the mean over seeds.
    groups : sequence of str, optional
        Groups to resample whole (speakers, recordings), because their clips are correlated.
    base : sequence of array
        Tallies whose metric is subtracted on the same draws, for a paired difference.
    draws, seed : int
        Number of resamples and random seed.

    """
    found = []
    for weights in _weights(len(tallies[0]), groups, draws, seed):
        mean = np.mean([metric.compute(tally, weights) for tally in tallies], axis=0)
        if base:
            mean = mean - np.mean([metric.compute(tally, weights) for tally in base], axis=0)
        found.append(mean)
    drawn = np.concatenate(found)
    if metric.resampling_bias:
        own = np.mean([value(metric, tally) for tally in tallies])
        other = np.mean([value(metric, tally) for tally in base]) if base else 0.0
        drawn = drawn - np.nanmean(drawn) + (own - other)
    least, most = (-metric.maximum, metric.maximum) if base else (0.0, metric.maximum)
    low, high = np.clip(np.nanquantile(drawn, [0.025, 0.975]), least, most)
    return float(low), float(high)


def _weights(
    clips: int, groups: Sequence[str] | None, draws: int, seed: int
) -> Iterator[Array]:  # fmt: skip
    """Yield how often each clip is drawn, as arrays (draws, clips) of a few draws at a time."""
    names = np.arange(clips) if groups is None else np.asarray(groups)
    found, codes = np.unique(names, return_inverse=True)
    generator = np.random.default_rng(seed)
    share = np.full(len(found), 1 / len(found))
    step = max(1, CHUNK // clips)
    for first in range(0, draws, step):
        drawn = generator.multinomial(len(found), share, size=min(step, draws - first))
        yield drawn[:, codes].astype(float)


# ---- classes


def class_counts(tally: Array, weights: Array) -> tuple[Array, Array, Array]:
    """Count true positives, clips and predictions of each true class: arrays (draws, classes)."""
    truth, decided = tally[:, 0], tally[:, 1]
    classes = np.unique(truth)
    is_it, said = truth[:, None] == classes, decided[:, None] == classes
    return weights @ (is_it & said), weights @ is_it.astype(float), weights @ said.astype(float)


def accuracy(tally: Array, weights: Array) -> Array:
    """Share of clips whose class was predicted correctly."""
    right = (tally[:, 0] == tally[:, 1]).astype(float)
    return np.asarray(weights @ right / weights.sum(axis=1))


def balanced_accuracy(tally: Array, weights: Array) -> Array:
    """Mean recall over the classes that were drawn (every class has the same weight)."""
    hits, clips, _ = class_counts(tally, weights)
    return _mean_where(hits / np.maximum(clips, 1), clips > 0)


def macro_f1(tally: Array, weights: Array) -> Array:
    """Mean over the classes drawn of F1 = 2 true positives / (clips + predictions)."""
    hits, clips, said = class_counts(tally, weights)
    return _mean_where(2 * hits / np.maximum(clips + said, 1), clips > 0)


# ---- tags


def average_precision(scores: Array, truth: Array, weights: Array | None = None) -> Array:
    """Return a label's average precision: precision at each threshold, weighted by recall gained.

    AP = sum over the distinct scores, from the highest, of (R_i - R_(i-1)) P_i: no interpolation,
    clips with equal scores pass a threshold together.

    Parameters
    ----------
    scores : array (clips,)
        Scores of the label.
    truth : array (clips,)
        1 where the label is present, else 0.
    weights : array (draws, clips), optional
        How often each clip counts; default: once.

    Returns
    -------
    array (draws,)
        0 to 1; NaN if no clip has the label.

    """
    counts = np.ones((1, len(scores))) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    above = np.cumsum(counts[:, order], axis=1)[:, ends]
    hits = np.cumsum(counts[:, order] * truth[order], axis=1)[:, ends]
    gained = np.diff(hits, axis=1, prepend=0.0)
    area = (gained * hits / np.maximum(above, 1)).sum(axis=1)
    total = hits[:, -1]
    return np.asarray(np.where(total > 0, area / np.maximum(total, 1), np.nan))


def mean_average_precision(tally: Array, weights: Array) -> Array:
    """Unweighted mean over labels of average precision; labels without clips are left out."""
    each = np.stack([average_precision(tally[:, i, 0], tally[:, i, 1], weights)
                     for i in range(tally.shape[1])], axis=1)  # fmt: skip
    return _mean_where(np.nan_to_num(each), ~np.isnan(each))


def ranking_precision(scores: Array, truth: Array) -> Array:
    """Return each clip's label-ranking average precision (clips,) (Tsoumakas et al. 2010).

    The mean over a clip's true tags of the share of true tags among those scored as high or higher.
    A clip without tags gets 1.
    """
    found = np.ones(len(scores))
    for row, (score, right) in enumerate(zip(scores, truth.astype(bool), strict=True)):
        if right.any():
            over = score[:, None] >= score[None, right]
            found[row] = (over[right].sum(axis=0) / over.sum(axis=0)).mean()
    return found


# ---- ctc


def edit_distance(hypothesis: Sequence[str], reference: Sequence[str]) -> int:
    """Return the edit distance: the fewest insertions, deletions and substitutions.

    Levenshtein 1966, computed by rows: the insertions within a row are a running minimum.
    """
    codes = {token: i for i, token in enumerate(dict.fromkeys((*hypothesis, *reference)))}
    right = np.array([codes[token] for token in reference], dtype=np.int64)
    place = np.arange(len(right) + 1)
    row = place.copy()
    for token in hypothesis:
        change = row[:-1] + (right != codes[token])
        row = np.concatenate([row[:1] + 1, np.minimum(change, row[1:] + 1)])
        row = np.minimum.accumulate(row - place) + place
    return int(row[-1])


def transcript_errors(
    hypothesis: Sequence[str], reference: str, tokens: str
) -> tuple[int, int, int, int]:
    """Count token errors, tokens, word errors and words of a recognized transcript.

    Parameters
    ----------
    hypothesis : sequence of str
        Recognized tokens.
    reference : str
        Reference transcript.
    tokens : str
        ``characters`` or ``words``.

    """
    right = to_tokens(reference, tokens)
    words = to_text(hypothesis, tokens).split()
    return (edit_distance(hypothesis, right), len(right), edit_distance(words, reference.split()),
            len(reference.split()))  # fmt: skip


def token_error_rate(tally: Array, weights: Array) -> Array:
    """Errors per token of the reference transcripts; for characters, the character error rate."""
    return _ratio(weights @ tally[:, 0], weights @ tally[:, 1])


def word_error_rate(tally: Array, weights: Array) -> Array:
    """Errors per word of the reference transcripts."""
    return _ratio(weights @ tally[:, 2], weights @ tally[:, 3])


def token_score(tally: Array, weights: Array) -> Array:
    """1 - the token error rate, at least 0."""
    return np.maximum(0.0, 1 - token_error_rate(tally, weights))


def _ratio(errors: Array, length: Array) -> Array:
    return np.asarray(errors / np.maximum(length, 1))


def _mean_where(values: Array, there: NDArray[np.bool_]) -> Array:
    """Mean of each row over its columns marked ``there``; NaN where there are none."""
    count = there.sum(axis=1)
    total = np.where(there, values, 0.0).sum(axis=1)
    return np.asarray(np.where(count > 0, total / np.maximum(count, 1), np.nan))


METRICS: dict[str, tuple[Metric, ...]] = {  # the first, from 0 to 1, is used for decisions
    "classes": (
        Metric("accuracy", accuracy),
        Metric("balanced accuracy", balanced_accuracy),
        Metric("macro F1", macro_f1),
    ),
    "tags": (Metric("mAP", mean_average_precision, resampling_bias=True),),
    "ctc": (
        Metric("1 - TER", token_score),
        Metric("token error rate", token_error_rate, math.inf),
        Metric("word error rate", word_error_rate, math.inf),
    ),
}
