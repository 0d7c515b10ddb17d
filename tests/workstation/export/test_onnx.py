"""ONNX files: what they answer is what torch answers, or they are refused."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from model_sounds import sounds
from numpy.typing import NDArray
from tiny_heads import TAGS, load_with_head
from tiny_models import enliven, make_model, tiny_config
from tiny_windows import LABELS, tone_windows

from edgeprune.export.model_rewrites import shape
from edgeprune.export.onnx import Scorer, largest_difference, onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import keep_layers
from edgeprune.nn.strided_conv import WaveformEncoder
from edgeprune_device.errors import EdgepruneError


def test_a_graph_that_computes_something_else_is_refused(tmp_path: Path) -> None:
    first = loading.load_model(str(make_model(tmp_path / "a", "hubert", LABELS)))
    data = to_onnx(first, 4000, 18)
    assert largest_difference(onnx_runner(data), Scorer(first), tone_windows()) < 1e-4
    with torch.no_grad():
        first.classifier.weight.mul_(5)
    with pytest.raises(EdgepruneError, match="differs from torch") as error:
        largest_difference(onnx_runner(data), Scorer(first), tone_windows())
    assert error.value.status == 1


def test_exporting_leaves_the_model_as_it_was(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "wav2vec2", LABELS)))
    names = list(model.state_dict())
    to_onnx(model, 4000, 18)
    assert list(model.state_dict()) == names
    loading.logits_of(model, torch.zeros(1, 4000))


@pytest.mark.parametrize("kind", ["rotary", "relative"])
def test_both_kinds_of_conformer_export(kind: str, tmp_path: Path) -> None:
    from transformers import AutoModelForAudioClassification

    config = tiny_config("wav2vec2-conformer")
    config.position_embeddings_type = kind
    torch.manual_seed(0)
    made = AutoModelForAudioClassification.from_config(config)
    enliven(made)
    made.save_pretrained(tmp_path)
    model = loading.load_model(str(tmp_path))
    keep_layers(model, [0, 2])
    heard = sounds(model, 0.5)
    with torch.inference_mode():
        expected = torch.softmax(loading.logits_of(model, heard), dim=-1).numpy()
    run = onnx_runner(to_onnx(model, heard.shape[1], 17))
    for sample, scores in zip(heard.numpy(), expected, strict=True):
        np.testing.assert_allclose(run(sample[None])[0], scores, rtol=0, atol=1e-4)


def test_a_window_shorter_than_a_frame_is_refused(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "wav2vec2", LABELS)))
    with pytest.raises(EdgepruneError, match="A window of 8 samples is too short for the") as error:
        to_onnx(model, 8, 18)
    assert error.value.status == 2
    assert "--window" in error.value.hint


def test_the_onnx_graph_holds_no_sum_that_would_be_fused_slowly(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "wav2vec2", LABELS)))
    assert any(isinstance(part, WaveformEncoder) for part in shape(model, 4000, "onnx").modules())
    data = to_onnx(model, 4000, 18)
    graph = onnx.load_from_string(data).graph
    makers = {name: node for node in graph.node for name in node.output}
    normed = [makers[n.input[0]] for n in graph.node
              if n.op_type == "LayerNormalization" and n.input[0] in makers]  # fmt: skip
    assert Counter(node.op_type for node in normed)["Sum"] >= 6  # two in each of three blocks
    assert all(node.op_type != "Add" for node in normed)
    samples = 0.1 * np.random.default_rng(0).standard_normal((1, 4000)).astype(np.float32)
    with torch.no_grad():
        expected = torch.softmax(loading.logits_of(model, torch.from_numpy(samples)), -1).numpy()
    np.testing.assert_allclose(onnx_runner(data)(samples), expected, atol=1e-5)


class Fixed(Scorer):
    """A scorer whose answers are given."""

    def __init__(self, scores: Sequence[float]) -> None:
        torch.nn.Module.__init__(self)
        self.scores = torch.tensor([scores])

    def forward(self, samples: torch.Tensor) -> torch.Tensor:
        return self.scores


@pytest.mark.parametrize("wrong", [2e-4, float("nan"), float("inf")])
def test_a_single_answer_that_is_off_or_no_number_is_enough_to_refuse_a_file(wrong: float) -> None:
    windows, asked = tone_windows(), [0]

    def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        asked[0] += 1
        return np.array([[0.5, 0.5 + (wrong if asked[0] == 3 else 5e-5)]], np.float32)

    with pytest.raises(EdgepruneError, match=r"differs from torch by .*allowed: 1e-04") as error:
        largest_difference(run, Fixed([0.5, 0.5]), windows)
    assert error.value.status == 1
    asked[0] = 3
    assert largest_difference(run, Fixed([0.5, 0.5]), windows) == pytest.approx(5e-5, rel=0.01)


def test_windows_that_are_compared_are_spread_over_all_of_them() -> None:
    windows, heard = tone_windows(each=10), []

    def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        heard.append(samples[0])
        return np.zeros((1, 1), np.float32)

    largest_difference(run, Fixed([0.0]), windows, count=4)
    place = [int(np.flatnonzero((windows.samples == x).all(axis=1))[0]) for x in heard]
    assert place == [0, 9, 19, 29]


def test_a_file_over_protobufs_limit_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("edgeprune.export.onnx.MOST_BYTES", 1000)
    model = loading.load_model(str(make_model(tmp_path / "m", "kwt", LABELS)))
    with pytest.raises(EdgepruneError, match=r"would have 0\.0 GB \(allowed: at most 2 GB\)"):
        to_onnx(model, 16000, 18)


def test_of_tags_every_score_is_a_share_of_its_own_and_of_classes_they_sum_to_one(
    backbone: Path,
) -> None:
    samples = torch.randn(1, 4000, generator=torch.Generator().manual_seed(0))
    for task, activate in (("classes", lambda x: x.softmax(dim=-1)), ("tags", torch.sigmoid)):
        model = load_with_head(backbone, task, "own", TAGS)
        with torch.inference_mode():
            scores, logits = Scorer(model)(samples), loading.logits_of(model, samples)
        torch.testing.assert_close(scores, activate(logits))
