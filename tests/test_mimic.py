"""Mimic layers: in place of any span, in every family, and trained to what stood there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import FAMILY_NAMES, RATE, TONES, make_model
from steps_fixture import SHARED, make_inputs

from edgeprune import models
from edgeprune.audio import load_windows
from edgeprune.console import Silent
from edgeprune.export_onnx import onnx_runner, to_onnx
from edgeprune.families import family_of, keep_layers, layers_of
from edgeprune.mimic import mimic, source_of
from edgeprune.mimic_layers import Mimic, drop_positions, put_mimic, span_of
from edgeprune.settings import Mimic as Settings
from edgeprune_device.errors import EdgepruneError

QUICK = Settings(width=8, epochs=2, label_epochs=1)
NEVER = ("clap_audio_model", "cnn14")
"""Families whose layers change width or resolution."""


def load(folder: Path, family: str) -> Any:
    return models.load_classifier(
        str(make_model(folder, family, tuple(TONES))), window_samples=RATE
    )


@pytest.fixture(scope="module")
def sound() -> torch.Tensor:
    return torch.randn(2, RATE, generator=torch.Generator().manual_seed(0)) * 0.1


def make(folder: Path, family: str, span: tuple[int, ...], **spec: Any) -> Any:
    model = load(folder, family)
    torch.manual_seed(1)
    first, stop = span_of(model, span)
    put_mimic(model, first, stop, torch.zeros(1, RATE), hidden=8, **spec)
    if not span:
        drop_positions(model)
    return model.eval()


@pytest.mark.parametrize("span", [(), (1, 2)], ids=["whole", "middle"])
@pytest.mark.parametrize("family", [name for name in FAMILY_NAMES if name not in NEVER])
def test_every_family_runs_reloads_and_exports_with_a_mimic(
    family: str, span: tuple[int, ...], sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make(tmp_path / "m", family, span, kind="frame", layers=2)
    assert len(layers_of(model)) == (3 if span else 1)
    with torch.inference_mode():
        expected, states = models.logits_and_states(model, sound)
    assert len(states) == len(layers_of(model)) + 1
    models.save(model, tmp_path / "mimic")
    again = models.load_classifier(str(tmp_path / "mimic"))
    with torch.inference_mode():
        torch.testing.assert_close(models.logits_of(again, sound), expected, rtol=0, atol=0)
    data = to_onnx(again, RATE, 18)
    scores = expected.softmax(dim=-1).numpy()
    np.testing.assert_allclose(onnx_runner(data)(sound[:1].numpy())[0], scores[0], atol=1e-4)


@pytest.mark.parametrize("family", NEVER)
def test_a_family_whose_layers_differ_is_refused(family: str, tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="differ in width and resolution"):
        span_of(load(tmp_path / "m", family), ())


@pytest.mark.parametrize("kind", ["conv", "transformer", "none"])
def test_every_kind_stands_in_for_all_layers(
    kind: str, sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make(tmp_path / "m", "wav2vec2", (), kind=kind, heads=2)
    models.save(model, tmp_path / "mimic")
    again = models.load_classifier(str(tmp_path / "mimic"))
    with torch.inference_mode():
        torch.testing.assert_close(
            models.logits_of(again, sound), models.logits_of(model, sound), rtol=0, atol=0
        )


@pytest.mark.parametrize("family", ["kwt", "audio-spectrogram-transformer"])
def test_a_class_token_hears_the_frames(family: str, sound: torch.Tensor, tmp_path: Path) -> None:
    """A frame-wise net alone would give every sound the same class token."""
    model = make(tmp_path / "m", family, (), kind="frame")
    with torch.inference_mode():
        logits = models.logits_of(model, torch.stack([sound[0], sound[1] * 3]))
    assert (logits[0] - logits[1]).abs().max() > 1e-4


def test_nothing_in_place_of_all_layers_is_the_front_end_and_the_head(
    sound: torch.Tensor, tmp_path: Path
) -> None:
    model = make(tmp_path / "m", "wav2vec2", (), kind="none")
    base = model.wav2vec2
    with torch.inference_mode():
        features = base.feature_projection(base.feature_extractor(
            models.prepare(model, sound)).transpose(1, 2))[0]  # fmt: skip
        plain = model.projector(base.encoder.layer_norm(features)).mean(dim=1)
        torch.testing.assert_close(
            models.logits_of(model, sound), model.classifier(plain), rtol=0, atol=1e-6
        )


def test_what_holds_the_position_bias_goes_with_all_or_stays(tmp_path: Path) -> None:
    model = load(tmp_path / "m", "wavlm")
    assert span_of(model, ()) == (0, 3)
    assert span_of(model, (1, 3)) == (1, 3)
    with pytest.raises(EdgepruneError, match="Layer 0 of a wavlm model holds what"):
        span_of(model, (0, 2))


@pytest.mark.parametrize("span", [(2, 2), (-1, 2), (1, 4), (1,), (0, 1, 2)])
def test_what_is_no_span_is_refused(span: tuple[int, ...], tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="is no span of a model with 3 layers"):
        span_of(load(tmp_path / "m", "wav2vec2"), span)


def test_a_head_on_all_layers_states_is_refused(tmp_path: Path) -> None:
    model = load(tmp_path / "m", "hubert")
    model.config.use_weighted_layer_sum = True
    with pytest.raises(EdgepruneError, match="weighted sum of all layers' states"):
        span_of(model, ())


def test_a_cut_student_learns_the_teachers_states_only_where_they_are_its_own(
    tmp_path: Path,
) -> None:
    master, cut = (load(tmp_path / "m", "wav2vec2") for _ in range(2))
    keep_layers(cut, [0, 1])
    models.save(cut, tmp_path / "student" / "model")
    assert source_of(master, cut, 2, tmp_path / "student") == (master, 2)  # the whole stack
    source, layer = source_of(master, cut, 1, tmp_path / "student")
    assert (len(layers_of(source)), layer) == (2, 0)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


def run(inputs: tuple[Path, Path], out: Path, settings: Settings) -> dict[str, Any]:
    out.mkdir()
    teacher, clips = inputs
    mimic(teacher, teacher, clips, SHARED, out=out, settings=settings, ui=Silent())
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
    model = models.load_classifier(str(tmp_path / "out" / "model"))
    whole = models.load_classifier(str(inputs[0] / "model"))
    assert models.count_parameters(model) < models.count_parameters(whole)
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
            wanted = models.logits_and_states(master, sound)[1][-1]
            return float((models.logits_and_states(model, sound)[1][-1] - wanted).square().mean())

    master = models.load_classifier(str(inputs[0] / "model"))
    run(inputs, tmp_path / "out", replace(QUICK, epochs=25, label_epochs=0, width=32))
    trained = models.load_classifier(str(tmp_path / "out" / "model"))
    fresh = models.load_classifier(str(inputs[0] / "model"))
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
        dict(models.load_classifier(str(tmp_path / name / "model")).named_parameters())
        for name in ("states", "frozen")
    )
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all(name.startswith(("projector", "classifier")) for name in changed)
