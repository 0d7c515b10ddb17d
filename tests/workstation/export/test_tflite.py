"""TFLite files: every family as torch has it, what is refused, and what the terminal is spared."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_cases import some_of
from tiny_heads import CTC_FAMILIES, LETTERS, TAGS, load_with_head
from tiny_models import FAMILY_NAMES, enliven, make_mert, make_model, tiny_config
from tiny_recordings import RATE, TONES
from tiny_replacements import STUDENT_KINDS
from tiny_replacements import make_mimic_model as make_mimic
from tiny_replacements import make_student_model as make_student
from tiny_windows import windows_for
from transformers import AutoModelForAudioClassification

from edgeprune.export import tflite
from edgeprune.export.onnx import Scorer, largest_difference
from edgeprune.export.tflite import convert, tflite_runner, to_tflite
from edgeprune.models import loading
from edgeprune_device.errors import EdgepruneError


def agrees(model: Any, seconds: float = 0.25) -> bytes:
    """Convert a model, and compare what the file answers with torch; returns the file."""
    windows = windows_for(model, seconds)
    data = to_tflite(model, windows.samples.shape[1])
    assert largest_difference(tflite_runner(data), Scorer(model.eval()), windows) < 1e-4
    return data


@pytest.mark.parametrize("family", some_of(FAMILY_NAMES, "hubert"))
def test_every_family_answers_as_torch_does(family: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "m", family, tuple(TONES), layers=2)
    model = loading.load_model(str(folder))
    if family != "kwt":
        enliven(model)  # its answers differ from clip to clip
    names = list(model.state_dict())
    agrees(model)
    assert list(model.state_dict()) == names  # folding is done to a copy


@pytest.mark.slow
def test_mert_answers_as_torch_does(tmp_path: Path) -> None:
    make_mert(tmp_path)
    agrees(loading.load_model(str(tmp_path), tuple(TONES)))


@pytest.mark.slow
def test_a_conformer_with_relative_positions_answers_as_torch_does(tmp_path: Path) -> None:
    config = tiny_config("wav2vec2-conformer", layers=1)
    config.position_embeddings_type = "relative"
    torch.manual_seed(0)
    made = AutoModelForAudioClassification.from_config(config)
    enliven(made)
    made.save_pretrained(tmp_path)
    agrees(loading.load_model(str(tmp_path)))


@pytest.mark.parametrize("kind", some_of(STUDENT_KINDS, "mfcc"))
def test_every_kind_of_student_answers_as_torch_does(kind: str) -> None:
    agrees(make_student(kind), seconds=1.0 if kind == "cnn" else 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["frame", "conv", "transformer"])
def test_every_kind_of_mimic_answers_as_torch_does(kind: str, tmp_path: Path) -> None:
    agrees(make_mimic(tmp_path, "wav2vec2", (1, 3), kind=kind, layers=1))


def lift(module: torch.nn.Module) -> None:
    """Have every tag more likely than not, so that softmax would give other scores."""
    if isinstance(module, torch.nn.Linear):
        torch.nn.init.constant_(module.bias, 0.5)


@pytest.mark.parametrize("head", some_of(("own", "mlp"), "own"))
def test_tags_are_scored_as_torch_does(head: str, backbone: Path) -> None:
    model = load_with_head(backbone, "tags", head, TAGS)
    model.classifier.apply(lift)
    data = agrees(model)
    scores = tflite_runner(data)(windows_for(model).samples[:1])
    assert scores.shape == (1, 2)
    assert abs(scores.sum() - 1) > 1e-3  # each tag for itself


@pytest.mark.slow
@pytest.mark.parametrize("family", CTC_FAMILIES)
def test_every_family_with_frames_recognises_as_torch_does(family: str, tmp_path: Path) -> None:
    agrees(load_with_head(make_model(tmp_path, family, layers=2), "ctc", "own", LETTERS))


@pytest.mark.slow
def test_a_transcript_keeps_its_frames(backbone: Path) -> None:
    model = load_with_head(backbone, "ctc", "own", LETTERS)
    scores = tflite_runner(agrees(model))(windows_for(model).samples[:1])
    assert scores.shape == (1, 12, 4)
    np.testing.assert_allclose(scores.sum(axis=2), 1, rtol=1e-5)


@pytest.mark.slow
def test_a_bilstm_is_written_out_step_by_step(backbone: Path) -> None:
    agrees(load_with_head(backbone, "ctc", "bilstm", LETTERS))


def test_an_lstm_over_many_frames_is_refused_before_anybody_waits(backbone: Path) -> None:
    with pytest.raises(
        EdgepruneError, match=r"unroll an LSTM, .* 49 time steps .* \(at most 16\)"
    ) as error:
        to_tflite(load_with_head(backbone, "ctc", "bilstm", LETTERS), 16000)
    assert error.value.status == 2
    assert "--format onnx" in error.value.hint


def test_input_and_output_are_named_and_weight_norm_is_folded(tmp_path: Path) -> None:
    from ai_edge_litert.interpreter import Interpreter

    model = loading.load_model(str(make_model(tmp_path, "hubert", tuple(TONES), layers=1)))
    interpreter = Interpreter(model_content=to_tflite(model, 4000))
    named = interpreter.get_signature_list()["serving_default"]
    assert named == {"inputs": ["samples"], "outputs": ["scores"]}
    interpreter.allocate_tensors()
    kernels = [o for o in interpreter._get_ops_details() if o["op_name"] == "CONV_2D"]
    computed = {index for o in interpreter._get_ops_details() for index in o["outputs"]}
    assert kernels
    assert not [o for o in kernels if o["inputs"][1] in computed]  # their weights are constants


class Odd(torch.nn.Module):
    """Uses an operator that no audio model has and litert-torch does not know."""

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scores": torch.special.bessel_j0(samples)}


class Branching(torch.nn.Module):
    """Does something else where it is loud: no graph of a fixed shape."""

    def forward(self, samples: torch.Tensor) -> dict[str, torch.Tensor]:
        print("half way")
        return {"scores": samples if samples.sum() > 0 else -samples}


def test_an_unknown_operator_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        EdgepruneError, match="does not support the operator special_bessel_j0"
    ) as error:
        convert(Odd(), {"samples": torch.zeros(1, 8)})
    assert error.value.status == 2
    assert "--format onnx" in error.value.hint
    assert capfd.readouterr() == ("", "")


def test_what_the_converter_printed_is_shown_when_it_fails(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(EdgepruneError, match="cannot convert this model: Could not guard") as error:
        convert(Branching(), {"samples": torch.zeros(1, 8)})
    assert error.value.status == 1
    assert "half way" in capfd.readouterr().err


def test_the_terminal_is_spared_the_converters_log(
    capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    model = make_student("no block")
    data = to_tflite(model, 4000)
    tflite_runner(data)
    assert capfd.readouterr() == ("", "")


def test_a_file_over_two_gigabytes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tflite, "MOST_BYTES", 1000)
    with pytest.raises(EdgepruneError, match=r"would have 0\.0 GB \(allowed: at most 2 GB\)"):
        to_tflite(make_student("conv"), RATE)


def test_without_the_extra_it_is_one_sentence_and_status_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "litert_torch", None)
    with pytest.raises(EdgepruneError, match="need litert-torch, which is not installed") as error:
        to_tflite(make_student("conv"), RATE)
    assert (error.value.status, error.value.hint) == (3, "pip install 'edgeprune[tflite]'")


def test_a_file_that_computes_something_else_or_nothing_is_refused() -> None:
    model = make_student("plain stem")
    windows = windows_for(model)
    data = to_tflite(model, windows.samples.shape[1])
    with torch.no_grad():
        model.head.linear.bias.add_(torch.tensor([1.0, 0.0, 0.0]))
    with pytest.raises(EdgepruneError, match="differs from torch") as error:
        largest_difference(tflite_runner(data), Scorer(model), windows)
    assert error.value.status == 1
    with torch.no_grad():
        model.head.linear.bias.fill_(torch.nan)
    with pytest.raises(EdgepruneError, match="differs from torch by nan"):
        largest_difference(tflite_runner(data), Scorer(model), windows)
