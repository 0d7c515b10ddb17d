"""The decision rule: a bundle's own, and what a recorder's settings put in its place."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.detection.decision_rule import rule_of
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Decide


@pytest.fixture(scope="module")
def tiny(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def test_settings_that_say_nothing_leave_a_bundles_rule_as_it_is(tiny: Bundle) -> None:
    made, decision = rule_of(tiny), tiny.manifest["decision"]
    assert made == rule_of(tiny, Decide())
    assert made.thresholds == decision["thresholds"]
    assert (made.smoothing_windows, made.refractory_seconds, made.ignore) == (1, 0.5, frozenset())
    assert (made.confirm_windows, made.of_windows, made.release, made.merge_seconds) == (1, 1, 0, 0)


def test_a_single_labels_threshold_wins_over_that_of_all_and_that_over_the_bundles(
    tiny: Bundle,
) -> None:
    made = rule_of(tiny, Decide(threshold=0.3, thresholds={"high": 0.9}))
    assert made.thresholds == {"low": 0.3, "middle": 0.3, "high": 0.9}
    assert rule_of(tiny, Decide(thresholds={"high": 0.9})).thresholds == {
        "low": 0.8, "middle": 0.8, "high": 0.9
    }  # fmt: skip


def test_only_allowed_labels_are_reported_and_denied_ones_never(tiny: Bundle) -> None:
    assert rule_of(tiny, Decide(allow=("low",))).ignore == {"middle", "high"}
    assert rule_of(tiny, Decide(deny=("low",))).ignore == {"low"}
    decision = tiny.manifest["decision"] | {"ignore": ["low"]}
    quiet = dataclasses.replace(tiny, manifest=dict(tiny.manifest) | {"decision": decision})
    assert rule_of(quiet, Decide(deny=("high",))).ignore == {"low", "high"}
    assert rule_of(quiet, Decide(allow=("low", "high"))).ignore == {"middle"}  # asked for by name


@pytest.mark.parametrize(
    ("decide", "sentence"),
    [
        (Decide(allow=("lo",)), r"decide\.allow names 'lo'"),
        (Decide(deny=("owl",)), r"decide\.deny names 'owl'"),
        (Decide(thresholds={"owl": 0.5}), r"decide\.thresholds names 'owl'"),
        (Decide(deny=("low", "middle", "high")), "nothing would ever be reported"),
    ],
)
def test_a_label_that_is_not_there_is_refused(tiny: Bundle, decide: Decide, sentence: str) -> None:
    with pytest.raises(EdgepruneError, match=sentence) as error:
        rule_of(tiny, decide)
    assert error.value.hint


def test_transcripts_refuse_settings_that_do_not_apply_to_them(tiny: Bundle) -> None:
    decision = {"thresholds": {}, "smoothing_windows": 1, "refractory_seconds": 0, "ignore": []}
    texts = dataclasses.replace(
        tiny,
        manifest=dict(tiny.manifest)
        | {"activation": "ctc", "tokens": "words", "decision": decision},
    )
    assert rule_of(texts, Decide(threshold=0.4)).least_score == 0.4
    for decide in (Decide(deny=("low",)), Decide(release=0.1), Decide(merge_seconds=1.0)):
        with pytest.raises(EdgepruneError, match="does not apply to the transcripts of tiny"):
            rule_of(texts, decide)
