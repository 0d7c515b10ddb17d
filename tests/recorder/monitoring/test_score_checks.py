"""Guards: what a broken model says is an alarm; what a good one says on a quiet night is not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from faults_table import Tally
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.inference.runtime import open_model
from edgeprune_device.monitoring.score_checks import ScoreChecker
from edgeprune_device.stream import Notice

LABELS = ("background", "robin", "wren")
Array = NDArray[np.float32]
generator = np.random.default_rng(0)


def sound(db: float = -40.0) -> Array:
    return (10 ** (db / 20) * generator.standard_normal(400)).astype(np.float32)


def of(*scores: float) -> Array:
    return np.array(scores, np.float32)


def kinds(notices: list[Notice]) -> list[str]:
    return [notice.kind for notice in notices]


def guard(activation: str = "softmax") -> ScoreChecker:
    return ScoreChecker(activation, LABELS, frozenset({"background"}))


@pytest.mark.fault("F13")
@pytest.mark.parametrize(
    ("bad", "reason"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (-np.inf, "not finite"),
     (3e38, "out of range"), (-0.5, "out of range"), (1.5, "out of range")],
)  # fmt: skip
def test_scores_that_are_no_scores_are_an_alarm_and_never_nothing_heard(
    bad: float, reason: str, tally: Tally
) -> None:
    """Each of 6 values in each of 3 labels, 30 times in a row: raised once, cleared once."""
    for label in range(3):
        watch, found = guard(), []
        for k in range(60):
            scores = generator.dirichlet(np.ones(3)).astype(np.float32)
            if 10 <= k < 40:
                scores[label] = bad
            found.append(watch.check(scores, sound()))
        assert found == [""] * 10 + [reason] * 30 + [""] * 20
        kind = "scores-" + reason.replace(" ", "-")
        assert kinds(watch.notices()) == [kind, kind + "-cleared"]
        assert watch.notices() == []
    tally(3 * 30, 0)


@pytest.mark.fault("F13")
@pytest.mark.parametrize("scores", [(0.2, 0.3, 0.5), (0.99, 0.003, 0.007), (1e-9, 1.0, 3e-12)])
def test_the_same_scores_to_the_last_bit_for_other_sound_are_an_alarm(
    scores: tuple[float, ...], tally: Tally
) -> None:
    """A model that is stuck for 50 windows, 3 kinds of scores; the tenth window is the first found."""
    watch = guard()
    found = [watch.check(of(*scores), sound()) for _ in range(50)]
    assert found == [""] * 9 + ["constant"] * 41
    for _ in range(10):
        assert watch.check(generator.dirichlet(np.ones(3)).astype(np.float32), sound()) == ""
    assert kinds(watch.notices()) == ["scores-constant", "scores-constant-cleared"]
    tally(50, 0)


def test_the_same_sound_has_the_same_scores() -> None:
    watch, silence = guard(), np.zeros(400, np.float32)
    assert {watch.check(of(0.2, 0.3, 0.5), silence.copy()) for _ in range(100)} == {""}


def test_background_for_certain_through_a_quiet_night_and_a_thunderstorm_is_no_fault() -> None:
    for scores in (of(1, 0, 0), of(255 / 256, 1 / 256, 0)):
        watch = guard()
        for k in range(5000):
            assert watch.check(scores, sound(-80 + 60 * (k % 7 == 0))) == ""
        assert watch.notices() == []


def test_a_label_for_certain_through_steady_rain_is_no_fault() -> None:
    watch = guard()
    for k in range(3000):
        scores = of(0, 0.99995 + 1e-6 * (k % 9), 0)
        assert watch.check(scores, sound(-30 + k % 10)) == ""


@pytest.mark.fault("F13")
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_a_label_for_certain_whatever_is_heard_is_an_alarm_after_a_thousand_windows(
    activation: str, tally: Tally
) -> None:
    """Robin at 1.0 for 1,200 windows from -80 to -20 dB: the thousandth and all after are found."""
    watch = guard(activation)
    found = [watch.check(of(0, 1, 0), sound(-80 + k % 61)) for k in range(1200)]
    assert found == [""] * 999 + ["saturated"] * 201
    assert kinds(watch.notices()) == ["scores-saturated"]
    tally(1200, 0)


def test_coarse_scores_that_stay_the_same_count_only_over_many_and_very_different_windows() -> None:
    coarse = of(100 / 256, 106 / 256, 50 / 256)
    watch = guard()
    assert {watch.check(coarse, sound(-60 + k % 10)) for k in range(3000)} == {""}
    watch = guard()
    found = [watch.check(coarse, sound(-80 + k % 61)) for k in range(1100)]
    assert found == [""] * 999 + ["constant"] * 101


def test_posteriors_of_transcripts_are_watched_too() -> None:
    watch = guard("ctc")
    rows = generator.dirichlet(np.ones(3), 20).astype(np.float32)
    assert [watch.check(rows, sound()) for _ in range(12)] == [""] * 9 + ["constant"] * 3
    assert watch.check(np.full((20, 3), np.nan, np.float32), sound()) == "not finite"


def test_a_working_model_raises_nothing_on_any_sound(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    run, watch = open_model(bundle), ScoreChecker("softmax", bundle.labels)
    time = np.arange(bundle.window_samples) / bundle.sample_rate
    for k in range(1500):
        window = generator.standard_normal(len(time)) * 10 ** generator.uniform(-4, -1)
        window += generator.uniform(0, 0.3) * np.sin(
            2 * np.pi * generator.uniform(100, 3000) * time
        )
        one = window.astype(np.float32) if k % 100 else np.zeros(len(time), np.float32)
        assert watch.check(run(one), one) == ""
    assert watch.notices() == []


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["good", "nan", "same"]), min_size=1, max_size=80))
def test_an_alarm_is_raised_before_it_is_cleared_and_never_twice(script: list[str]) -> None:
    watch, reasons = guard(), []
    for word in script:
        scores = generator.dirichlet(np.ones(3)).astype(np.float32)
        if word != "good":
            scores = of(0.2, 0.3, 0.5) if word == "same" else of(np.nan, 0, 1)
        reasons.append(watch.check(scores, sound()))
    said = kinds(watch.notices())
    for kind in ("scores-not-finite", "scores-constant"):
        own = [k for k in said if k.startswith(kind)]
        assert own == [kind, kind + "-cleared"] * (len(own) // 2) + [kind] * (len(own) % 2)
    assert [word == "nan" for word in script] == [reason == "not finite" for reason in reasons]
