"""Temperature: scores as they were, had the logits been divided; the order of labels stays."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune_device.inference.temperature import apply_temperature

LOGITS = st.lists(st.lists(st.floats(-4, 4), min_size=3, max_size=3), min_size=1, max_size=4)
TEMPERATURES = st.floats(0.3, 20)


def softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=-1, keepdims=True))


def sigmoid(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(1 / (1 + np.exp(-logits)))


@given(LOGITS, TEMPERATURES)
def test_scores_are_those_of_the_divided_logits(
    drawn: list[list[float]], temperature: float
) -> None:
    """From scores alone, which as float32 know their logits to a thousandth or so."""
    logits = np.array(drawn)
    for name, activation in (("softmax", softmax), ("sigmoid", sigmoid)):
        scores = activation(logits).astype(np.float32)
        found = apply_temperature(scores, temperature, name)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, activation(logits / temperature), atol=2e-3)
        over = scores[:, :, None] > scores[:, None, :]
        assert (found[:, :, None] >= found[:, None, :])[over].all()  # the order stays


def test_of_a_softmax_it_is_the_root_made_to_sum_to_one() -> None:
    found = apply_temperature(np.array([0.8, 0.2], np.float32), 2.0, "softmax")
    np.testing.assert_allclose(found, [2 / 3, 1 / 3], atol=1e-6)  # sqrt(0.8) : sqrt(0.2) = 2 : 1


def test_of_a_sigmoid_each_label_is_for_itself() -> None:
    found = apply_temperature(np.array([0.9, 0.9, 0.5], np.float32), 2.0, "sigmoid")
    np.testing.assert_allclose(found, [0.75, 0.75, 0.5], atol=1e-6)  # odds of 9 become odds of 3


def test_a_temperature_of_one_changes_no_bit() -> None:
    scores = np.random.default_rng(0).dirichlet(np.ones(5), 100).astype(np.float32)
    for activation in ("softmax", "sigmoid"):
        assert apply_temperature(scores, 1.0, activation).tobytes() == scores.tobytes()


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize("temperature", [0.05, 20.0])
def test_a_score_of_nought_or_one_stays_a_score(activation: str, temperature: float) -> None:
    found = apply_temperature(np.array([[1, 0], [0, 1]], np.float32), temperature, activation)
    assert np.isfinite(found).all()
    assert ((found >= 0) & (found <= 1)).all()
    assert found.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
def test_a_temperature_divides_the_logits_behind_the_scores(temperature: float) -> None:
    logits = np.random.default_rng(0).normal(0, 3, (50, 4))

    def softmax(x: np.ndarray) -> np.ndarray:
        powers = np.exp(x - x.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    def sigmoid(x: np.ndarray) -> np.ndarray:
        return np.asarray(1 / (1 + np.exp(-x)), np.float32)

    for function, name in ((softmax, "softmax"), (sigmoid, "sigmoid")):
        found = apply_temperature(function(logits), temperature, name)
        np.testing.assert_allclose(found, function(logits / temperature), atol=2e-5)
        np.testing.assert_array_equal(found.argmax(axis=1), logits.argmax(axis=1))


def test_sure_scores_stay_numbers_under_any_temperature() -> None:
    for name in ("softmax", "sigmoid"):
        found = apply_temperature(np.array([1.0, 0.0, 0.0], np.float32), 0.05, name)
        assert np.isfinite(found).all()
        assert found.argmax() == 0
