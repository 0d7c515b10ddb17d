"""Logistic regression: solved to its end, its penalty chosen on validation, against numpy and scipy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import expit, logsumexp, softmax

from edgeprune.training.logistic_regression import PENALTIES, LinearHead, fit_linear_head, loss_of

Array = NDArray[Any]
LABELS = 3
SCALES = (1e-3, 1.0, 50.0, 2.0, 1.0)


def features(count: int, seed: int = 0) -> Array:
    """Draw features of very different scales, all far from zero."""
    drawn = np.random.default_rng(seed).standard_normal((count, len(SCALES)))
    return np.asarray((drawn + 3) * SCALES, np.float32)


def classes(x: Array, seed: int = 1) -> Array:
    """Draw classes that depend on the first and the third feature, and on chance."""
    noise = np.random.default_rng(seed).gumbel(size=(len(x), LABELS))
    return np.asarray(
        (np.outer(x[:, 0] / SCALES[0] - x[:, 2] / SCALES[2], [-1, 0, 1]) + noise).argmax(1)
    )


def tags(x: Array, seed: int = 1) -> Array:
    noise = np.random.default_rng(seed).logistic(size=(len(x), LABELS))
    return np.asarray((x / SCALES - 3)[:, :LABELS] + noise > 0, np.float32)


def fit(x: Array, y: Array, penalty: float) -> LinearHead:
    return fit_linear_head((torch.from_numpy(x), torch.from_numpy(y)), None, LABELS, (penalty,))


def scores(head: LinearHead, x: Array) -> Array:
    return np.asarray(x.astype(float) @ head.weight.double().numpy().T + head.bias.double().numpy())


def mean_loss(logits: Array, y: Array) -> float:
    """Mean cross-entropy of classes, or mean binary cross-entropy of tags."""
    if y.ndim == 1:
        return float(np.mean(logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]))
    return float(np.mean(np.logaddexp(0, logits) - y * logits))


def slope(logits: Array, y: Array) -> Array:
    """Gradient of ``mean_loss`` by each logit."""
    if y.ndim == 1:
        return np.asarray((softmax(logits, axis=1) - np.eye(LABELS)[y]) / len(y))
    return np.asarray((expit(logits) - y) / y.size)


def spread_of(x: Array) -> Array:
    return np.asarray(x.astype(float).std(axis=0))


@pytest.mark.parametrize("targets", [classes, tags])
@pytest.mark.parametrize("penalty", [0.1, 1e-2, 1e-4])
def test_the_gradient_of_the_penalized_loss_vanishes(targets: Any, penalty: float) -> None:
    x = features(200)
    y = targets(x)
    head = fit(x, y, penalty)
    by_logit = slope(scores(head, x), y)
    spread = spread_of(x)
    standardized = (x - x.mean(axis=0, dtype=float)) / spread
    by_weight = by_logit.T @ standardized + 2 * penalty * head.weight.numpy() * spread
    assert np.abs(by_weight).max() < 1e-5
    assert np.abs(by_logit.sum(axis=0)).max() < 1e-5
    assert np.abs(by_logit.T @ standardized).max() > 1e-5  # the penalty alone holds it back


@pytest.mark.parametrize("targets", [classes, tags])
@pytest.mark.parametrize("varies", [0.0, 1e-10])
def test_a_constant_feature_gets_no_weight_and_changes_no_score(
    targets: Any, varies: float
) -> None:
    """Nor does one that varies by rounding errors alone."""
    x = features(200)
    y = targets(x)
    drawn = np.random.default_rng(2).standard_normal((len(x), 1))
    constant = np.asarray(varies * drawn if varies else np.full_like(drawn, 0.1), np.float32)
    wider = np.concatenate([x, constant], axis=1)
    plain, with_constant = fit(x, y, 1e-2), fit(wider, y, 1e-2)
    assert not with_constant.weight[:, -1].any()
    np.testing.assert_allclose(scores(with_constant, wider), scores(plain, x), atol=1e-4)
    wider[0, -1] = 0.2  # in another clip than those of training it may differ
    np.testing.assert_allclose(scores(with_constant, wider), scores(plain, x), atol=1e-4)


@pytest.mark.parametrize("targets", [classes, tags])
def test_the_loss_is_that_of_the_task(targets: Any) -> None:
    x = features(20)
    y = targets(x)
    logits = np.random.default_rng(2).standard_normal((20, LABELS))
    found = loss_of(torch.from_numpy(y))(torch.from_numpy(logits), torch.from_numpy(y))
    assert float(found) == pytest.approx(mean_loss(logits, y))


def solved_by_scipy(x: Array, y: Array, penalty: float) -> tuple[Array, Array]:
    """Minimize the penalized loss with scipy; weight and bias for features as they are."""
    mean, spread = x.mean(axis=0, dtype=float), spread_of(x)
    given = (x - mean) / spread

    def value(flat: Array) -> float:
        w = flat.reshape(LABELS, -1)
        return mean_loss(given @ w[:, :-1].T + w[:, -1], y) + penalty * float(
            (w[:, :-1] ** 2).sum()
        )

    start = np.zeros(LABELS * (x.shape[1] + 1))
    w = minimize(value, start, method="BFGS", options={"gtol": 1e-6}).x.reshape(LABELS, -1)
    weight = w[:, :-1] / spread
    return weight, w[:, -1] - weight @ mean


@pytest.mark.parametrize("targets", [classes, tags])
def test_the_penalty_is_the_one_with_the_least_validation_loss(targets: Any) -> None:
    x, judged = features(25), features(200, seed=3)
    y, truth = targets(x), targets(judged, seed=4)
    penalties = (1.0, 0.1, 1e-2, 1e-3, 1e-4)
    solved = {p: solved_by_scipy(x, y, p) for p in penalties}
    losses = {p: mean_loss(judged @ w.T + b, truth) for p, (w, b) in solved.items()}
    best = min(penalties, key=lambda p: losses[p])
    assert penalties[0] > best > penalties[-1]  # else any rule that takes an end would pass
    train, valid = (
        (torch.from_numpy(a), torch.from_numpy(b)) for a, b in ((x, y), (judged, truth))
    )
    head = fit_linear_head(train, valid, LABELS, penalties)
    assert head.penalty == best
    assert mean_loss(scores(head, judged), truth) == pytest.approx(losses[best], rel=1e-4)


def test_of_penalties_that_do_equally_well_the_strongest_is_taken() -> None:
    """Features without any spread leave nothing to penalize."""
    x, y = torch.ones(6, 2), torch.tensor([0, 1, 2, 0, 1, 2])
    assert fit_linear_head((x, y), (x, y), LABELS).penalty == max(PENALTIES)


def test_the_head_is_a_map_of_the_features_as_they_are() -> None:
    """Features in other units give other weights but the same scores."""
    x = features(60)
    y = classes(x)
    units = np.array([100, 1e-2, 7, 1, 0.5], np.float32)
    plain, other = fit(x, y, 1e-2), fit(x * units, y, 1e-2)
    np.testing.assert_allclose(scores(plain, x), scores(other, x * units), atol=1e-3)
    np.testing.assert_allclose(plain.weight, other.weight.numpy() * units, rtol=1e-3, atol=1e-4)
    assert (plain.weight.dtype, plain.bias.dtype) == (torch.float32, torch.float32)


def test_without_validation_clips_the_first_penalty_is_used() -> None:
    x = features(60)
    y = classes(x)
    train = (torch.from_numpy(x), torch.from_numpy(y))
    head = fit_linear_head(train, None, LABELS, (0.03, 1e-4))
    assert head.penalty == 0.03
    assert torch.equal(head.weight, fit(x, y, 0.03).weight)
