"""What a student takes over of its teacher: the same part of the right block, where it fits."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from slow_cases import families
from small_students import SMALL, one_window
from tiny_models import FAMILY_NAMES, make_model, tiny_config
from tiny_recordings import RATE, TONES
from torch import nn

from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune.nn.student import StudentForAudioClassification
from edgeprune.replacement.student import build
from edgeprune.replacement.weight_transfer import PARTS, inherit, part_of


@pytest.mark.parametrize("family", ["wav2vec2", "kwt"])
def test_transformer_blocks_begin_as_the_teachers(tmp_path: Path, family: str) -> None:
    teacher = loading.load_model(str(make_model(tmp_path / "m", family, tuple(TONES))))
    settings = replace(SMALL, kind="transformer", heads=tiny_config(family).num_attention_heads)
    student = build(settings, one_window(), RATE)
    taken = inherit(student, teacher)
    assert len(taken) == 2 * 6 * 2  # blocks, layers, weight and bias
    theirs = dict(teacher.base_model.named_parameters())
    name = "blocks.2.mlp.fc1.weight" if family == "kwt" else (
        "encoder.layers.2.feed_forward.intermediate_dense.weight")  # fmt: skip
    assert torch.equal(student.student.blocks[1].inner.weight, theirs[name])


@pytest.mark.parametrize("family", families(name for name in FAMILY_NAMES if name != "cnn14"))
def test_every_part_is_found_in_every_transformer_family(family: str, tmp_path: Path) -> None:
    """By shape and, of what comes out of attention, by its place: no part is another's."""
    if family == "edgeprune-student":
        config = tiny_config(family)
        config.block = "transformer"
        model: Any = StudentForAudioClassification(config)
    else:
        model = loading.load_model(str(make_model(tmp_path / "m", family, tuple(TONES))))
    block = layers_of(model)[-1]
    found = {part: layer for part, endings in PARTS.items() if (layer := part_of(block, endings))}
    assert len({id(layer) for layer in found.values()}) == len(PARTS)
    assert found["inner"].weight.shape == found["outer"].weight.T.shape
    size = found["q"].weight.shape
    assert all(found[part].weight.shape == size for part in ("k", "v"))
    assert found["out"].weight.shape == size[::-1]


def test_only_weights_of_the_same_shape_are_taken_over(tmp_path: Path) -> None:
    """A student as wide but with other feed-forward layers takes attention alone."""
    teacher = loading.load_model(str(make_model(tmp_path / "m", "wav2vec2", tuple(TONES))))
    student = build(replace(SMALL, kind="transformer", heads=2, expansion=3), one_window(), RATE)
    before = {name: p.clone() for name, p in student.student.named_parameters()}
    taken = inherit(student, teacher)
    assert {name.split(".")[2] for name in taken} == {"q", "k", "v", "out"}
    for name, parameter in student.student.named_parameters():
        if name.endswith("weight"):  # biases begin as zeros on both sides
            assert torch.equal(parameter, before[name]) == (name not in taken), name


def test_blocks_are_taken_evenly_spaced_and_the_last_from_the_last(tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", "wav2vec2", tuple(TONES), layers=6)
    teacher = loading.load_model(str(folder))
    student = build(replace(SMALL, kind="transformer", heads=2, layers=3), one_window(), RATE)
    inherit(student, teacher)
    blocks: Any = layers_of(teacher)
    sources = [blocks[i].attention.q_proj.weight for i in (1, 3, 5)]
    for block, source in zip(student.student.blocks, sources, strict=True):
        assert torch.equal(block.q.weight, source)


def test_of_two_parts_with_one_name_the_least_deep_is_meant() -> None:
    block: Any = nn.Module()
    block.add_module("adapter", nn.Sequential())
    block.adapter.add_module("query", nn.Linear(2, 2))
    block.add_module("query", nn.Linear(3, 3))
    assert part_of(block, PARTS["q"]) is block.query
    assert part_of(block, ("uery",)) is None, "a name's end is a whole part of it"
