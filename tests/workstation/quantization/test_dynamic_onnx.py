"""Dynamic int8: smaller, near the float file, and only where it is meant to be."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from hand_graphs import FIRST, SECOND, answers_by_hand, kinds_of, operators, sounds, two_products
from onnx import TensorProto
from tiny_models import heard_by
from tiny_windows import tone_windows
from transformers import (
    Wav2Vec2Config,
    Wav2Vec2ForSequenceClassification,
)

from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import (
    family_of,
    fixed_layers_of,
    keep_layers,
)
from edgeprune.quantization.dynamic_onnx import no_advice, to_int8


def test_int8_is_smaller_and_agrees_where_the_weights_are_large(tmp_path: Path) -> None:
    config = Wav2Vec2Config(
        hidden_size=128, intermediate_size=256, num_hidden_layers=4, num_attention_heads=4,
        conv_dim=(16, 16, 16), conv_stride=(5, 8, 8), conv_kernel=(10, 8, 8),
        num_feat_extract_layers=3, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4,
        classifier_proj_size=64, num_labels=3,
    )  # fmt: skip
    torch.manual_seed(0)
    Wav2Vec2ForSequenceClassification(config).save_pretrained(tmp_path)
    model = loading.load_model(str(tmp_path))
    data = to_onnx(model, 4000, 18)
    small = to_int8(data)
    assert len(small) < 0.5 * len(data)
    full, quick = onnx_runner(data), onnx_runner(small)
    for sample in tone_windows().samples:
        assert np.abs(full(sample[None]) - quick(sample[None])).max() < 0.02


def cut_of(model: Any) -> list[int]:
    """Name two layers of three to keep, or all where none can go."""
    return list(fixed_layers_of(model.config)) if len(fixed_layers_of(model.config)) > 1 else [0, 2]


def test_int8_keeps_the_convolutions_and_the_front_end_in_float(family_folder: Path) -> None:
    """Of a cut model at the oldest opset, which answers as torch does before it is quantized."""
    import onnx

    model = loading.load_model(str(family_folder))
    keep_layers(model, cut_of(model))
    sounds = heard_by(model, 2)
    with torch.inference_mode():
        expected = torch.softmax(loading.logits_of(model, sounds), dim=-1).numpy()
    data = to_onnx(model, sounds.shape[1], 17)
    run = onnx_runner(data)
    for sample, scores in zip(sounds.numpy(), expected, strict=True):
        np.testing.assert_allclose(run(sample[None])[0], scores, rtol=0, atol=1e-4)
    scopes = family_of(model.config.model_type).float_scopes
    small = to_int8(data, scopes)
    graph = onnx.load_from_string(small).graph
    kinds = [node.op_type for node in graph.node]
    assert "ConvInteger" not in kinds
    assert "MatMulInteger" in kinds or "DynamicQuantizeMatMul" in kinds
    integer = [node.name for node in graph.node if "Integer" in node.op_type]
    assert not [name for name in integer if any(f"/{scope}/" in name for scope in scopes)]
    onnxruntime.InferenceSession(small, providers=["CPUExecutionProvider"])


def test_products_are_integers_but_for_those_of_the_scopes() -> None:
    data = two_products()
    plain, kept = to_int8(data), to_int8(data, float_scopes=("first",))
    rows = to_int8(data, row_scopes=("encoder",))
    assert not {FIRST, SECOND} & set(operators(plain).get("MatMul", []))
    assert operators(kept)["MatMul"] == [FIRST]
    assert kinds_of(kept)["w0"] == TensorProto.FLOAT
    for small in (plain, kept, rows):
        run = onnx_runner(small)
        found = np.concatenate([run(clip[None]) for clip in sounds()])
        expected = answers_by_hand(sounds())
        assert np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def test_the_quantizers_advice_is_silenced_while_it_works_and_no_longer(
    caplog: pytest.LogCaptureFixture,
) -> None:
    logger = logging.getLogger("onnxruntime.quantization")
    with no_advice():
        logger.warning("Please consider pre-processing before quantization.")
        logger.error("It is broken.")
    logger.warning("heard again")
    assert [record.message for record in caplog.records] == ["It is broken.", "heard again"]
    with pytest.raises(ValueError, match="no"), no_advice():
        raise ValueError("no")
    assert logging.root.manager.disable == logging.NOTSET
