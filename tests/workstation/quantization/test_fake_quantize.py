"""A model that rounds in torch as its int8 file does."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import enliven, make_model
from tiny_recordings import TONES, tone
from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

from edgeprune.export.onnx import Scorer, onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.quantization.dynamic_onnx import to_int8
from edgeprune.quantization.fake_quantize import (
    fake_int8,
    layers_in,
    round_rows,
    round_weight,
    round_window,
)
from edgeprune_device.errors import EdgepruneError

SAMPLES = 4060
ROUNDED = (
    *(f"wav2vec2.feature_extractor.conv_layers.{i}" for i in (1, 2, 3)),
    "wav2vec2.feature_projection", "wav2vec2.encoder.layers", "projector", "classifier",
)  # fmt: skip
"""What the ONNX file has in int8: the first and the positional convolution stay in float."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Give a model with all shapes of convolutions: kernels as long as the stride, and longer."""
    config = Wav2Vec2Config(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        conv_dim=(16, 16, 16, 16), conv_stride=(5, 4, 2, 2), conv_kernel=(10, 4, 3, 5),
        num_feat_extract_layers=4, num_conv_pos_embeddings=14, num_conv_pos_embedding_groups=4,
        classifier_proj_size=32, num_labels=3, layerdrop=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    made = Wav2Vec2ForSequenceClassification(config)
    enliven(made)
    folder = tmp_path_factory.mktemp("model")
    made.save_pretrained(folder)
    return loading.load_model(str(folder))


def sounds() -> torch.Tensor:
    pitches = [*TONES.values()] * 3
    quiet = np.linspace(0.02, 1, SAMPLES, dtype=np.float32)  # frames of many levels
    made = [tone(p, SAMPLES / 16000, i) * quiet for i, p in enumerate(pitches)]
    return torch.from_numpy(np.stack(made))


def scores(model: Any) -> Any:
    with torch.inference_mode():
        return Scorer(model)(sounds()).numpy()


@pytest.mark.parametrize("activations", ["rows", "window"])
def test_it_answers_as_the_int8_file_does(model: Any, activations: str) -> None:
    family = family_of("wav2vec2")
    rows = family.row_scopes if activations == "rows" else ()
    run = onnx_runner(to_int8(to_onnx(model, SAMPLES, 18), family.float_scopes, rows))
    deployed = np.concatenate([run(x[None].numpy()) for x in sounds()])
    whole = scores(model)
    convs, rest = ROUNDED[:3], ROUNDED[3:]
    with fake_int8(model, convs, activations), fake_int8(model, rest, "window"):
        fake = scores(model)
    apart = np.abs(deployed - fake).max(axis=1)
    assert np.abs(deployed - whole).max(axis=1).min() > 1e-4  # int8 costs something: it is imitated
    assert (apart < 1e-6).sum() >= 3  # the same, rounding for rounding
    assert apart.max() < 5e-3  # where float sums in another order tip a rounding over
    assert (deployed.argmax(axis=1) == fake.argmax(axis=1)).all()


def test_a_window_is_rounded_by_itself_whatever_is_in_its_batch(model: Any) -> None:
    with fake_int8(model, [""], "window"), torch.inference_mode():
        together = loading.logits_of(model, sounds()[:3])
        alone = torch.cat([loading.logits_of(model, x[None]) for x in sounds()[:3]])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-3)


def test_gradients_pass_the_rounding_as_if_it_were_not_there() -> None:
    linear = torch.nn.Linear(6, 4)
    layer = torch.nn.Sequential(linear)
    given = torch.randn(2, 5, 6, requires_grad=True)
    for activations in ("rows", "window"):
        given.grad = linear.weight.grad = None
        with fake_int8(layer, ["0"], activations):
            torch.autograd.backward(layer(given).sum())
        heard = round_rows(given) if activations == "rows" else round_window(given)
        ones = torch.ones(2, 5, 4)
        torch.testing.assert_close(given.grad, ones @ round_weight(linear.weight.detach()))
        expected = torch.einsum("bro,bri->oi", ones, heard.detach())
        torch.testing.assert_close(linear.weight.grad, expected)


