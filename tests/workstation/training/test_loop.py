"""Training: resumable to the bit, seeded, and left at its best epoch."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steps_fixture import StopsAt
from tiny_recordings import TONES, tone

from edgeprune.core.console import Silent
from edgeprune.data.tasks import TASKS
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.nn import losses
from edgeprune.training import loop
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(sorted(TONES))
PLAN = loop.TrainingPlan(
    epochs=4, batch_size=6, learning_rate=1e-3, weight_decay=0.0, patience=9, seed=3
)  # fmt: skip


def tones(each: int, seed: int) -> Windows:
    labels = [label for label in LABELS for _ in range(each)]
    samples = np.stack([tone(TONES[x], 0.25, seed + i) for i, x in enumerate(labels)])
    rows: tuple[dict[str, Any], ...] = tuple({"label": x, "columns": {}} for x in labels)
    sound = np.tile([0, samples.shape[1]], (len(labels), 1))
    return Windows(samples, sound, np.arange(len(labels)), rows, LABELS, 16000)


def loss(model: Any, samples: torch.Tensor, targets: torch.Tensor, _: int) -> torch.Tensor:
    return losses.label_loss(loading.logits_of(model, samples), targets, 0.1)


def run(folder: Path, work: Path, ui: Any = None) -> tuple[list[dict[str, float]], Any]:
    torch.manual_seed(0)
    model = loading.load_model(str(folder), LABELS)
    curve = loop.fit(
        model, tones(8, 0), tones(3, 500), LABELS, loss, PLAN,
        loop.TrainingSession(work, torch.device("cpu"), ui or Silent(), "test"),
    )  # fmt: skip
    return curve, model


def test_an_interrupted_training_ends_where_an_uninterrupted_one_does(
    backbone: Path, tmp_path: Path
) -> None:
    straight, expected = run(backbone, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(backbone, tmp_path / "cut", StopsAt(10))  # in the middle of the third epoch of 4 steps
    assert (tmp_path / "cut" / loop.CHECKPOINT).exists()
    resumed, model = run(backbone, tmp_path / "cut")
    assert resumed == straight
    for name, value in expected.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name


def test_a_training_that_ended_is_not_gone_on_with(backbone: Path, tmp_path: Path) -> None:
    """Its model may not have been saved yet: the checkpoint gives the same one again."""
    curve, model = run(backbone, tmp_path)
    again, same = run(backbone, tmp_path, StopsAt(1))
    assert again == curve
    for name, value in model.state_dict().items():
        assert torch.equal(same.state_dict()[name], value), name


def test_the_resumed_training_does_not_repeat_finished_epochs(
    backbone: Path, tmp_path: Path
) -> None:
    class Counts(Silent):
        batches = 0

        def track(self, items: Iterable[Any], label: str, total: int) -> Iterator[Any]:
            for item in items:
                self.batches += 1
                yield item

    with pytest.raises(KeyboardInterrupt):
        run(backbone, tmp_path / "cut", StopsAt(10))
    counts = Counts()
    run(backbone, tmp_path / "cut", counts)
    assert counts.batches == 4 * 4 - 2 * 4  # two epochs of four steps were finished


def test_training_that_diverges_says_so(
    backbone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = loss

    def lost(*_: Any) -> torch.Tensor:
        return whole(*_) * float("nan")

    monkeypatch.setattr(f"{__name__}.loss", lost)
    with pytest.raises(EdgepruneError, match="the loss in epoch 1 is NaN or infinite"):
        run(backbone, tmp_path)


def test_the_model_is_left_at_its_best_epoch(backbone: Path, tmp_path: Path) -> None:
    curve, model = run(backbone, tmp_path / "work")
    valid = tones(3, 500)
    logits = loop.predict(model, valid, torch.device("cpu"))
    score = TASKS["classes"].score(logits, valid, LABELS)
    assert score == max(s["valid_score"] for s in curve)


def test_a_clip_of_several_windows_is_judged_by_their_mean_score() -> None:
    one = tones(1, 0)
    windows = Windows(
        one.samples[[0, 0, 1]], one.sound[[0, 0, 1]], np.array([0, 0, 1]), one.rows, LABELS, 16000
    )
    # Clip 0: sure of the right label in one window, mildly wrong in the other: right on average.
    logits = np.log(np.array([[0.9, 0.05, 0.05], [0.3, 0.4, 0.3], [0.8, 0.1, 0.1]], np.float32))
    assert TASKS["classes"].correctness(logits, windows, LABELS).tolist() == [True, False]


def test_the_learning_rate_rises_then_falls_to_one_per_cent() -> None:
    factor = loop.warmup_cosine(100)
    values = [factor(step) for step in range(100)]
    assert values[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert values[10] == pytest.approx(1.0)
    assert all(a >= b for a, b in itertools.pairwise(values[10:]))
    assert factor(100) == pytest.approx(0.01)


def test_what_is_frozen_keeps_its_statistics_while_the_rest_is_trained() -> None:
    first, second = torch.nn.BatchNorm1d(2), torch.nn.BatchNorm1d(2)
    model = torch.nn.Sequential(torch.nn.Sequential(torch.nn.Conv1d(1, 2, 3), first), second)
    model[0].requires_grad_(False)
    loop.to_training(model)
    model(torch.randn(8, 1, 20) + 5)
    assert first.running_mean is not None
    assert second.running_mean is not None
    assert torch.equal(first.running_mean, torch.zeros(2))
    assert not torch.equal(second.running_mean, torch.zeros(2))
