"""Privacy: a voice is never kept, and what is not known may have been one."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from faults_table import Tally
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.bundle.manifest import problem_of
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.detection.speech_privacy import Spans, SpeechRule, SpeechTracker, speech_rule
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Privacy

MANY = 40  # labels; the last but one and the last are a voice


def rule(**changes: Any) -> SpeechRule:
    values: dict[str, Any] = {
        "labels": (MANY - 2, MANY - 1), "threshold": 0.1, "vad": False, "vad_threshold": 0.3,
        "margin_samples": 0, "activation": "sigmoid", "temperature": 1.0,
    }  # fmt: skip
    return SpeechRule(**(values | changes))


def scores(voice: float, other: float = 0.5) -> np.ndarray:
    """Give a voice a score under that of 38 other labels."""
    found = np.full(MANY, other, np.float32)
    found[-2:] = 0.001, voice
    return found


def hear(speech: SpeechTracker, voices: dict[int, float], windows: int = 10) -> None:
    """Take windows of 100 samples, 50 apart; silence but for those that are named."""
    for k in range(windows):
        speech.window(50 * k, 50 * k + 100, scores(voices.get(k, 0.01)))


def test_a_voice_counts_though_38_labels_score_higher() -> None:
    """birdnet-go #4177: a filter that saw the ten best labels let such voices through."""
    speech = SpeechTracker(rule())
    hear(speech, {4: 0.12})
    assert speech.blocked(200, 300) is True
    assert speech.blocked(0, 200) is False
    assert speech.blocked(300, 500) is False


def test_scores_of_labels_that_exclude_each_other_are_added_up() -> None:
    split = scores(0.06, 0.02)
    split[-2] = 0.06
    for activation, blocked in (("softmax", True), ("sigmoid", False)):
        speech = SpeechTracker(rule(activation=activation))
        assert speech.window(0, 100, split) is blocked
        assert speech.blocked(0, 100) is blocked


def test_the_temperature_is_applied_first() -> None:
    cool = SpeechTracker(rule(temperature=3.0))
    assert cool.window(0, 100, scores(0.01))  # logit -4.6 becomes -1.5: 0.18


def test_a_voice_within_the_margin_blocks_a_clip_before_it_and_after_it() -> None:
    speech = SpeechTracker(rule(margin_samples=100))
    hear(speech, {8: 0.9}, 30)  # 400 to 500
    assert speech.blocked(200, 300) is False
    assert speech.blocked(200, 301) is True
    assert speech.blocked(600, 700) is False
    assert speech.blocked(599, 700) is True


def test_what_was_not_analysed_is_blocked() -> None:
    speech = SpeechTracker(rule())
    speech.window(0, 100, scores(0.0))
    speech.window(150, 250, scores(0.0))
    assert speech.blocked(0, 100) is False
    assert speech.blocked(0, 200) is True
    assert speech.blocked(120, 130) is True


@pytest.mark.fault("F13")
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_window_with_scores_that_are_no_numbers_is_blocked(bad: float, tally: Tally) -> None:
    """Each of the 40 labels once, with NaN and with infinity; no clip over the window is kept."""
    for label in range(MANY):
        speech = SpeechTracker(rule())
        hear(speech, {})
        broken = scores(0.0)
        broken[label] = bad
        assert speech.window(200, 300, broken) is True
        assert speech.blocked(250, 260) is True
        assert speech.blocked(100, 200) is False
    tally(MANY, 0)


def test_a_lost_or_invalid_stretch_is_blocked_even_between_windows_that_cover_it() -> None:
    speech = SpeechTracker(rule())
    hear(speech, {})
    speech.unknown(240, 241)
    assert speech.blocked(200, 300) is True
    assert speech.blocked(0, 240) is False


def test_a_clip_whose_end_is_not_heard_yet_has_to_wait() -> None:
    speech = SpeechTracker(rule(margin_samples=50))
    hear(speech, {}, 1)
    assert speech.blocked(0, 60) is None
    assert speech.blocked(0, 50) is False
    speech.window(50, 150, scores(0.9))
    assert speech.blocked(0, 60) is True


