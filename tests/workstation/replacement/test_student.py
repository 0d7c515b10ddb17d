"""The step ``student``: another model, that learns what the teacher knows of these labels."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steps_fixture import CONTEXT, make_inputs
from tiny_models import FAMILY_NAMES, make_model, tiny_config
from tiny_recordings import RATE, TONES

from edgeprune.core.console import Silent
from edgeprune.core.settings import Distill, Student
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import load_windows
from edgeprune.models import loading
from edgeprune.models.families import layers_of
from edgeprune.nn.student import StudentForAudioClassification
from edgeprune.replacement.student import build, make_student
from edgeprune.replacement.student_loss import MATCHING, StudentLoss, matched_layers, matching, mix
from edgeprune.replacement.weight_transfer import PARTS, inherit, part_of
from edgeprune_device.errors import EdgepruneError

SMALL = Student(width=16, layers=2, mels=12, stem_channels=2, epochs=4, label_epochs=2, kernel=3)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def run(inputs: tuple[Path, Path], out: Path, settings: Student) -> dict[str, Any]:
    out.mkdir()
    teacher, clips = inputs
    make_student(teacher, teacher, clips, CONTEXT, out=out, settings=settings,
                 ui=Silent())  # fmt: skip
    facts: dict[str, Any] = json.loads((out / "step.json").read_text("utf-8"))
    return facts


@pytest.mark.parametrize(
    "settings",
    [
        replace(SMALL, intermediate=True, relation_weight=1.0),
        replace(SMALL, kind="transformer", front_end="mfcc", heads=2),
        replace(SMALL, kind="frame", front_end="waveform", pooling="attentive"),
        replace(SMALL, kind="cnn"),
    ],
    ids=["conv", "transformer", "frame", "cnn"],
)
def test_a_student_knows_the_datas_labels_and_no_others(
    inputs: tuple[Path, Path], tmp_path: Path, settings: Student
) -> None:
    facts = run(inputs, tmp_path / "out", settings)
    model = loading.load_model(str(tmp_path / "out" / "model"))
    assert loading.labels_of(model) == tuple(sorted(TONES))
    assert facts["step"] == "student"
    assert facts["parameters"] == loading.count_parameters(model)
    assert facts["macs"] > 0
    assert len(facts["curve"]) == 6
    assert not (tmp_path / "out" / "work").exists()
    assert not hasattr(model, "matching")


def test_labels_alone_teach_the_tones(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    settings = replace(SMALL, distil=False, epochs=0, label_epochs=40)
    assert run(inputs, tmp_path / "out", settings)["valid_score"] > 0.8


def test_a_teacher_without_the_labels_cannot_teach_them(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    make_model(tmp_path / "model", "wav2vec2", ("low", "middle"))
    with pytest.raises(EdgepruneError, match="does not know the label 'high'"):
        run((tmp_path, inputs[1]), tmp_path / "out", SMALL)


def test_labels_can_be_learnt_where_the_teacher_does_not_know_them(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    make_model(tmp_path / "model", "wav2vec2", ("low", "middle"))
    run((tmp_path, inputs[1]), tmp_path / "out", replace(SMALL, distil=False, epochs=0))
    assert (tmp_path / "out" / "model").is_dir()


def test_a_student_learns_a_teachers_answers(inputs: tuple[Path, Path]) -> None:
    """Without a label: its answers come near those of the teacher on what both hear."""
    windows = load_windows(inputs[1])
    teacher = loading.load_model(str(inputs[0] / "model")).requires_grad_(False)
    torch.manual_seed(0)
    for parameter in teacher.classifier.parameters():
        parameter.mul_(30.0)  # a teacher with opinions
    student = build(SMALL, windows, RATE).train()
    lesson = StudentLoss(
        teacher, windows.labels, SMALL, Distill(hidden_weight=0.0), 0.0, task_of("classes")
    )
    optimizer = torch.optim.AdamW(student.parameters(), lr=1e-2)
    samples = torch.from_numpy(np.array(windows.samples[:24]))
    found = []
    for _ in range(40):
        value = lesson.loss(student, samples, torch.zeros(24, dtype=torch.long), 0)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        found.append(float(value.detach()))
    assert np.mean(found[-5:]) < 0.5 * found[0]


@pytest.mark.parametrize("family", FAMILY_NAMES)
def test_every_family_can_be_the_teacher(family: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", family, tuple(sorted(TONES)))
    teacher = loading.load_model(str(folder), window_samples=RATE)
    settings = replace(SMALL, intermediate=True, relation_weight=1.0)
    windows = replace(_labels(), labels=tuple(sorted(TONES)))
    student = build(settings, windows, RATE).train()
    sound = torch.randn(4, RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    student.add_module(MATCHING, matching(student, teacher, sound, True))
    lesson = StudentLoss(teacher, windows.labels, settings, Distill(), 0.5, task_of("classes"))
    lesson.loss(student, sound, torch.tensor([0, 1, 2, 0]), 0).backward()  # type: ignore[no-untyped-call]
    gradients = [p.grad for name, p in student.named_parameters() if "head" not in name]
    assert all(g is not None and torch.isfinite(g).all() for g in gradients)
    assert not any(p.grad is not None for p in teacher.parameters())


def test_only_the_answers_for_the_datas_labels_count(inputs: tuple[Path, Path]) -> None:
    windows = load_windows(inputs[1])
    teacher = loading.load_model(str(inputs[0] / "model"))
    lesson = StudentLoss(teacher, windows.labels, SMALL, Distill(), 0.0, task_of("classes"))
    known = loading.labels_of(teacher)
    assert [known[i] for i in lesson.columns.tolist()] == list(windows.labels)


def test_states_are_matched_from_the_top_or_level_by_level() -> None:
    assert matched_layers(3, 12, False) == [(3, 12)]
    assert matched_layers(3, 12, True) == [(1, 4), (2, 8), (3, 12)]
    assert matched_layers(0, 12, True) == [(0, 12)]


def test_mixed_windows_keep_their_sum_of_weights() -> None:
    samples = torch.eye(8)
    mixed = mix(samples, 1.0, torch.Generator().manual_seed(0))
    torch.testing.assert_close(mixed.sum(dim=1), torch.ones(8))
    assert ((mixed > 0) & (mixed < 1)).any()
    assert torch.equal(mix(samples, 0.0, torch.Generator()), samples)


@pytest.mark.parametrize("family", ["wav2vec2", "kwt"])
def test_transformer_blocks_begin_as_the_teachers(tmp_path: Path, family: str) -> None:
    teacher = loading.load_model(str(make_model(tmp_path / "m", family, tuple(TONES))))
    settings = replace(SMALL, kind="transformer", heads=tiny_config(family).num_attention_heads)
    student = build(settings, _labels(), RATE)
    taken = inherit(student, teacher)
    assert len(taken) == 2 * 6 * 2  # blocks, layers, weight and bias
    theirs = dict(teacher.base_model.named_parameters())
    name = "blocks.2.mlp.fc1.weight" if family == "kwt" else (
        "encoder.layers.2.feed_forward.intermediate_dense.weight")  # fmt: skip
    assert torch.equal(student.student.blocks[1].inner.weight, theirs[name])


@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name != "cnn14"])
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


def test_nothing_to_inherit_is_said(inputs: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="No weight of the teacher has the shape"):
        run(inputs, tmp_path / "out", replace(SMALL, init="teacher"))


@pytest.mark.parametrize(
    "wrong",
    [
        {"kernel": 4},
        {"kind": "transformer", "heads": 5},
        {"mels": 200},
        {"frame_ms": 2000.0},
        {"hop_ms": 0.01},
    ],
)
def test_settings_that_are_no_student_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(EdgepruneError):
        build(replace(SMALL, **wrong), _labels(), RATE)


def _labels() -> Any:
    from edgeprune.data.windows import Windows

    empty = np.zeros((1, 2), dtype=np.int64)
    return Windows(np.zeros((1, RATE), np.float32), empty, np.zeros(1, np.int64), (), ("a",), RATE)
