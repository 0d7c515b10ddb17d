"""A model in the shape its runtime is fast at computes the same, and the model itself stays."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Wav2Vec2Config
from transformers.models.wav2vec2.modeling_wav2vec2 import (
    Wav2Vec2Attention,
    Wav2Vec2PositionalConvEmbedding,
)

from edgeprune.export.model_rewrites import FusedAttention, PlainLayerNorm, Positions, shape
from edgeprune.models import loading


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
