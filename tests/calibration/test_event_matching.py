"""Hits, misses and false alarms, counted by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune_calibration.event_matching import Event, match, read_truth
from edgeprune_device.errors import EdgepruneError

TRUTH = [Event("robin", 10, 11), Event("wren", 20, 21), Event("robin", 30, 31)]


def test_each_event_is_hit_once_by_a_detection_of_its_label() -> None:
    found = match([Event("robin", 10.2, 11.2), Event("wren", 20.5, 21.5)], TRUTH, 60)
    assert (found.hits, found.misses, found.false_alarms) == (2, 1, 0)
    assert found.recall == pytest.approx(2 / 3)
    assert found.precision == 1.0


def test_a_detection_too_many_a_wrong_label_and_one_of_nothing_are_false_alarms() -> None:
    said = [Event("robin", 10, 11), Event("robin", 10.5, 11.5), Event("owl", 20, 21),
            Event("wren", 50, 51)]  # fmt: skip
    found = match(said, TRUTH, 1800)
    assert (found.hits, found.misses, found.false_alarms, found.confusions) == (1, 2, 3, 1)
    assert found.false_alarms_per_hour == pytest.approx(6.0)


@pytest.mark.parametrize(("start", "hits"), [(8.6, 1), (8.4, 0), (11.4, 1), (11.6, 0)])
def test_a_detection_may_lie_half_a_second_outside(start: float, hits: int) -> None:
    assert match([Event("robin", start, start + 1)], TRUTH[:1], 60).hits == hits


def test_silence_is_no_false_alarm() -> None:
    found = match([], TRUTH, 60)
    assert (found.hits, found.misses, found.false_alarms) == (0, 3, 0)


def test_a_file_that_is_no_list_of_events_is_named(tmp_path: Path) -> None:
    (tmp_path / "truth.csv").write_text("start,label\n1,robin\n")
    with pytest.raises(EdgepruneError, match=r"truth\.csv is not a list of events"):
        read_truth(tmp_path / "truth.csv")