def test_every_weight_of_a_model_in_fake_int8_can_learn(model: Any) -> None:
    trained = copy.deepcopy(model).train()
    trained.requires_grad_(True)
    with fake_int8(trained, [""]):
        torch.autograd.backward(loading.logits_of(trained, sounds()).logsumexp(dim=1).sum())
    for name in layers_in(trained, ["wav2vec2.encoder.layers", "wav2vec2.feature_extractor"]):
        if "k_proj" not in name:  # its gradient can be next to nothing
            assert trained.get_submodule(name).weight.grad.abs().max() > 0, name


@pytest.mark.parametrize("fails", [False, True])
def test_on_the_way_out_nothing_is_left(model: Any, fails: bool) -> None:
    names, before = list(model.state_dict()), scores(model)
    try:
        with fake_int8(model, [""], bits=4):
            assert list(model.state_dict()) == names
            assert np.abs(scores(model) - before).max() > 1e-3
            if fails:
                raise KeyError("anything")
    except KeyError:
        assert fails
    assert list(model.state_dict()) == names
    assert not any("forward" in part.__dict__ for part in model.modules())
    np.testing.assert_array_equal(scores(model), before)


def test_a_copy_made_inside_computes_with_its_own_weights(model: Any) -> None:
    with fake_int8(model, ["classifier"]):
        other = copy.deepcopy(model)
        with torch.no_grad():
            other.classifier.weight.zero_()
            other.classifier.bias.copy_(torch.tensor([5.0, 0.0, 0.0]))
        assert (scores(other).argmax(axis=1) == 0).all()


def test_weights_have_a_scale_for_each_channel_and_as_many_steps_as_bits_allow() -> None:
    weight = torch.tensor([[1.0, 0.5, -1.0], [100.0, 0.3, 0.0], [0.0, 0.0, 0.0]])
    expected = torch.tensor([[127, 64, -127], [127, 0, 0], [0, 0, 0]])
    scale = torch.tensor([[1 / 127], [100 / 127], [1.0]])
    torch.testing.assert_close(round_weight(weight), expected * scale)
    four = round_weight(torch.linspace(-1, 1, 1000)[None], bits=4)
    assert len(set(four[0].tolist())) == 15


def test_the_frames_of_a_convolutions_block_share_a_scale() -> None:
    conv = torch.nn.Conv1d(1, 1, 2, stride=2, bias=False)
    conv.weight.data.fill_(1.0)
    frames = torch.tensor([[[1.0, 0.001, 0.001, 0.002, 3.0]]])
    with fake_int8(conv, [""]), torch.no_grad():
        loud, quiet = conv(frames)[0, 0].tolist()
    assert loud == 1.0  # its quiet half is drowned
    assert quiet == pytest.approx(0.003, rel=0.01)


def test_a_window_of_zeros_stays_zeros() -> None:
    assert not round_window(torch.zeros(1, 4, 3)).any()
    assert not round_rows(torch.zeros(1, 4, 3)).any()


@pytest.mark.parametrize(
    ("modules", "activations", "bits", "said"),
    [
        (["nowhere"], "rows", 8, "no linear layer or convolution over time at 'nowhere'"),
        ([""], "columns", 8, "activations = 'columns' is not known"),
        ([""], "rows", 1, "bits = 1 is out of range"),
    ],
)
def test_what_cannot_be_rounded_is_refused(
    model: Any, modules: list[str], activations: str, bits: int, said: str
) -> None:
    with pytest.raises(EdgepruneError, match=said), fake_int8(model, modules, activations, bits):
        pass


def test_attention_that_never_calls_its_layers_is_refused(tmp_path: Path) -> None:
    wavlm = loading.load_model(str(make_model(tmp_path / "m", "wavlm", tuple(TONES))))
    with pytest.raises(EdgepruneError, match="never calls its layer"), fake_int8(wavlm, [""]):
        pass
