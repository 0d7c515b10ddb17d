"""A model in the shape its runtime is fast at computes the same, and the model itself stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_models import make_model
from tiny_recordings import TONES
from torch import nn
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Attention,
    Wav2Vec2PositionalConvEmbedding,
)

from edgeprune.export.model_rewrites import FusedAttention, PlainLayerNorm, Positions, shape
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.checkpoints import read_config
from edgeprune.models.input_length import check_window
from edgeprune.nn.strided_conv import WaveformEncoder
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(sorted(TONES))


@pytest.mark.parametrize("runtime", ["onnx", "tflite"])
def test_a_shaped_model_answers_as_before(family_folder: Path, runtime: str) -> None:
    model = loading.load_model(str(family_folder))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    kinds = [type(part).__name__ for part in model.modules()]
    torch.manual_seed(0)
    samples = 0.1 * torch.randn(1, 16000)
    with torch.no_grad():
        expected = loading.logits_of(model, samples)
        found = loading.logits_of(shape(model, samples.shape[1], runtime), samples)
        again = loading.logits_of(model, samples)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    assert torch.equal(again, expected)
    assert kinds == [type(part).__name__ for part in model.modules()]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("frames", [1, 3, 8, 9, 20])
@pytest.mark.parametrize("kernel", [15, 16])
def test_positions_leave_out_only_taps_that_meet_padding(frames: int, kernel: int) -> None:
    torch.manual_seed(0)
    config = Wav2Vec2Config(hidden_size=8, num_conv_pos_embeddings=kernel,
                            num_conv_pos_embedding_groups=2)  # fmt: skip
    old = Wav2Vec2PositionalConvEmbedding(config).eval()
    new = Positions(old, frames)
    hidden = torch.randn(1, frames, 8)
    with torch.no_grad():
        torch.testing.assert_close(new(hidden), old(hidden))
    assert new.conv.kernel_size[0] <= min(kernel, 2 * frames - 1)


def test_one_product_makes_queries_keys_and_values() -> None:
    torch.manual_seed(0)
    config = Wav2Vec2Config(hidden_size=12)
    config._attn_implementation = "eager"
    old = Wav2Vec2Attention(12, 3, config=config).eval()
    hidden = torch.randn(1, 7, 12)
    with torch.no_grad():
        torch.testing.assert_close(FusedAttention(old)(hidden)[0], old(hidden)[0])


@pytest.mark.parametrize("affine", [True, False])
def test_a_plain_layer_norm_is_a_layer_norm(affine: bool) -> None:
    torch.manual_seed(0)
    norm = nn.LayerNorm(10, elementwise_affine=affine)
    if affine:
        nn.init.uniform_(norm.weight)
        nn.init.uniform_(norm.bias)
    hidden = 3 + torch.randn(1, 4, 10)
    torch.testing.assert_close(PlainLayerNorm(norm)(hidden), norm(hidden))


def test_a_window_shorter_than_a_frame_is_refused(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "wav2vec2", LABELS)))
    with pytest.raises(EdgepruneError, match="A window of 8 samples is shorter than the") as error:
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


@pytest.mark.parametrize("family", ["wav2vec2", "sew", "hubert"])
def test_such_a_window_is_refused_before_anything_is_trained(tmp_path: Path, family: str) -> None:
    config = read_config(str(make_model(tmp_path / "m", family, LABELS)))
    check_window(config, 450)  # 10 samples, then 7 steps of 5, then 7 of 40: 10 + 35 + 280 = 325
    check_window(config, 325)
    with pytest.raises(EdgepruneError, match="324 samples is shorter than the 325 that one frame"):
        check_window(config, 324)
