"""Tasks: targets, losses and scores, each against plain arithmetic."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from edgeprune.data.tasks import TASKS, task_of
from edgeprune.data.windows import Windows
from edgeprune_device.errors import EdgepruneError

TAGS = ("dog", "rain", "wind")
LETTERS = ("<pad>", "a", "b", "|")


def windows(cells: list[str], task: str, clip: list[int] | None = None) -> Windows:
    where = np.arange(len(cells)) if clip is None else np.array(clip)
    rows: tuple[dict[str, Any], ...] = tuple({"label": cell, "columns": {}} for cell in cells)
    count = len(where)
    return Windows(np.zeros((count, 10), np.float32), np.tile([0, 10], (count, 1)), where, rows,
                   TAGS if task == "tags" else LETTERS, 16000, task=task)  # fmt: skip


def test_tags_are_a_row_of_noughts_and_ones() -> None:
    found = TASKS["tags"].targets(windows(["rain", "", "wind;dog"], "tags"), TAGS)
    assert found.tolist() == [[0, 1, 0], [0, 0, 0], [1, 0, 1]]


def test_transcripts_are_labels_then_zeros() -> None:
    found = TASKS["ctc"].targets(windows(["ab a", "b", "zb"], "ctc"), LETTERS)
    assert found.tolist() == [[1, 2, 3, 1], [2, 0, 0, 0], [2, 0, 0, 0]]  # z is no label


def test_tags_of_a_clip_are_judged_by_the_mean_of_its_windows() -> None:
    two = windows(["dog", "rain"], "tags", clip=[0, 0, 1])
    logits = np.array([[4, -4, -4], [-2, -3, -4], [-4, 4, -4]], np.float32)
    tally = TASKS["tags"].tally(logits, two, TAGS)
    sure, unsure = (1 / (1 + math.exp(-x)) for x in (4, -2))
    assert tally[0, 0].tolist() == pytest.approx([(sure + unsure) / 2, 1.0])
    assert TASKS["tags"].score(logits, two, TAGS) == 1.0
    assert TASKS["tags"].correctness(logits, two, TAGS).tolist() == [1.0, 1.0]


def test_transcripts_are_judged_by_their_token_errors() -> None:
    said = windows(["ab", "ba"], "ctc")
    logits = np.full((2, 4, 4), -5.0, np.float32)
    for row, path in enumerate(([1, 0, 2, 2], [2, 0, 0, 0])):
        logits[row, np.arange(4), path] = 5.0
    assert TASKS["ctc"].score(logits, said, LETTERS) == pytest.approx(3 / 4)
    assert TASKS["ctc"].correctness(logits, said, LETTERS).tolist() == [1.0, 0.5]


def test_an_unknown_task_is_one_sentence() -> None:
    with pytest.raises(EdgepruneError, match=r"clips\.task = 'tasg' is not known"):
        task_of("tasg")
