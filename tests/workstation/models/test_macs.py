"""Counted multiply-accumulates of recurrent layers, against sums over gates written down by hand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import make_model
from tiny_recordings import RATE, TONES
from torch import nn

from edgeprune.models import heads, loading
from edgeprune.models.macs import lstm_macs, macs_by_module
from edgeprune.training.step_records import count_macs
from edgeprune.width_pruning import cost_model
from edgeprune.width_pruning.masking import masks_of
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.units import groups_of

WINDOW = RATE // 4


def by_hand(layer: nn.LSTM, frames: int) -> int:
    """Every weight matrix of an LSTM meets every frame once."""
    return frames * sum(p.numel() for n, p in layer.named_parameters() if n.startswith("weight"))


@pytest.mark.parametrize(
    "layer",
    [
        nn.LSTM(5, 7),
        nn.LSTM(5, 7, 2, bidirectional=True),
        nn.LSTM(5, 7, 3, proj_size=2, bidirectional=True),
    ],
    ids=["plain", "both ways", "projected"],
)
def test_an_lstm_costs_its_weights_in_every_frame(layer: nn.LSTM) -> None:
    first, others = lstm_macs(layer, 11)
    assert first + others == by_hand(layer, 11)
    heard = [p.numel() for n, p in layer.named_parameters() if n.startswith("weight_ih_l0")]
    assert first == 11 * sum(heard)


@pytest.fixture
def recogniser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A tiny model with Seed 4's head for transcripts."""
    monkeypatch.setattr(heads, "LSTM_UNITS", 6)
    source = make_model(tmp_path / "m", "wav2vec2")
    labels = ("<blank>", *TONES)
    return loading.load_model(str(source), labels, task="ctc", head="bilstm")


def test_a_head_of_lstms_is_counted_with_its_model(recogniser: Any) -> None:
    counts = macs_by_module(recogniser, WINDOW)
    with torch.inference_mode():
        frames = loading.logits_of(recogniser, torch.zeros(1, WINDOW)).shape[1]
    lstm, out = recogniser.lm_head.lstm, recogniser.lm_head.out
    assert counts["lm_head.lstm"] == by_hand(lstm, frames)
    assert counts["lm_head"] == by_hand(lstm, frames) + frames * out.weight.numel()
    assert count_macs(recogniser, WINDOW) == counts[""]
    assert counts[""] == pytest.approx(
        sum(counts[name] for name, _ in recogniser.named_children() if name in counts)
    )


def test_narrower_states_make_an_lstm_cheaper_by_what_the_terms_say(recogniser: Any) -> None:
    groups = groups_of(recogniser, ("hidden",))
    assert groups
    terms = cost_model.mac_terms(recogniser, groups, WINDOW)
    table = cost_model.collect_terms(terms)
    assert float(cost_model.total(table, {})) == count_macs(recogniser, WINDOW)
    assert any(term.component == "recurrent" and term.factors for term in terms)
    keep = {group.name: list(range(0, group.units, 2)) for group in groups}
    expected = float(cost_model.total(table, masks_of(groups, keep)))
    trim_to(recogniser, keep)
    assert count_macs(recogniser, WINDOW) == pytest.approx(expected, abs=0.5)
