"""The declared spectrogram: number by number what its formula says, and what cannot be one."""

from __future__ import annotations

import cmath
import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.bundle.spectrogram import (
    SpectrogramFeatures,
    arrays_problem,
    compute,
    features_of,
)

GENERATOR = np.random.default_rng(0)
SOUND = GENERATOR.uniform(-1, 1, 40).astype(np.float32)
ARRAYS = {
    "window": np.hanning(8).astype(np.float32), "bands": GENERATOR.random((9, 3), np.float32),
    "cosines": GENERATOR.standard_normal((3, 2)).astype(np.float32),
}  # fmt: skip
PLAIN = SpectrogramFeatures("window", "bands", step=5, fft=16, add=0.1)
ENTRY = {"window": "window", "bands": "bands", "step": 5, "fft": 16, "add": 0.1}


def by_hand(sound: NDArray[np.float32], f: SpectrogramFeatures) -> list[list[float]]:
    """Compute the formula of the docstring, one number after the other."""
    samples = [float(x) for x in sound]
    if f.peak and max(samples) > 0:
        samples = [x / max(samples) for x in samples]
    samples = [x - f.preemphasis * y for x, y in zip(samples, [0.0, *samples], strict=False)]
    window, bands = ARRAYS["window"], ARRAYS["bands"]
    rows = []
    for first in range(0, len(samples) - len(window) + 1, f.step):
        frame = [samples[first + i] * float(w) for i, w in enumerate(window)]
        spectrum = [
            abs(sum(x * cmath.exp(-2j * math.pi * k * i / f.fft) for i, x in enumerate(frame)))
            for k in range(f.fft // 2 + 1)
        ]
        powers = [max(f.scale * value**f.power, f.floor) for value in spectrum]
        row = []
        for band in bands.T:
            value = sum(p * float(b) for p, b in zip(powers, band, strict=True)) + f.add
            row.append(min(max(f.gain * math.log(value) + f.offset, f.low), f.high))
        if f.cosines:
            row = [sum(x * float(c) for x, c in zip(row, cosine, strict=True))
                   for cosine in ARRAYS["cosines"].T]  # fmt: skip
        rows.append(row)
    return rows


@pytest.mark.parametrize(
    "change",
    [{}, {"power": 2}, {"peak": True}, {"preemphasis": 0.97}, {"scale": 3.0, "floor": 2.0},
     {"gain": 10 / math.log(10), "offset": -4.0}, {"low": -0.5, "high": 0.9},
     {"cosines": "cosines"}, {"step": 1}, {"fft": 16, "power": 2, "cosines": "cosines",
                                          "peak": True, "preemphasis": 0.5}],
    ids=str,
)  # fmt: skip
def test_every_number_is_what_the_formula_says(change: dict[str, Any]) -> None:
    features = replace(PLAIN, **change)
    found = compute(SOUND, features, ARRAYS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(SOUND, features), rtol=2e-5, atol=2e-5)


def test_silence_is_not_divided_by_its_peak() -> None:
    found = compute(np.zeros(40, np.float32), replace(PLAIN, peak=True), ARRAYS)
    np.testing.assert_allclose(found, np.log(0.1), rtol=1e-6)


def test_defaults_change_nothing_and_whole_numbers_are_numbers() -> None:
    assert features_of(ENTRY) == PLAIN
    assert features_of({**ENTRY, "gain": 2}) == replace(PLAIN, gain=2)


@pytest.mark.parametrize(
    ("change", "error"),
    [({"hop": 3}, KeyError), ({"step": 2.5}, TypeError), ({"step": True}, TypeError),
     ({"peak": 1}, TypeError), ({"window": 3}, TypeError), ({"gain": math.nan}, ValueError),
     ({"offset": math.inf}, ValueError), ({"step": 0}, ValueError), ({"fft": 1}, ValueError),
     ({"fft": 1 << 21}, ValueError), ({"power": 3}, ValueError), ({"preemphasis": 1.5}, ValueError),
     ({"scale": 0.0}, ValueError), ({"floor": -1.0}, ValueError), ({"low": 1.0, "high": 1.0}, ValueError)],
    ids=str,
)  # fmt: skip
def test_an_entry_that_is_unknown_or_out_of_range_is_refused(
    change: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        features_of({**ENTRY, **change})


def test_arrays_that_fit_have_no_problem() -> None:
    assert arrays_problem(PLAIN, ARRAYS, 40, 7 * 3) == ""  # 1 + (40 - 8) // 5 frames
    assert arrays_problem(replace(PLAIN, cosines="cosines"), ARRAYS, 40, 7 * 2) == ""
    assert arrays_problem(replace(PLAIN, add=0.0, floor=0.1), ARRAYS, 40, 7 * 3) == ""


@pytest.mark.parametrize(
    ("change", "arrays", "words"),
    [({}, {"window": np.ones(17)}, "window of its front end has the wrong length"),
     ({}, {"window": np.ones((2, 4))}, "window of its front end has the wrong length"),
     ({}, {"window": np.ones(0)}, "window of its front end has the wrong length"),
     ({}, {"bands": np.ones((8, 3))}, "does not fit its FFT"),
     ({}, {"bands": -np.ones((9, 3))}, "the logarithm of 0"),
     ({"add": 0.0}, {}, "the logarithm of 0"),
     ({"add": 0.0, "floor": 0.1}, {"bands": np.zeros((9, 3))}, "the logarithm of 0"),
     ({"cosines": "cosines"}, {"cosines": np.ones((4, 2))}, "does not fit its filter bank"),
     ({"step": 4}, {}, "its front end gives 9 x 3 values, but the model expects 21")],
    ids=lambda value: value if isinstance(value, str) else None,
)  # fmt: skip
def test_arrays_that_do_not_fit_are_said(
    change: dict[str, Any], arrays: dict[str, Any], words: str
) -> None:
    assert words in arrays_problem(replace(PLAIN, **change), {**ARRAYS, **arrays}, 40, 21)
