"""Mimic layers: in place of any span, in every family, and trained to what stood there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from steps_fixture import CONTEXT, make_inputs
from tiny_models import FAMILY_NAMES, load_tiny, make_model, tiny_config
from tiny_recordings import RATE, TONES
from tiny_replacements import make_mimic_model

from edgeprune.core.console import Silent
from edgeprune.core.settings import Mimic as Settings
from edgeprune.data.windows import load_windows
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of, keep_layers, layers_of
from edgeprune.nn.mimic import Mimic
from edgeprune.replacement.mimic import RecordedStates, mimic, source_of
from edgeprune.replacement.mimic_placement import (
    put_mimic,
    refuse_mimic,
    rows_of,
    span_of,
)
from edgeprune.training import loop
from edgeprune_device.errors import EdgepruneError

QUICK = Settings(width=8, epochs=2, label_epochs=1)
NEVER = ("clap_audio_model", "cnn14")
"""Families whose layers change width or resolution."""


@pytest.fixture(scope="module")
def sound() -> torch.Tensor:
    return torch.randn(2, RATE, generator=torch.Generator().manual_seed(0)) * 0.1


@pytest.mark.parametrize("span", [(), (1, 2)], ids=["whole", "middle"])
@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name not in NEVER])
def test_every_family_runs_reloads_and_exports_with_a_mimic(
    family: str, span: tuple[int, ...], sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make_mimic_model(tmp_path / "m", family, span, kind="frame", layers=2)
    assert len(layers_of(model)) == (3 if span else 1)
    with torch.inference_mode():
        expected, states = loading.logits_and_states(model, sound)
    assert len(states) == len(layers_of(model)) + 1
    loading.save(model, tmp_path / "mimic")
    again = loading.load_model(str(tmp_path / "mimic"))
    with torch.inference_mode():
        torch.testing.assert_close(loading.logits_of(again, sound), expected, rtol=0, atol=0)
    data = to_onnx(again, RATE, 18)
    scores = expected.softmax(dim=-1).numpy()
    np.testing.assert_allclose(onnx_runner(data)(sound[:1].numpy())[0], scores[0], atol=1e-4)


@pytest.mark.parametrize("family", NEVER)
def test_a_family_whose_layers_differ_is_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="differ in width and resolution"):
        span_of(load_tiny(tmp_path / "m", family), ())


@pytest.mark.parametrize("kind", ["conv", "transformer", "none"])
def test_every_kind_stands_in_for_all_layers(
    kind: str, sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make_mimic_model(tmp_path / "m", "wav2vec2", (), kind=kind, heads=2)
    loading.save(model, tmp_path / "mimic")
    again = loading.load_model(str(tmp_path / "mimic"))
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(again, sound), loading.logits_of(model, sound), rtol=0, atol=0
        )


@pytest.mark.parametrize("family", ["kwt", "audio-spectrogram-transformer"])
def test_a_class_token_hears_the_frames(family: str, sound: torch.Tensor, tmp_path: Path) -> None:
    """A frame-wise net alone would give every sound the same class token."""
    model = make_mimic_model(tmp_path / "m", family, (), kind="frame")
    with torch.inference_mode():
        logits = loading.logits_of(model, torch.stack([sound[0], sound[1] * 3]))
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_nothing_in_place_of_all_layers_is_the_front_end_and_the_head(
    sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make_mimic_model(tmp_path / "m", "wav2vec2", (), kind="none")
    base = model.wav2vec2
    with torch.inference_mode():
        features = base.feature_projection(base.feature_extractor(
            loading.prepare(model, sound)).transpose(1, 2))[0]  # fmt: skip
        plain = model.projector(base.encoder.layer_norm(features)).mean(dim=1)
        torch.testing.assert_close(
            loading.logits_of(model, sound), model.classifier(plain), rtol=0, atol=1e-6
        )


def test_what_holds_the_position_bias_goes_with_all_or_stays(tmp_path: Path) -> None:
    model = load_tiny(tmp_path / "m", "wavlm")
    assert span_of(model, ()) == (0, 3)
    assert span_of(model, (1, 3)) == (1, 3)
    with pytest.raises(EdgepruneError, match="Layer 0 of models of type wavlm holds what"):
        span_of(model, (0, 2))


@pytest.mark.parametrize("span", [(2, 2), (-1, 2), (1, 4), (1,), (0, 1, 2)])
def test_what_is_no_span_is_refused(span: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="is no span of a model with 3 layers"):
        span_of(load_tiny(tmp_path / "m", "wav2vec2"), span)


def test_a_head_on_all_layers_states_is_refused(tmp_path: Path) -> None:
    model = load_tiny(tmp_path / "m", "hubert")
    model.config.use_weighted_layer_sum = True
    with pytest.raises(EdgepruneError, match="weighted sum of all layers' states"):
        span_of(model, ())


def test_a_cut_student_learns_the_teachers_states_only_where_they_are_its_own(
    tmp_path: Path,
) -> None:
    master, cut = (load_tiny(tmp_path / "m", "wav2vec2") for _ in range(2))
    keep_layers(cut, [0, 1])
    loading.save(cut, tmp_path / "student" / "model")
    folder = tmp_path / "student"
    assert source_of(master, cut, (0, 2), folder) == (master, 0, 2)  # the whole stack
    assert source_of(master, cut, (1, 2), folder) == (master, 1, 2)
    source, begin, layer = source_of(master, cut, (0, 1), folder)
    assert (len(layers_of(source)), begin, layer) == (2, 0, 0)


def test_of_two_layers_the_first_learns_the_middle_of_the_span_in_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A teacher of twelve layers, of which the student has the first three: 5 is half-way, not 10."""
    folder, clips = make_inputs(tmp_path)
    shutil.rmtree(folder / "model")
    make_model(folder / "model", "wav2vec2", (*TONES, "another"), layers=12)
    cut = loading.load_model(str(folder / "model"))
    keep_layers(cut, [0, 1, 2])
    loading.save(cut, tmp_path / "student" / "model")
    seen: list[RecordedStates] = []
    learn = RecordedStates.loss

    def watch(self: RecordedStates, *given: Any) -> torch.Tensor:
        seen.append(self)
        return learn(self, *given)

    monkeypatch.setattr(RecordedStates, "loss", watch)
    (tmp_path / "out").mkdir()
    mimic(folder, tmp_path / "student", clips, CONTEXT, out=tmp_path / "out", ui=Silent(),
          settings=replace(QUICK, layers=2, epochs=1, label_epochs=0))  # fmt: skip
    assert (seen[0].target, seen[0].middle) == (11, 5)


