"""WavLM's attention with any number of heads, equal to transformers' own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_models import heard_by, make_model
from tiny_recordings import TONES

from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune.models.wavlm_attention import GatedAttention, make_trimmable


def test_wavlm_attention_that_can_be_trimmed_is_equal_to_transformers_own(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", "wavlm", tuple(TONES))
    model, other = (loading.load_model(str(folder)) for _ in range(2))
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter, same in zip(model.parameters(), other.parameters(), strict=True):
            parameter += 0.3 * torch.randn(parameter.shape, generator=generator)
            same.copy_(parameter)
    make_trimmable(other)
    make_trimmable(other)  # once more changes nothing
    with torch.inference_mode():
        expected, states = loading.logits_and_states(model, heard_by(model))
        logits, own = loading.logits_and_states(other, heard_by(model))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)
    for state, wanted in zip(own, states, strict=True):
        torch.testing.assert_close(state, wanted, rtol=0, atol=2e-5)


def part_of(owner: bool = True, heads: int = 4) -> GatedAttention:
    torch.manual_seed(0)
    part = GatedAttention(12, heads, 3, buckets=16, distance=32, owner=owner, dropout=0.0)
    torch.nn.init.normal_(part.gru_rel_pos_const)
    return part.eval()


def test_the_bias_of_two_frames_hangs_on_how_far_apart_they_are_alone() -> None:
    bias = part_of().bias(40).detach()
    assert bias.shape == (4, 40, 40)
    for apart in (-39, -3, 0, 5):
        line = torch.diagonal(bias, apart, 1, 2)
        torch.testing.assert_close(line, line[:, :1].expand_as(line))
    assert not torch.allclose(bias[:, 0, 3], bias[:, 3, 0]), "before and after are told apart"
    near, far = bias[:, 0, 1:5], bias[:, 0, 33:39]
    assert len({round(float(x), 5) for x in near[0]}) == 3 + 1, (
        "near frames have buckets of their own"
    )
    torch.testing.assert_close(far, far[:, :1].expand_as(far))


def test_only_the_first_block_makes_the_bias_and_the_others_take_it() -> None:
    hidden = torch.randn(1, 9, 12)
    first, other = part_of(), part_of(owner=False)
    _, _, bias = first(hidden)
    torch.testing.assert_close(other(hidden, position_bias=bias)[2], bias)
    with pytest.raises(RuntimeError, match="computes none"):
        other(hidden)


def test_frames_that_are_masked_are_not_attended_to() -> None:
    hidden = torch.randn(1, 9, 12)
    mask = torch.ones(1, 9)
    mask[0, 6:] = 0
    changed = hidden.clone()
    changed[0, 6:] += 1.0
    part = part_of()
    with torch.inference_mode():
        before, after = (part(x, attention_mask=mask)[0][0, :6] for x in (hidden, changed))
        torch.testing.assert_close(before, after)
        assert not torch.allclose(part(hidden)[0][0, :6], part(changed)[0][0, :6])


def test_heads_that_are_left_answer_as_they_did_among_the_others() -> None:
    """Heads 1 and 3 of 4: their rows, their gates, their biases; the others add nothing."""
    whole, hidden = part_of(), torch.randn(2, 7, 12)
    kept, rows = [1, 3], [3, 4, 5, 9, 10, 11]
    part = GatedAttention(12, 2, 3, buckets=16, distance=32, owner=False, dropout=0.0).eval()
    with torch.no_grad():
        for name in ("q_proj", "k_proj", "v_proj"):
            getattr(part, name).weight.copy_(getattr(whole, name).weight[rows])
            getattr(part, name).bias.copy_(getattr(whole, name).bias[rows])
        part.out_proj.weight.copy_(whole.out_proj.weight[:, rows])
        part.out_proj.bias.copy_(whole.out_proj.bias)
        gates = [2 * head + i for head in kept for i in range(2)]
        part.gate.weight.copy_(whole.gate.weight[gates])
        part.gate.bias.copy_(whole.gate.bias[gates])
        part.gru_rel_pos_const.copy_(whole.gru_rel_pos_const[:, kept])
        part.heads.copy_(torch.tensor(kept))
        found = part(hidden, position_bias=whole.bias(7))[0]
        gone = [i for i in range(12) if i not in rows]
        whole.out_proj.weight[:, gone] = 0
        torch.testing.assert_close(found, whole(hidden)[0])


def test_what_was_frozen_stays_frozen(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "wavlm", tuple(TONES))))
    attention: Any = layers_of(model)[1].attention
    for parameter in attention.q_proj.parameters():
        parameter.requires_grad_(False)
    make_trimmable(model)
    part = layers_of(model)[1].attention
    assert isinstance(part, GatedAttention)
    asked = {name.split(".")[0]: p.requires_grad for name, p in part.named_parameters()}
    assert asked["q_proj"] is False
    assert asked["k_proj"] is asked["gate"] is True
