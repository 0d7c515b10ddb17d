"""Every state as frames in time, whatever order a family keeps its tokens in."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from slow_cases import families
from tiny_models import FAMILY_NAMES, heard_by, make_model
from tiny_recordings import TONES

from edgeprune.models import loading
from edgeprune.models.families import blocks_of, layers_of
from edgeprune.models.hidden_states import block_states, frames_of

LABELS = tuple(TONES)


def test_claps_frames_run_through_its_strips_in_the_order_of_time(tmp_path: Path) -> None:
    """A sound that is loud in its third quarter alone changes the frames of that quarter most."""
    source = make_model(tmp_path / "m", "clap_audio_model", LABELS)
    model = loading.load_model(str(source))
    quiet = torch.zeros(1, 120000)
    loud = quiet.clone()
    loud[:, 62000:88000] = 0.3 * torch.randn(26000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        (a, *_), (b, *_) = (loading.logits_and_states(model, x)[1] for x in (quiet, loud))
    apart = (a - b).norm(dim=-1)[0]
    assert apart.shape == (32,)  # four strips of eight columns
    assert int(apart.argmax()) in range(16, 24)
    assert float(apart[:14].max()) < 0.1 * float(apart.max())


@pytest.mark.parametrize("family", families(FAMILY_NAMES))
def test_states_are_the_first_layers_input_and_every_layers_output(
    family: str, tmp_path: Path
) -> None:
    """By hooks of the test's own on the blocks that the family's table names."""
    model = loading.load_model(str(make_model(tmp_path / "m", family, LABELS)))
    ends = [getattr(layer, "blocks", [layer])[-1] for layer in layers_of(model)]
    made: list[torch.Tensor] = []
    for block in ends:
        block.register_forward_hook(
            lambda _, __, out: made.append(out[0] if isinstance(out, tuple) else out)
        )
    entered: list[torch.Tensor] = []
    blocks_of(model)[0].register_forward_pre_hook(
        lambda _, args, given: entered.append(args[0] if args else given["hidden_states"]),
        with_kwargs=True,
    )
    with torch.inference_mode(), block_states(model) as states:
        loading.logits_of(model, heard_by(model, 2))
    assert len(states) == len(ends) + 1
    assert torch.equal(states[0], entered[0])
    assert all(torch.equal(a, b) for a, b in zip(states[1:], made, strict=True))
    if family != "clap_audio_model":  # between its stages a merging stands
        before: list[torch.Tensor] = []
        blocks_of(model)[1].register_forward_pre_hook(
            lambda _, args, given: before.append(args[0] if args else given["hidden_states"]),
            with_kwargs=True,
        )
        with torch.inference_mode():
            loading.logits_of(model, heard_by(model, 2))
        assert torch.equal(before[0], states[1])


def test_the_model_keeps_no_hook_even_where_its_run_fails(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "hubert", LABELS)))

    def hooks() -> list[int]:  # transformers has some of its own
        return [hook for block in blocks_of(model)
                for hook in (*block._forward_hooks, *block._forward_pre_hooks)]  # fmt: skip

    loading.logits_of(model, heard_by(model, 1))
    before = hooks()
    with block_states(model):
        assert len(hooks()) > len(before)
    assert hooks() == before
    with pytest.raises(RuntimeError), block_states(model):
        loading.logits_of(model, torch.zeros(1, 1))
    assert hooks() == before


def test_class_tokens_stand_for_no_time_and_are_left_out(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "kwt", LABELS)))
    state = torch.arange(2.0 * 5 * 3).reshape(2, 5, 3)
    assert torch.equal(frames_of(model, state), state[:, 1:])
    plain = loading.load_model(str(make_model(tmp_path / "h", "hubert", LABELS)))
    assert torch.equal(frames_of(plain, state), state)


def test_asts_patches_are_averaged_over_frequencies_at_each_time(tmp_path: Path) -> None:
    """Three rows of frequencies (40 filters, patches of 16, a stride of 10), 19 columns of time."""
    family = "audio-spectrogram-transformer"
    model = loading.load_model(str(make_model(tmp_path / "m", family, LABELS)))
    with torch.inference_mode(), block_states(model) as states:
        loading.logits_of(model, heard_by(model, 1))
    found, state = frames_of(model, states[1])[0], states[1][0]
    assert found.shape == (19, 16)
    for time in range(19):
        patches = torch.stack([state[2 + row * 19 + time] for row in range(3)])
        torch.testing.assert_close(found[time], patches.mean(dim=0))


def test_a_cnns_pictures_all_become_frames_of_the_last_ones_number_and_width(
    tmp_path: Path,
) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "cnn14", LABELS)))
    with torch.inference_mode():
        _, states = loading.logits_and_states(model, heard_by(model, 2))
        with block_states(model) as pictures:
            loading.logits_of(model, heard_by(model, 2))
    assert len({state.shape for state in states}) == 1
    last = pictures[-1].mean(dim=3).transpose(1, 2)
    torch.testing.assert_close(states[-1], last)
    lacking = states[0].shape[-1] - pictures[0].shape[1]
    assert lacking > 0
    assert not states[0][..., -lacking:].any()