def test_when_the_stream_has_ended_nothing_is_waited_for() -> None:
    speech = SpeechTracker(rule(margin_samples=50))
    hear(speech, {}, 1)
    speech.end(100)
    assert speech.blocked(0, 100) is False
    speech = SpeechTracker(rule(margin_samples=50))
    hear(speech, {}, 1)
    speech.end(120)
    assert speech.blocked(0, 90) is True  # twenty samples were heard and not analysed


def test_with_a_voice_detector_every_sample_must_have_been_heard_by_it() -> None:
    speech = SpeechTracker(rule(vad=True))
    hear(speech, {})
    assert speech.blocked(0, 100) is None
    for first in range(0, 512, 32):
        speech.voice(first, first + 32, 0.4 if first == 320 else 0.1)
    assert speech.blocked(0, 320) is False
    assert speech.blocked(300, 330) is True
    speech.voice(512, 544, None)
    speech.voice(544, 576, float("nan"))
    assert speech.blocked(500, 520) is True
    assert speech.blocked(550, 560) is True


def test_a_label_s_voice_counts_beside_the_detector_and_closed_gates_do_not_matter() -> None:
    speech = SpeechTracker(rule(vad=True))
    speech.window(0, 100, scores(0.5))
    for first in range(0, 500, 50):
        speech.voice(first, first + 50, 0.0)
    assert speech.blocked(50, 60) is True
    assert speech.blocked(100, 400) is False  # no window there, and the detector heard it


def test_without_a_rule_nothing_is_blocked() -> None:
    speech = SpeechTracker(rule(labels=()))
    assert not speech.on
    speech.unknown(0, 100)
    assert speech.blocked(0, 100) is False


def test_what_was_forgotten_is_blocked() -> None:
    speech = SpeechTracker(rule())
    for k in range(10_100):
        speech.window(200 * k, 200 * k + 100, scores(0.0))
    assert speech.blocked(0, 100) is True
    assert speech.blocked(200 * 10_050, 200 * 10_050 + 100) is False


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 12))), st.integers(0, 70),
       st.integers(0, 20))  # fmt: skip
def test_spans_are_sets_of_samples(added: list[tuple[int, int]], first: int, length: int) -> None:
    spans, held = Spans(), set()
    for start, size in added:
        spans.add(start, start + size)
        held |= set(range(start, start + size))
    asked = set(range(first, first + length))
    assert spans.touch(first, first + length) == bool(asked & held)
    assert spans.cover(first, first + length) == (asked <= held)
    assert spans.end == (max(held) + 1 if held else 0)


@pytest.fixture
def tiny(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


def with_privacy(bundle: Bundle, entry: Any) -> Bundle:
    return dataclasses.replace(bundle, manifest=dict(bundle.manifest) | {"privacy": entry})


def test_the_bundle_s_labels_and_the_settings_are_taken_together(tiny: Bundle) -> None:
    made = speech_rule(with_privacy(tiny, {"labels": ["high"]}), Privacy(labels=("low",)))
    assert made.labels == (0, 2)
    assert made.margin_samples == 16000
    assert speech_rule(tiny, Privacy()).labels == ()


def test_a_label_that_the_bundle_does_not_have_is_refused_at_the_start(tiny: Bundle) -> None:
    with pytest.raises(
        EdgepruneError, match=r"privacy\.labels names 'human', which is not a label"
    ) as error:
        speech_rule(tiny, Privacy(labels=("human",)))
    assert "low, middle, high" in error.value.hint


def test_labels_of_speech_do_not_apply_to_transcripts(tiny: Bundle) -> None:
    texts = dataclasses.replace(tiny, manifest=dict(tiny.manifest) | {"activation": "ctc"})
    with pytest.raises(EdgepruneError, match="does not apply to the transcripts"):
        speech_rule(texts, Privacy(labels=("low",)))
    assert speech_rule(texts, Privacy(vad=True)).vad


@pytest.mark.parametrize("entry", [{"labels": ["human"]}, {"labels": "low"}])
def test_a_bundle_whose_privacy_names_other_labels_is_refused(tiny: Bundle, entry: Any) -> None:
    assert problem_of(dict(with_privacy(tiny, {"labels": ["low"]}).manifest)) == ""
    assert "privacy" in problem_of(dict(with_privacy(tiny, entry).manifest))
