"""Losses: what they are by hand, and how they scale."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from edgeprune.nn import losses
from edgeprune.nn.losses import frame_logit_loss, tag_logit_loss, tag_loss, transcript_loss


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


def test_frames_are_averaged_over_their_share_of_time() -> None:
    states = torch.arange(6.0)[None, :, None]
    assert losses.to_frames(states, 3).flatten().tolist() == [0.5, 2.5, 4.5]
    assert losses.to_frames(states, 6) is states


def test_relations_ignore_rotation_and_size() -> None:
    torch.manual_seed(0)
    clips = torch.randn(5, 4)
    turned = clips @ torch.linalg.qr(torch.randn(4, 4))[0] * 3.0
    assert losses.relation_loss(clips, turned).item() < 1e-10
    assert losses.relation_loss(clips, torch.randn(5, 4)).item() > 1e-2


def test_softened_answers_are_compared_by_their_divergence_times_the_temperatures_square() -> None:
    student, teacher = torch.tensor([[2.0, 0.0, -1.0]]), torch.tensor([[0.5, 0.5, 1.0]])
    p, q = (np.exp(x.double().numpy() / 2) for x in (teacher, student))
    p, q = p / p.sum(), q / q.sum()
    expected = float((p * np.log(p / q)).sum()) * 4
    assert float(losses.logit_loss(student, teacher, 2.0)) == pytest.approx(expected, abs=1e-6)
    assert float(losses.logit_loss(teacher, teacher, 2.0)) == pytest.approx(0, abs=1e-6)


def test_smoothing_spreads_a_share_of_the_label_over_all() -> None:
    logits, target = torch.tensor([[1.0, 0.0, -2.0, 0.5]]), torch.tensor([2])
    log = np.log(np.exp(logits[0].numpy()) / np.exp(logits[0].numpy()).sum())
    expected = -(0.9 * log[2] + 0.1 * log.mean())
    assert float(losses.label_loss(logits, target, 0.1)) == pytest.approx(float(expected), abs=1e-6)


def test_states_are_held_apart_by_distance_and_direction_as_distilhubert_does() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = torch.randn(2, 2, 3, 5, generator=generator)
    x, y = a.double().numpy(), b.double().numpy()
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    expected = np.abs(x - y).mean() + np.log1p(np.exp(-cosine)).mean()
    assert float(losses.hidden_loss(a, b)) == pytest.approx(expected, abs=1e-5)
    assert float(losses.state_loss(a, b, "l1-cosine")) == pytest.approx(expected, abs=1e-5)
    assert float(losses.state_loss(a, b, "mse")) == pytest.approx(((x - y) ** 2).mean(), abs=1e-5)
    assert float(losses.hidden_loss(a, a)) < float(losses.hidden_loss(a, -a))
