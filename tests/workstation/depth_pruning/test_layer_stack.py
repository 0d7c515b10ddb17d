"""A model opened between its blocks gives what it gives whole, for every family and every cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_cases import families
from tiny_models import FAMILY_NAMES, make_model, tiny_config
from tiny_recordings import TONES

from edgeprune.depth_pruning.layer_stack import LayerSubset, Stack, run_subsets
from edgeprune.models import loading
from edgeprune.models.families import fixed_layers_of, keep_layers
from edgeprune.models.hidden_states import frames_of


def heard(batch: int = 3) -> torch.Tensor:
    generator = np.random.default_rng(0)
    return torch.from_numpy(generator.normal(0, 0.1, (batch, 16000)).astype(np.float32))


def cuts_of(model: Any) -> list[LayerSubset]:
    """Name some cuts of three layers, as far as the family allows."""
    every = (0, 1, 2)
    return [every] if len(fixed_layers_of(model.config)) == 3 else [every, (0, 1), (0, 2), (0,)]


def test_every_cut_answers_as_the_model_that_was_really_cut(family_folder: Path) -> None:
    model = loading.load_model(str(family_folder))
    cuts = cuts_of(model)
    with torch.inference_mode():
        found = run_subsets(Stack(model), heard(), cuts)
        for cut in cuts:
            really = loading.load_model(str(family_folder))
            keep_layers(really, cut)
            torch.testing.assert_close(
                found[cut], loading.logits_of(really, heard()), atol=1e-5, rtol=1e-5
            )


def test_the_states_are_those_of_a_whole_run(family_folder: Path) -> None:
    model = loading.load_model(str(family_folder))
    stack = Stack(model)
    with torch.inference_mode():
        states = stack.states(stack.run_front_end(heard()))
        logits, given = loading.logits_and_states(model, heard())
        torch.testing.assert_close(logits, loading.logits_of(model, heard()))
        assert len(states) == len(given) == 4
        assert len({state.shape for state in given}) == 1
        for ours, theirs in zip(states, given, strict=True):
            torch.testing.assert_close(frames_of(model, ours), theirs, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "family_folder",
    families(name for name in FAMILY_NAMES if name != "clap_audio_model"),
    indirect=True,
)  # transformers gives CLAP's states by stage
def test_the_states_are_those_that_transformers_gives(family_folder: Path) -> None:
    model = loading.load_model(str(family_folder))
    stack = Stack(model)
    with torch.inference_mode():
        states = stack.states(stack.run_front_end(heard()))
        theirs = model(loading.prepare(model, heard()), output_hidden_states=True).hidden_states
        if stack.family.summed_normed:
            states[-1] = stack.finish(states[-1])
        for ours, given in zip(states, theirs, strict=True):
            torch.testing.assert_close(ours, given, atol=1e-5, rtol=1e-5)


SUMMED = [name for name in FAMILY_NAMES if hasattr(tiny_config(name), "use_weighted_layer_sum")]
STABLE, WEIGHTED = {"do_stable_layer_norm": True}, {"use_weighted_layer_sum": True}


@pytest.mark.parametrize("changes", [STABLE, WEIGHTED, STABLE | WEIGHTED])
@pytest.mark.parametrize("family", families(SUMMED))
def test_last_norms_and_weighted_heads_are_part_of_it(
    family: str, changes: dict[str, bool], tmp_path: Path
) -> None:
    """The final norm of the large models, and the head that reads every state."""
    from transformers import AutoModelForAudioClassification

    config = tiny_config(family)
    config.num_labels = len(TONES)
    for name, value in changes.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    made = AutoModelForAudioClassification.from_config(config)
    if hasattr(made, "layer_weights"):
        made.layer_weights.data = torch.tensor([0.1, 2.0, -1.0, 0.7])
    made.save_pretrained(tmp_path)
    model = loading.load_model(str(tmp_path))
    with torch.inference_mode():
        found = run_subsets(Stack(model), heard(), [(0, 1, 2), (0, 2)])
        for cut in found:
            really = loading.load_model(str(tmp_path))
            keep_layers(really, cut)
            torch.testing.assert_close(
                found[cut], loading.logits_of(really, heard()), atol=1e-5, rtol=1e-5
            )


def test_common_beginnings_run_once(tmp_path: Path) -> None:
    """Cuts 0-1-2, 0-1 and 0-2 take four blocks: 0, 1, 2 after 1, and 2 after 0."""
    model = loading.load_model(str(make_model(tmp_path, "wav2vec2", tuple(TONES))))
    stack, ran = Stack(model), []
    for index, block in enumerate(stack.blocks):
        block.register_forward_hook(lambda *_, index=index: ran.append(index))
    with torch.inference_mode():
        run_subsets(stack, heard(), [(0, 1, 2), (0, 1), (0, 2), (0, 1)])
    assert sorted(ran) == [0, 1, 2, 2]


def test_a_head_that_was_given_answers_from_the_mean_over_time(family_folder: Path) -> None:
    model = loading.load_model(str(family_folder))
    weight, bias = torch.randn(5, 16), torch.randn(5)
    stack = Stack(model, (weight, bias))
    with torch.inference_mode():
        last = stack.finish(stack.states(stack.run_front_end(heard()))[-1])
        found = run_subsets(stack, heard(), [(0, 1, 2)])[0, 1, 2]
        expected = frames_of(model, last).mean(dim=1) @ weight.T + bias
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_the_model_is_left_as_it_was(family_folder: Path) -> None:
    model = loading.load_model(str(family_folder))
    with torch.inference_mode():
        before = loading.logits_of(model, heard())
        run_subsets(Stack(model), heard(), cuts_of(model))
        torch.testing.assert_close(loading.logits_of(model, heard()), before)
