"""Least squares on moments, against numpy's on the frames themselves."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from edgeprune.closed_form import least_squares
from edgeprune.closed_form.least_squares import Moments, regression, removal_order, solve

Array = NDArray[Any]
FRAMES, INPUTS, OUTPUTS = 400, 6, 3
RIDGE = 1e-2


class Frames:
    """Frames of a projection with weights of their own, whose inputs are correlated."""

    def __init__(self, seed: int = 0, inputs: int = INPUTS, offset: float = 2.0) -> None:
        generator = np.random.default_rng(seed)
        mixed = generator.standard_normal((inputs, inputs))
        self.x = generator.standard_normal((FRAMES, inputs)) @ mixed + offset
        self.weight = generator.standard_normal((OUTPUTS, inputs))
        self.bias = generator.standard_normal(OUTPUTS)
        self.y = self.x @ self.weight.T + self.bias
        self.shares = generator.uniform(0.1, 3, FRAMES)
        self.importance = generator.uniform(0.1, 5, OUTPUTS)

    def noisy(self) -> Frames:
        """Make the targets something else than the projection's outputs."""
        self.y = self.y + np.random.default_rng(9).standard_normal(self.y.shape) + 1
        return self

    def moments(self, *, centred: bool = True, parts: int = 3) -> Moments:
        moments = Moments(self.x.shape[1], OUTPUTS, centred)
        for index in np.array_split(np.arange(FRAMES), parts):
            moments.add(*(torch.from_numpy(each[index]) for each in (self.x, self.y, self.shares)))
        return moments

    def regression(self, ridge: float = RIDGE) -> least_squares.Regression:
        return regression(self.moments(), torch.from_numpy(self.weight), ridge)

    def solved(self, kept: Array, ridge: float = RIDGE) -> tuple[Array, Array, float]:
        """Solve the augmented problem on the kept inputs; weight, bias and the weighted minimum.

        A row per frame and a row per kept weight, which the ridge holds at its own value.
        """
        shares = self.shares / self.shares.sum()
        variances = np.cov(self.x.T, aweights=self.shares, ddof=0).diagonal()
        pull = ridge * variances.mean()
        root = np.sqrt(shares)[:, None]
        held = np.sqrt(pull) * np.eye(int(kept.sum()))
        left = np.block([[root * self.x[:, kept], root], [held, np.zeros((len(held), 1))]])
        right = np.concatenate([root * self.y, np.sqrt(pull) * self.weight[:, kept].T])
        found = np.linalg.lstsq(left, right, rcond=None)[0]
        lost = pull * (self.weight[:, ~kept] ** 2).sum(axis=1)
        errors = ((left @ found - right) ** 2).sum(axis=0) + lost
        weight = np.zeros_like(self.weight)
        weight[:, kept] = found[:-1].T
        return weight, found[-1], float(errors @ self.importance)

    def minimum(self, gone: set[int], unit_of: Array, ridge: float = RIDGE) -> float:
        return self.solved(~np.isin(unit_of, list(gone)), ridge)[2]

    def order(self, unit_of: Array, ridge: float = RIDGE) -> tuple[list[int], list[float]]:
        return removal_order(
            self.regression(ridge), torch.from_numpy(unit_of), torch.from_numpy(self.importance)
        )


def all_kept(count: int = INPUTS) -> Array:
    return np.ones(count, dtype=bool)


@pytest.mark.parametrize("offset", [0.0, 2.0, 1e6])
def test_covariances_are_numpys_even_far_from_zero(offset: float) -> None:
    frames = Frames(offset=offset).noisy()
    cov_xx, cov_xy, mean_x, mean_y = (part.numpy() for part in frames.moments().covariances())
    together = np.concatenate([frames.x, frames.y], axis=1)
    expected = np.cov(together.T, aweights=frames.shares, ddof=0)
    np.testing.assert_allclose(cov_xx, expected[:INPUTS, :INPUTS], atol=1e-7)
    np.testing.assert_allclose(cov_xy, expected[:INPUTS, INPUTS:], atol=1e-7)
    np.testing.assert_allclose(mean_x, np.average(frames.x, axis=0, weights=frames.shares))
    np.testing.assert_allclose(mean_y, np.average(frames.y, axis=0, weights=frames.shares))


def test_frames_may_come_in_any_parts() -> None:
    frames = Frames().noisy()
    once, often = frames.moments(parts=1), frames.moments(parts=40)
    assert (once.frames, often.frames) == (FRAMES, FRAMES)
    for one, other in zip(once.covariances(), often.covariances(), strict=True):
        torch.testing.assert_close(one, other)


def test_moments_of_no_frames_are_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        Moments(INPUTS, OUTPUTS).covariances()


@pytest.mark.parametrize("ridge", [1e-4, 1e-2, 1.0])
def test_what_is_kept_is_solved_as_numpy_solves_the_augmented_problem(ridge: float) -> None:
    frames = Frames().noisy()
    for kept in (all_kept(), np.arange(INPUTS) % 2 == 0, np.arange(INPUTS) == 1):
        found = solve(frames.regression(ridge), torch.from_numpy(kept))
        weight, bias, _ = frames.solved(kept, ridge)
        np.testing.assert_allclose(found[0], weight, atol=1e-8)
        np.testing.assert_allclose(found[1], bias, atol=1e-8)
        assert not found[0][:, ~kept].any()


