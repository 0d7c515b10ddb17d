"""Tasks: targets, losses and scores, each against plain arithmetic."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch

from edgeprune.data.tasks import TASKS, task_of
from edgeprune.data.windows import Windows
from edgeprune.nn.losses import frame_logit_loss, tag_logit_loss, tag_loss, transcript_loss
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


def test_the_tag_loss_is_the_mean_log_likelihood_and_smoothing_moves_the_targets() -> None:
    logits, targets = torch.tensor([[0.3, -1.2]]), torch.tensor([[1.0, 0.0]])
    share = [1 / (1 + math.exp(-x)) for x in (0.3, -1.2)]
    expected = -(math.log(share[0]) + math.log(1 - share[1])) / 2
    assert float(tag_loss(logits, targets)) == pytest.approx(expected, abs=1e-6)
    soft = [0.95, 0.05]
    smoothed = -sum(t * math.log(p) + (1 - t) * math.log(1 - p)
                    for t, p in zip(soft, share, strict=True)) / 2  # fmt: skip
    assert float(tag_loss(logits, targets, 0.1)) == pytest.approx(smoothed, abs=1e-6)


def test_the_transcript_loss_is_that_of_all_paths() -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 5, 4, generator=generator)
    scores = torch.softmax(logits[0].double(), dim=-1).numpy()
    likely = 0.0
    for path in itertools.product(range(4), repeat=5):
        merged = [label for label, _ in itertools.groupby(path) if label]
        if merged == [1, 2]:
            likely += float(np.prod([scores[frame, label] for frame, label in enumerate(path)]))
    found = transcript_loss(logits, torch.tensor([[1, 2, 0]]))
    assert float(found) == pytest.approx(-math.log(likely) / 2, abs=1e-5)  # of two tokens


def test_a_transcript_longer_than_its_frames_does_not_break_a_batch() -> None:
    logits = torch.randn(2, 2, 4, requires_grad=True)
    loss = transcript_loss(logits, torch.tensor([[1, 2, 1], [1, 0, 0]]))
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_soft_losses_are_divergences(temperature: float) -> None:
    generator = torch.Generator().manual_seed(1)
    student, teacher = torch.randn(2, 3, 4, generator=generator)
    p, q = (torch.sigmoid(x.double() / temperature) for x in (teacher, student))
    each = p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()
    expected = each.mean() * temperature**2
    assert float(tag_logit_loss(student, teacher, temperature)) == pytest.approx(
        float(expected), 1e-4
    )
    assert float(tag_logit_loss(teacher, teacher, temperature)) == pytest.approx(0, abs=1e-6)
    p, q = (torch.softmax(x.double() / temperature, -1) for x in (teacher, student))
    frames = (p * (p / q).log()).sum(dim=-1).mean() * temperature**2
    found = frame_logit_loss(student[None], teacher[None], temperature)
    assert float(found) == pytest.approx(float(frames), 1e-4)


@pytest.mark.parametrize("count", [2, 50])
def test_both_losses_of_tags_scale_alike_with_the_number_of_tags(count: int) -> None:
    """Every tag the same: as many as there are, one weighs as much as all."""
    logits, teacher = torch.full((3, 1), 0.4), torch.full((3, 1), -1.0)
    many, wanted = logits.expand(3, count), teacher.expand(3, count)
    alone = tag_loss(logits, torch.ones(3, 1)), tag_logit_loss(logits, teacher, 2.0)
    assert float(tag_loss(many, torch.ones(3, count))) == pytest.approx(float(alone[0]))
    assert float(tag_logit_loss(many, wanted, 2.0)) == pytest.approx(float(alone[1]))


def test_tags_of_a_clip_are_judged_by_the_mean_of_its_windows() -> None:
    two = windows(["dog", "rain"], "tags", clip=[0, 0, 1])
    logits = np.array([[4, -4, -4], [-2, -3, -4], [-4, 4, -4]], np.float32)
    tally = TASKS["tags"].tally(logits, two, TAGS)
    sure, unsure = (1 / (1 + math.exp(-x)) for x in (4, -2))
    assert tally[0, 0].tolist() == pytest.approx([(sure + unsure) / 2, 1.0])
    assert TASKS["tags"].score(logits, two, TAGS) == 1.0
    assert TASKS["tags"].values(logits, two, TAGS).tolist() == [1.0, 1.0]


def test_transcripts_are_judged_by_their_token_errors() -> None:
    said = windows(["ab", "ba"], "ctc")
    logits = np.full((2, 4, 4), -5.0, np.float32)
    for row, path in enumerate(([1, 0, 2, 2], [2, 0, 0, 0])):
        logits[row, np.arange(4), path] = 5.0
    assert TASKS["ctc"].score(logits, said, LETTERS) == pytest.approx(3 / 4)
    assert TASKS["ctc"].values(logits, said, LETTERS).tolist() == [1.0, 0.5]


def test_an_unknown_task_is_one_sentence() -> None:
    with pytest.raises(EdgepruneError, match="No task is called 'tasg'"):
        task_of("tasg")