@pytest.mark.parametrize(
    ("family", "changes", "why"),
    [
        ("clap_audio_model", {}, "differ in width and resolution"),
        ("wav2vec2", {"span": (0, 4)}, "no span of a model with 3 layers"),
        ("wav2vec2", {"kind": "transformer", "width": 10, "heads": 4}, "4 heads do not share"),
        ("wav2vec2", {"kind": "conv", "kernel": 4}, "a kernel of 4 frames has no middle"),
        ("wavlm", {"span": (0, 2)}, "holds what the later layers read"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused_by_the_config_alone(
    family: str, changes: dict[str, Any], why: str
) -> None:
    with pytest.raises(EdgepruneError, match=why):
        refuse_mimic(tiny_config(family), replace(QUICK, **changes))
    refuse_mimic(tiny_config("wavlm"), QUICK)


def test_a_weighted_sum_may_stand_in_the_config_where_the_teacher_gets_another_head() -> None:
    config = tiny_config("hubert")
    config.use_weighted_layer_sum = True
    refuse_mimic(config, QUICK, head="mlp")
    with pytest.raises(EdgepruneError, match="weighted sum of all layers' states"):
        refuse_mimic(config, QUICK)


def test_of_a_model_that_an_earlier_step_shortens_only_what_is_sure_is_refused() -> None:
    refuse_mimic(tiny_config("wavlm"), replace(QUICK, span=(0, 2)), shortened=True)
    with pytest.raises(EdgepruneError, match="no span"):
        refuse_mimic(tiny_config("wavlm"), replace(QUICK, span=(0, 4)), shortened=True)


def test_heads_that_share_no_width_are_refused_when_the_mimic_is_made(tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="There is no such mimic: 3 heads do not share"):
        make_mimic_model(tmp_path / "m", "wav2vec2", (), kind="transformer", heads=3)


def test_a_convolution_stays_within_its_row_of_ast_patches(
    sound: torch.Tensor, tmp_path: Path
) -> None:
    """Along time alone: what one band of frequencies holds changes no other band's frames."""
    model = make_mimic_model(
        tmp_path / "m", "audio-spectrogram-transformer", (), kind="conv", kernel=3
    )
    (part,) = layers_of(model)
    rows = rows_of(model.config)
    assert rows == 3  # 40 mel bands, patches of 16, 10 apart
    tokens = torch.randn(1, 2 + rows * 5, 16)
    changed = tokens.clone()
    changed[:, 2 + 5 : 2 + 10] += 1.0  # the middle row
    with torch.inference_mode():
        before, after = ((part(x) if not part.outputs else part(x)[0])[0, 2:]
                         for x in (tokens, changed))  # fmt: skip
    same = (before == after).all(dim=1).reshape(rows, 5).all(dim=1)
    assert same.tolist() == [True, False, True]
    loading.save(model, tmp_path / "again")
    again = loading.load_model(str(tmp_path / "again"))
    with torch.inference_mode():
        assert torch.equal(loading.logits_of(again, sound), loading.logits_of(model, sound))
    data = to_onnx(again, RATE, 18)
    with torch.inference_mode():
        scores = loading.logits_of(model, sound).softmax(dim=-1).numpy()
    np.testing.assert_allclose(onnx_runner(data)(sound[:1].numpy())[0], scores[0], atol=1e-4)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def run(inputs: tuple[Path, Path], out: Path, settings: Settings) -> dict[str, Any]:
    out.mkdir()
    teacher, clips = inputs
    mimic(teacher, teacher, clips, CONTEXT, out=out, settings=settings, ui=Silent())
    facts: dict[str, Any] = json.loads((out / "step.json").read_text("utf-8"))
    return facts


@pytest.mark.parametrize(
    "settings",
    [
        QUICK, replace(QUICK, layers=2, loss="l1-cosine", freeze=True), replace(QUICK, kind="none"),
        replace(QUICK, distil=False), replace(QUICK, span=(1, 3), kind="conv", positions=True),
    ],
    ids=["one", "two", "none", "control", "span"],
)  # fmt: skip
def test_the_step_leaves_a_smaller_model_and_says_what_it_did(
    inputs: tuple[Path, Path], tmp_path: Path, settings: Settings
) -> None:
    facts = run(inputs, tmp_path / "out", settings)
    model = loading.load_model(str(tmp_path / "out" / "model"))
    whole = loading.load_model(str(inputs[0] / "model"))
    assert loading.count_parameters(model) < loading.count_parameters(whole)
    assert facts["span"] == ([1, 3] if settings.span else [0, 3])
    assert facts["positions"] is bool(settings.span)
    assert any(isinstance(block, Mimic) for block in layers_of(model))
    assert len(facts["curve"]) == (1 if settings.kind == "none" else 3)
    assert not (tmp_path / "out" / "work").exists()


def test_a_mimic_comes_near_the_states_it_stands_for(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    def distance(model: Any) -> float:
        sound = torch.from_numpy(np.array(load_windows(inputs[1]).samples[:16]))
        with torch.inference_mode():
            wanted = loading.logits_and_states(master, sound)[1][-1]
            return float((loading.logits_and_states(model, sound)[1][-1] - wanted).square().mean())

    master = loading.load_model(str(inputs[0] / "model"))
    run(inputs, tmp_path / "out", replace(QUICK, epochs=25, label_epochs=0, width=32))
    trained = loading.load_model(str(tmp_path / "out" / "model"))
    fresh = loading.load_model(str(inputs[0] / "model"))
    put_mimic(fresh, 0, 3, torch.zeros(1, RATE), kind="frame", hidden=32)
    assert family_of("wav2vec2").positions
    assert distance(trained) < 0.5 * distance(fresh.eval())


def test_a_frozen_mimic_is_left_as_it_learnt_the_states(
    inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    states = replace(QUICK, label_epochs=0)
    run(inputs, tmp_path / "states", states)
    run(inputs, tmp_path / "frozen", replace(states, label_epochs=2, freeze=True))
    before, after = (
        dict(loading.load_model(str(tmp_path / name / "model")).named_parameters())
        for name in ("states", "frozen")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("projector", "classifier")) for name in changed)


def test_a_regression_keeps_its_last_epoch_and_labels_the_best(
    inputs: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the task's score, the best epoch of a regression would be any: the head is not trained."""
    plans: list[loop.TrainingPlan] = []
    train_a_while = loop.fit

    def watch(*given: Any, **named: Any) -> Any:
        plans.append(given[5])
        return train_a_while(*given, **named)

    monkeypatch.setattr(loop, "fit", watch)
    (tmp_path / "out").mkdir()
    mimic(inputs[0], inputs[0], inputs[1], CONTEXT, out=tmp_path / "out", ui=Silent(),
          settings=replace(QUICK, epochs=3, label_epochs=4))  # fmt: skip
    assert [(p.epochs, p.patience, p.last) for p in plans] == [(3, 3, True), (4, 4, False)]