def test_a_projection_that_loses_nothing_stays_as_it_is() -> None:
    frames = Frames()
    weight, bias = solve(frames.regression(), torch.from_numpy(all_kept()))
    np.testing.assert_allclose(weight, frames.weight, atol=1e-8)
    np.testing.assert_allclose(bias, frames.bias, atol=1e-8)


def test_without_a_bias_the_uncentred_equations_are_solved() -> None:
    frames = Frames().noisy()
    known = regression(frames.moments(centred=False), torch.from_numpy(frames.weight), RIDGE)
    kept = np.arange(INPUTS) != 3
    weight, bias = solve(known, torch.from_numpy(kept))
    shares = (frames.shares / frames.shares.sum())[:, None]
    pull = RIDGE * float((shares * frames.x**2).sum(axis=0).mean())
    normal = frames.x.T @ (shares * frames.x) + pull * np.eye(INPUTS)
    right = frames.x.T @ (shares * frames.y) + pull * frames.weight.T
    expected = np.linalg.solve(normal[kept][:, kept], right[kept])
    np.testing.assert_allclose(weight[:, kept].T, expected, atol=1e-8)
    assert not bias.any()


def units(count: int, each: int) -> Array:
    """Deal inputs out to units in turn, so that those of a unit are not neighbours."""
    return np.asarray(np.arange(count * each) % count)


@pytest.mark.parametrize(("count", "each"), [(6, 1), (8, 1), (5, 3), (4, 4)])
@pytest.mark.parametrize("own", [True, False])
def test_a_removal_adds_the_difference_of_the_minima(count: int, each: int, own: bool) -> None:
    frames = Frames(inputs=count * each)
    if not own:
        frames.noisy()
    unit_of = units(count, each)
    order, added = frames.order(unit_of)
    assert len(set(order)) == len(order) == len(added) == count - 1
    minima = [frames.minimum(set(order[:gone]), unit_of) for gone in range(count)]
    np.testing.assert_allclose(added, np.diff(minima), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("count", "each"), [(8, 1), (5, 3)])
@pytest.mark.parametrize("seed", range(4))
def test_each_removal_is_the_one_that_adds_least(count: int, each: int, seed: int) -> None:
    """Brute force over all units that are left."""
    frames, unit_of = Frames(seed, inputs=count * each).noisy(), units(count, each)
    order, _ = frames.order(unit_of)
    for step, chosen in enumerate(order):
        gone = set(order[:step])
        left = sorted(set(range(count)) - gone)
        minima = [frames.minimum(gone | {unit}, unit_of) for unit in left]
        assert chosen == left[int(np.argmin(minima))]


def test_the_first_removal_depends_on_which_outputs_matter() -> None:
    frames = Frames()
    chosen = set()
    for output in range(OUTPUTS):
        frames.importance = np.eye(OUTPUTS)[output]
        first = frames.order(units(INPUTS, 1))[0][0]
        assert first == min(range(INPUTS), key=lambda u: frames.minimum({u}, units(INPUTS, 1)))
        chosen.add(first)
    assert len(chosen) > 1


@pytest.mark.parametrize("each", [1, 2])
def test_a_unit_that_copies_another_goes_first_at_almost_no_cost(each: int) -> None:
    frames, unit_of = Frames(inputs=6 * each), units(6, each)
    mixed = np.random.default_rng(1).standard_normal((each, each)) + 2 * np.eye(each)
    frames.x[:, unit_of == 4] = frames.x[:, unit_of == 1] @ mixed + 5
    frames.y = frames.x @ frames.weight.T + frames.bias
    order, added = frames.order(unit_of, ridge=1e-7)
    assert order[0] in (1, 4)
    assert added[0] < 1e-5 * min(added[1:])
    kept = unit_of != order[0]
    weight, bias = solve(frames.regression(1e-7), torch.from_numpy(kept))
    without = frames.x @ weight.numpy().T + bias.numpy()
    np.testing.assert_allclose(without, frames.y, atol=1e-3 * np.abs(frames.y).max())


def test_several_at_a_time_add_up_to_the_same_minima(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six units the two go first that add least alone; then it is one after the other."""
    monkeypatch.setattr(least_squares, "AT_A_TIME", 0.4)
    frames, unit_of = Frames(inputs=12).noisy(), units(6, 2)
    order, added = frames.order(unit_of)
    alone = [frames.minimum({unit}, unit_of) for unit in range(6)]
    assert set(order[:2]) == set(np.argsort(alone)[:2])
    least = frames.minimum(set(), unit_of)
    for gone in (2, 3, 4, 5):
        expected = frames.minimum(set(order[:gone]), unit_of) - least
        assert sum(added[:gone]) == pytest.approx(expected, rel=1e-6)


def test_what_is_left_makes_up_for_what_is_gone() -> None:
    """The refitted projection errs less than the same one with its inputs cut off."""
    frames = Frames()
    kept = units(INPUTS, 1) != frames.order(units(INPUTS, 1))[0][0]
    weight, bias = solve(frames.regression(1e-4), torch.from_numpy(kept))
    cut = frames.x @ (frames.weight * kept).T
    shift = np.average(frames.y - cut, axis=0, weights=frames.shares)

    def error(outputs: Array) -> float:
        squares = (outputs - frames.y) ** 2 @ frames.importance
        return float(np.average(squares, weights=frames.shares))

    assert error(frames.x @ weight.numpy().T + bias.numpy()) < 0.9 * error(cut + shift)
