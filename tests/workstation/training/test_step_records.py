"""What steps leave and are given: records, folders, and what decides that one is done again."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from steps_fixture import CONTEXT
from tiny_models import make_model
from tiny_recordings import TONES

from edgeprune.core.recipe import build_settings
from edgeprune.core.settings import Augment, Distill
from edgeprune.core.stages import stage_key
from edgeprune.models import loading
from edgeprune.models.macs import macs_by_module
from edgeprune.training.step_records import (
    context_of,
    count_macs,
    read_step,
    step_folders,
    write_step,
)


@pytest.mark.parametrize(
    ("steps", "folders"),
    [([], []), (["depth", "trim"], ["depth", "trim"]),
     (["trim", "depth", "trim", "trim"], ["trim", "depth", "trim-2", "trim-3"])],
)  # fmt: skip
def test_a_step_that_comes_again_has_a_folder_of_its_own(
    steps: list[str], folders: list[str]
) -> None:
    assert step_folders(steps) == folders


def test_the_record_tells_what_the_step_found_and_what_the_model_has(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "hubert", tuple(TONES))))
    write_step(tmp_path, model, 4000, step="trim", valid_score=0.75, curve=[], kept=[1, 2])
    facts = read_step(tmp_path)
    assert facts["kept"] == [1, 2]
    assert facts["unchanged"] is False, "unless the step says so"
    assert (facts["step"], facts["layers"]) == ("trim", 3)
    assert facts["parameters"] == sum(p.numel() for p in model.parameters())
    assert facts["macs"] == count_macs(model, 4000)


def test_multiplications_are_the_whole_models_for_one_window(tmp_path: Path) -> None:
    """By hand of what a linear layer costs: twice the frames, twice its part."""
    model = loading.load_model(str(make_model(tmp_path / "m", "hubert", tuple(TONES))))
    by_module = macs_by_module(model, 4000)
    assert count_macs(model, 4000) == by_module[""]
    layer = model.hubert.encoder.layers[0].feed_forward.intermediate_dense
    with torch.inference_mode():
        frames = loading.logits_and_states(model, torch.zeros(1, 4000))[1][0].shape[1]
    name = "hubert.encoder.layers.0.feed_forward.intermediate_dense"
    assert by_module[name] == frames * layer.in_features * layer.out_features


def test_every_step_of_a_recipe_is_given_the_same_and_its_own_seed() -> None:
    settings = build_settings({
        "distill": {"batch_size": 7, "epochs": 99}, "quantize": {"ignore": ["hush"]},
        "augment": {"noise_share": 0.25}, "accelerator": "cpu",
    })  # fmt: skip
    context = context_of(settings, 4)
    assert (context.seed, context.accelerator, context.ignore) == (4, "cpu", ("hush",))
    assert context.augment == Augment(noise_share=0.25)
    assert context.distill.batch_size == 7
    assert context.distill.epochs == Distill().epochs, "how long is each step's own matter"


def named(distill: Distill) -> str:
    return stage_key(print, None, (replace(CONTEXT, distill=distill),))


def test_only_what_a_step_takes_of_the_distillation_decides_that_it_is_done_again() -> None:
    """How long it lasts is each step's own matter."""
    usual, own = Distill(), {"epochs", "label_epochs", "patience"}
    for field in fields(Distill):
        other = replace(usual, **{field.name: getattr(usual, field.name) + 1})
        assert (named(other) != named(usual)) == (field.name not in own), field.name


def test_seed_sound_and_labels_that_mean_nothing_decide_it_too() -> None:
    keys = {
        stage_key(print, None, (context,))
        for context in (CONTEXT, replace(CONTEXT, seed=9), replace(CONTEXT, ignore=("hush",)),
                        replace(CONTEXT, augment=Augment(mask_share=0.1)),
                        replace(CONTEXT, accelerator="auto"))
    }  # fmt: skip
    assert len(keys) == 5
    json.dumps(CONTEXT.as_input(), allow_nan=False)
