"""Students: every kind reloads, exports, stores in 8 bits, and reads labels or transcripts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_recordings import RATE, tone
from tiny_replacements import SMALL, STUDENT_KINDS, make_student_model
from transformers import AutoModel, AutoModelForCTC

from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.nn.student import StudentConfig, StudentForAudioClassification, StudentForCTC
from edgeprune.quantization.weight_only import store_int8


@pytest.fixture(scope="module")
def windows() -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(500.0 * (i + 1), 1.0, i) for i in range(3)]))


@pytest.mark.parametrize("kind", STUDENT_KINDS)
def test_every_kind_reloads_and_exports_as_it_was(
    kind: str, windows: torch.Tensor, tmp_path: Path
) -> None:
    model = make_student_model(kind)
    with torch.inference_mode():
        expected = loading.logits_of(model, windows)
    loading.save(model, tmp_path / "student")
    again = loading.load_model(str(tmp_path / "student"))
    with torch.inference_mode():
        torch.testing.assert_close(loading.logits_of(again, windows), expected, rtol=0, atol=0)
    data = to_onnx(again, RATE, 18)
    stored = store_int8(data, family_of("edgeprune-student").float_scopes)
    for sample, scores in zip(windows.numpy(), expected.softmax(dim=-1).numpy(), strict=True):
        np.testing.assert_allclose(onnx_runner(data)(sample[None])[0], scores, rtol=0, atol=1e-4)
        np.testing.assert_allclose(onnx_runner(stored)(sample[None])[0], scores, rtol=0, atol=0.05)


def test_a_new_head_leaves_the_rest_as_it_was_trained(tmp_path: Path) -> None:
    model = make_student_model("conv")
    loading.save(model, tmp_path / "student")
    other = loading.load_model(str(tmp_path / "student"), ("a", "b", "c", "d"))
    assert loading.labels_of(other) == ("a", "b", "c", "d")
    trained = model.student.state_dict()
    assert all(torch.equal(v, trained[k]) for k, v in other.student.state_dict().items())
    backbone = AutoModel.from_pretrained(tmp_path / "student")
    assert all(torch.equal(v, trained[k]) for k, v in backbone.state_dict().items())


def test_training_masks_what_it_hears_and_evaluation_does_not(windows: torch.Tensor) -> None:
    model = make_student_model("conv")
    same = loading.logits_of(model, windows)
    torch.testing.assert_close(loading.logits_of(model, windows), same, rtol=0, atol=0)
    heard: list[torch.Tensor] = []
    model.student.stem.first.register_forward_pre_hook(lambda _, given: heard.append(given[0]))
    model.train()
    model(windows)
    assert (heard[0] == 0).any(dim=-1).any()


def test_a_transcript_is_read_frame_by_frame(tmp_path: Path) -> None:
    config = StudentConfig(**SMALL, vocab_size=7)
    StudentForCTC(config).save_pretrained(tmp_path)
    model = AutoModelForCTC.from_pretrained(tmp_path)
    assert isinstance(model, StudentForCTC)
    assert model(torch.zeros(2, RATE)).logits.shape == (2, 49, 7)


def test_what_is_no_student_is_refused() -> None:
    for wrong in ({"block": "recurrent"}, {"block": "conv", "conv_kernel": 4},
                  {"front_end": "cnn"}, {"front_end": "waveform", "frame_step": 321}):  # fmt: skip
        with pytest.raises(ValueError, match=r"."):
            StudentForAudioClassification(StudentConfig(**{**SMALL, **wrong}))
