"""Decisions over time, by sentences: a window a second, hop half a second."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeprune_device.detection.decider import Decider
from edgeprune_device.detection.decision_rule import DecisionRule
from edgeprune_device.detection.events import Detection
from edgeprune_device.errors import EdgepruneError

LABELS = ("background", "robin", "wren")


def rule(**changes: Any) -> DecisionRule:
    values: dict[str, Any] = {
        "labels": LABELS, "thresholds": dict.fromkeys(LABELS, 0.6), "smoothing_windows": 1,
        "refractory_seconds": 1.0, "ignore": frozenset({"background"}),
    }  # fmt: skip
    return DecisionRule(**(values | changes))


def scores(text: str) -> list[list[float]]:
    """Translate a stream: 'r8' is robin with 0.8, 'w7' wren with 0.7, '.' background with 0.9."""
    rows = []
    for word in text.split():
        label, score = {"r": 1, "w": 2, ".": 0}[word[0]], float(word[1:] or 9) / 10
        row = [(1 - score) / 2] * 3
        row[label] = score
        rows.append(row)
    return rows


def decide(text: str, **changes: Any) -> list[Detection]:
    decider = Decider(rule(**changes))
    found = [decider.step(0.5 * i, 0.5 * i + 1, np.array(row, np.float32))
             for i, row in enumerate(scores(text))]  # fmt: skip
    return [d for ended in [*found, decider.flush()] for d in ended]


def heard(text: str, **changes: Any) -> list[tuple[str, float]]:
    return [(d.label, d.start_seconds) for d in decide(text, **changes)]


def test_one_song_over_many_windows_is_one_event_at_its_most_certain_window() -> None:
    assert heard(". r7 r9 r8 . .") == [("robin", 1.0)]
    assert decide(". r7 r9 r8 . .")[0].score == pytest.approx(0.9)


def test_a_wrong_guess_at_the_edge_gives_way_to_the_more_certain_label() -> None:
    assert heard(". w7 r9 r8 .") == [("robin", 1.0)]


def test_scores_under_the_threshold_say_nothing() -> None:
    assert heard("r5 w5 r5 .") == []
    assert heard("r5 .", thresholds={"background": 0.5, "robin": 0.4, "wren": 0.5}) == [
        ("robin", 0)
    ]


def test_two_songs_apart_are_two_events() -> None:
    assert heard("r9 . . . . . w9 . .") == [("robin", 0.0), ("wren", 3.0)]


def test_a_label_that_comes_back_within_the_refractory_time_is_the_same_event() -> None:
    assert heard("r9 . r9 . .") == [("robin", 0.0)]  # the second starts where the first ends
    assert heard("r9 . . . . r9 .") == [("robin", 0.0), ("robin", 2.5)]


def test_a_song_that_goes_on_is_reported_once_and_while_it_goes_on() -> None:
    decider = Decider(rule())
    reported = [decider.step(0.5 * i, 0.5 * i + 1, np.array([0.05, 0.9, 0.05], np.float32))
                for i in range(20)]  # fmt: skip
    assert [i for i, d in enumerate(reported) if d] == [2]  # a window after it began


def test_smoothing_averages_windows_so_that_one_stray_score_says_nothing() -> None:
    assert heard(". . r9 . .", smoothing_windows=3) == []
    assert heard(". . r9 r9 r9 . .", smoothing_windows=3) == [("robin", 2.0)]


def test_an_ignored_label_is_never_reported() -> None:
    assert heard(". . . .") == []
    assert heard("w9 . .", ignore=frozenset({"wren", "background"})) == []


def test_an_event_that_is_going_on_is_reported_when_the_stream_ends() -> None:
    assert heard(". . w8") == [("wren", 1.0)]


@pytest.mark.parametrize("bad", [[np.nan, 0.5, 0.5], [np.inf, 0, 0], [0.5, 0.5]])
def test_scores_that_are_no_numbers_are_an_alarm_not_silence(bad: list[float]) -> None:
    with pytest.raises(EdgepruneError, match=r"no valid scores for the window at 2\.00 s") as error:
        Decider(rule()).step(2.0, 3.0, np.array(bad, np.float32))
    assert error.value.status == 1


def tags(text: str, **changes: Any) -> list[tuple[str, float]]:
    """Translate a stream of tags: 'rw' is both at 0.9, 'r' robin alone, '.' neither."""
    decider = Decider(rule(activation="sigmoid", **changes))
    found = []
    for i, word in enumerate(text.split()):
        row = [0.1, 0.9 if "r" in word else 0.2, 0.9 if "w" in word else 0.2]
        found += decider.step(0.5 * i, 0.5 * i + 1, np.array(row, np.float32))
    return [(d.label, d.start_seconds) for d in [*found, *decider.flush()]]


def test_tags_are_streams_of_their_own_and_may_go_on_at_a_time() -> None:
    assert sorted(tags(". rw rw . . w . .")) == [("robin", 0.5), ("wren", 0.5), ("wren", 2.5)]
    assert tags(". rw rw . . w . .", ignore=frozenset({"wren"})) == [("robin", 0.5)]


def test_a_tag_that_is_alone_is_what_a_single_label_would_be() -> None:
    for text in (". r r r . .", "r . r . . r", "r r r r r r"):
        single = heard(text.replace("r", "r9"))
        assert tags(text) == single


def test_each_tag_has_its_own_threshold() -> None:
    assert tags("rw .", thresholds={"background": 0.5, "robin": 0.95, "wren": 0.5}) == [("wren", 0)]


def spoken(path: str, sure: float) -> np.ndarray:
    """Posteriors (frames, 4) of a path over blank, a, b, and the space."""
    scores = np.full((len(path), 4), (1 - sure) / 3, np.float32)
    scores[np.arange(len(path)), ["-ab|".index(letter) for letter in path]] = sure
    return scores


def test_every_window_that_says_something_is_a_text() -> None:
    letters = ("<pad>", "a", "b", "|")
    decider = Decider(rule(labels=letters, thresholds={}, activation="ctc", tokens="characters"))
    found = decider.step(1.0, 2.0, spoken("-aa-b|a-", 0.8))
    assert [(d.label, d.start_seconds, d.end_seconds) for d in found] == [("ab a", 1.0, 2.0)]
    assert found[0].score == pytest.approx(0.8)
    assert decider.top == ("ab a", found[0].score)
    assert decider.step(2.0, 3.0, spoken("--------", 0.8)) == []
    assert len(decider.step(3.0, 4.0, spoken("-aa-b|a-", 0.8))) == 1  # the same words said again
    assert decider.flush() == []


def test_a_text_that_is_not_sure_enough_is_not_reported() -> None:
    letters = ("<pad>", "a", "b", "|")
    sure = rule(labels=letters, thresholds={}, activation="ctc", tokens="words", least_score=0.7)
    assert Decider(sure).step(0.0, 1.0, spoken("-a-b", 0.6)) == []
    assert [d.label for d in Decider(sure).step(0.0, 1.0, spoken("-a-b", 0.8))] == ["a b"]


def test_posteriors_of_another_shape_are_an_alarm() -> None:
    letters = rule(labels=("<pad>", "a"), thresholds={}, activation="ctc", tokens="words")
    for bad in (np.zeros((4, 3)), np.zeros(2), np.full((4, 2), np.nan)):
        with pytest.raises(EdgepruneError, match="no valid scores"):
            Decider(letters).step(0.0, 1.0, bad.astype(np.float32))


def test_the_recorder_applies_the_temperature_before_it_smooths_and_decides() -> None:
    rows = "r8 r8 . . ."
    assert [d.score for d in decide(rows)] == [pytest.approx(0.8)]
    warm = decide(rows, temperature=2.0, thresholds=dict.fromkeys(LABELS, 0.5))
    expected = 0.8**0.5 / (0.8**0.5 + 2 * 0.1**0.5)
    assert [d.score for d in warm] == [pytest.approx(expected)]
    assert decide(rows, temperature=2.0) == []  # 0.586 is under 0.6
