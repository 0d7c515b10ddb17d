"""TFLite files in fewer bits, by ai-edge-quantizer: which products, how well, how quietly."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeprune.export.tflite import convert, tflite_runner
from edgeprune.quantization import tflite
from edgeprune.quantization.methods import METHODS
from edgeprune.quantization.module_scopes import Scopes
from edgeprune.quantization.tflite import Clips
from edgeprune_device.errors import EdgepruneError


class Net(nn.Module):
    """Two products whose names a pattern can tell apart."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 96), nn.Linear(96, 64)

    def forward(self, samples: Tensor) -> dict[str, Tensor]:
        return {"scores": torch.tanh(self.second(torch.relu(self.first(samples))))}


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def data(net: Net) -> bytes:
    return convert(net, {"samples": torch.zeros(1, 64)})


def sounds(count: int = 20) -> Clips:
    return np.random.default_rng(0).uniform(-1, 1, (count, 64)).astype(np.float32)


def kinds_of(data: bytes) -> dict[str, str]:
    """Return the element type of each layer's matrix."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.TensorType).items() if name.isupper()}
    found = {}
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for tensor in model.subgraphs[0].tensors:
        stored = model.buffers[tensor.buffer]
        there = (stored.data is not None and len(stored.data)) or stored.size
        if there and tensor.shape is not None and sorted(tensor.shape) == [64, 96]:
            layer = "first" if b"_first" in tensor.name else "second"
            found[layer] = names[tensor.type]
    return found


BOTH = {
    "none": ("FLOAT32", 0.0), "dynamic": ("INT8", 0.6), "weights": ("INT8", 0.6),
    "weights4": ("INT4", 0.75), "half": ("FLOAT16", 0.4), "static": ("INT8", 0.6),
}  # fmt: skip


@pytest.mark.parametrize("name", BOTH)
def test_both_matrices_are_stored_in_fewer_bits_and_answer_nearly_alike(
    name: str, net: Net, data: bytes
) -> None:
    kind, saved = BOTH[name]
    small = METHODS["tflite"][name](data, Scopes(), sounds())
    assert kinds_of(small) == {"first": kind, "second": kind}
    assert len(small) <= (1 - saved) * len(data)
    run = tflite_runner(small)
    with torch.inference_mode():
        expected = net(torch.from_numpy(sounds()))["scores"].numpy()
    found = np.concatenate([run(clip[None]) for clip in sounds()])
    most = {"none": 1e-6, "half": 2e-3, "weights4": 0.2}.get(name, 0.03)
    assert np.abs(found - expected).max() < most * np.abs(expected).max()


@pytest.mark.parametrize("name", ["dynamic", "weights", "weights4", "half", "static"])
def test_a_product_of_a_float_scope_stays_as_it_is(name: str, data: bytes) -> None:
    small = METHODS["tflite"][name](data, Scopes(float_scopes=("first",)), sounds())
    assert kinds_of(small) == {"first": "FLOAT32", "second": BOTH[name][0]}


def test_what_products_read_and_make_is_yielded_clip_by_clip(net: Net, data: bytes) -> None:
    clips = sounds(3)
    found = list(tflite.heard(data, clips))
    with torch.inference_mode():
        wide = torch.relu(net.first(torch.from_numpy(clips)))
        scores = net.second(wide).numpy()
    for clip, values, first, last in zip(clips, found, wide.numpy(), scores, strict=True):
        by_end = sorted(values.items(), key=lambda item: "samples" not in item[0])
        np.testing.assert_array_equal(by_end[0][1][0], clip)
        for expected in (first, last):
            assert any(
                value.shape[-1] == len(expected) and np.allclose(value[0], expected, atol=1e-5)
                for value in values.values()
            )


def test_frames_of_a_row_scope_have_scales_of_their_own_where_the_rest_has_fixed_ranges(
    data: bytes,
) -> None:
    """Calibrated on quiet sound, a fixed range cuts loud sound off; a scale of its own does not."""
    loud, quiet = sounds(), 0.05 * sounds()
    float_ = np.concatenate([tflite_runner(data)(clip[None]) for clip in loud])
    lost = []
    for scopes in (Scopes(), Scopes(row_scopes=("first", "second"))):
        run = tflite_runner(METHODS["tflite"]["static"](data, scopes, quiet))
        lost.append(float(np.abs(np.concatenate([run(c[None]) for c in loud]) - float_).max()))
    assert lost[0] > 0.5 * np.abs(float_).max()
    assert lost[1] < 0.03 * np.abs(float_).max()


@pytest.mark.parametrize("name", ["dynamic", "weights", "half", "static"])
def test_the_terminal_is_spared_what_the_quantizer_prints(
    name: str, data: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    METHODS["tflite"][name](data, Scopes(), sounds())
    assert capfd.readouterr() == ("", "")


def test_static_refuses_clips_of_no_use(data: bytes) -> None:
    with pytest.raises(EdgepruneError, match="silent"):
        METHODS["tflite"]["static"](data, Scopes(), 0 * sounds())
    with pytest.raises(EdgepruneError, match="the model's window 64"):
        METHODS["tflite"]["static"](data, Scopes(), sounds()[:, :-1])


def test_a_missing_quantizer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer.qtyping", None)
    with pytest.raises(EdgepruneError, match="ai-edge-quantizer") as error:
        METHODS["tflite"]["dynamic"](b"", Scopes(), np.zeros((0, 1), np.float32))
    assert error.value.status == 3
    assert "edgeprune[tflite]" in error.value.hint


def test_ranges_that_are_none_are_named_before_the_file_is_opened() -> None:
    with pytest.raises(EdgepruneError, match=r"quantize\.calibrate = 'max' is not known"):
        tflite.static(b"", Scopes(), sounds(), "max")
