"""Seed 4's heads: they replace a model's own, reload by the config, and export."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from slow_cases import families
from tiny_heads import CTC_FAMILIES, LETTERS, TAGS, load_with_head
from tiny_models import FAMILY_NAMES, make_model
from tiny_recordings import RATE, TONES

from edgeprune.data.tasks import TASKS
from edgeprune.data.windows import Windows
from edgeprune.export.onnx import Scorer, largest_difference, onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.checkpoints import read_checkpoint, read_config
from edgeprune.models.heads import put_head
from edgeprune.nn.heads import BiLstmHead, MlpHead
from edgeprune.quantization.dynamic_onnx import to_int8

CASES = [("classes", "mlp", TAGS), ("tags", "mlp", TAGS), ("tags", "own", TAGS),
         ("ctc", "own", LETTERS), ("ctc", "bilstm", LETTERS)]  # fmt: skip
SAMPLES = 4000


def heard(count: int = 3) -> Windows:
    samples = np.random.default_rng(0).standard_normal((count, SAMPLES)).astype(np.float32) * 0.1
    rows = tuple({"label": "a", "columns": {}} for _ in range(count))
    return Windows(samples, np.tile([0, SAMPLES], (count, 1)), np.arange(count), rows, TAGS, 16000)


@pytest.mark.parametrize(("task", "head", "labels"), CASES)
def test_a_head_reloads_by_the_config_and_exports_with_its_activation(
    task: str, head: str, labels: tuple[str, ...], backbone: Path, tmp_path: Path
) -> None:
    model = load_with_head(backbone, task, head, labels)
    loading.save(model, tmp_path / "m")
    again = loading.load_model(str(tmp_path / "m"))
    samples = torch.from_numpy(heard().samples)
    with torch.inference_mode():
        assert torch.equal(loading.logits_of(again, samples), loading.logits_of(model, samples))
        scores = Scorer(again)(samples[:1])
    assert read_checkpoint(str(tmp_path / "m")).labels(task) == labels
    sums = scores.sum(dim=-1)
    assert (task == "tags") == (not torch.allclose(sums, torch.ones_like(sums)))
    assert scores.ndim == (3 if task == "ctc" else 2)
    data = to_onnx(again, SAMPLES, 18)
    assert largest_difference(onnx_runner(data), Scorer(again), heard()) < 1e-4
    assert (
        largest_difference(
            onnx_runner(data), Scorer(loading.load_model(str(tmp_path / "m"))), heard()
        )
        < 1e-4
    )
    assert len(to_int8(data)) > 0


def test_the_mlp_is_seed_4s_mean_over_time_and_1024_units(backbone: Path) -> None:
    model = load_with_head(backbone, "classes", "mlp", TAGS)
    assert isinstance(model.classifier, MlpHead)
    samples = torch.from_numpy(heard().samples)
    with torch.inference_mode():
        logits, states = loading.logits_and_states(model, samples)
        mean = states[-1].mean(dim=1)
        first, last = model.classifier.hidden, model.classifier.out
        assert first.out_features == 1024
        expected = torch.relu(mean @ first.weight.T + first.bias) @ last.weight.T + last.bias
    assert torch.allclose(logits, expected, atol=1e-5)


@pytest.mark.parametrize("family", families(FAMILY_NAMES))
def test_the_mlp_reads_of_a_clip_what_the_familys_own_head_reads(
    family: str, tmp_path: Path
) -> None:
    folder = make_model(tmp_path / "m", family, tuple(TONES))
    torch.manual_seed(0)
    model = loading.load_model(str(folder), TAGS, head="mlp", window_samples=RATE)
    sound = torch.randn(2, RATE) * 0.1
    with torch.inference_mode():
        logits = loading.logits_of(model, sound)
    assert logits.shape == (2, 2)
    assert sum(isinstance(module, MlpHead) for module in model.modules()) == 1
    loading.save(model, tmp_path / "again")
    again = loading.load_model(str(tmp_path / "again"))
    with torch.inference_mode():
        assert torch.equal(loading.logits_of(again, sound), logits)


@pytest.mark.parametrize("pooling", ["mean-max", "attentive"])
def test_a_students_own_pooling_stays_under_an_mlp(pooling: str, tmp_path: Path) -> None:
    plain = loading.load_model(str(make_model(tmp_path / "m", "edgeprune-student", TAGS)))
    plain.config.pooling = pooling
    model = type(plain)(plain.config)
    model.config.edgeprune_normalize = False
    put_head(model, "mlp", 3)
    sound = torch.randn(2, RATE) * 0.1
    with torch.inference_mode():
        assert loading.logits_of(model.eval(), sound).shape == (2, 3)
    assert model.head.pooling == pooling


def test_a_bilstm_for_other_tokens_is_drawn_anew(backbone: Path, tmp_path: Path) -> None:
    loading.save(load_with_head(backbone, "ctc", "bilstm", LETTERS), tmp_path / "m")
    own = loading.load_model(str(tmp_path / "m"))
    other = loading.load_model(str(tmp_path / "m"), ("<pad>", "x", "y", "z"))
    assert isinstance(other.lm_head, BiLstmHead)
    before, after = (m.lm_head.lstm.state_dict()["weight_hh_l0"] for m in (own, other))
    assert not torch.equal(before, after)


def test_an_mlp_reads_the_last_state_even_of_a_model_that_summed_them_all(tmp_path: Path) -> None:
    from transformers import AutoModelForAudioClassification

    folder = make_model(tmp_path / "m", "wav2vec2", TAGS)
    config = read_config(str(folder))
    config.use_weighted_layer_sum = True
    AutoModelForAudioClassification.from_config(config).save_pretrained(tmp_path / "sum")
    model = loading.load_model(str(tmp_path / "sum"), ("x", "y", "z"), head="mlp")
    assert not hasattr(model, "layer_weights")
    loading.save(model, tmp_path / "again")
    sound = torch.randn(1, SAMPLES)
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(loading.load_model(str(tmp_path / "again")), sound),
            loading.logits_of(model, sound),
        )
    fresh = loading.load_model(str(tmp_path / "sum"), ("x", "y"))
    assert fresh.layer_weights.tolist() == [0.25] * 4


def test_the_bilstm_hears_both_ways(backbone: Path) -> None:
    model = load_with_head(backbone, "ctc", "bilstm", LETTERS)
    assert isinstance(model.lm_head, BiLstmHead)
    assert (model.lm_head.lstm.hidden_size, model.lm_head.lstm.num_layers) == (256, 2)
    states = torch.randn(1, 7, 16)
    with torch.inference_mode():
        before = model.lm_head(states)
        for frame in (0, 6):
            changed = states.clone()
            changed[:, frame] += 1.0
            assert not torch.allclose(model.lm_head(changed)[:, 3], before[:, 3])


@pytest.mark.parametrize("family", families(CTC_FAMILIES))
def test_every_family_with_frames_recognises(family: str, tmp_path: Path) -> None:
    folder = make_model(tmp_path / "backbone", family)
    model = load_with_head(folder, "ctc", "own", LETTERS)
    loading.save(model, tmp_path / "m")
    again = loading.load_model(str(tmp_path / "m"))
    data = to_onnx(again, SAMPLES, 18)
    assert largest_difference(onnx_runner(data), Scorer(again), heard()) < 1e-4
    loss = TASKS["ctc"].loss(
        loading.logits_of(again, torch.randn(2, SAMPLES)), torch.tensor([[1], [2]])
    )
    loss.backward()  # type: ignore[no-untyped-call]
    assert torch.isfinite(loss)
