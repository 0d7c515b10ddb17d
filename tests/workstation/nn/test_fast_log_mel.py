"""Light front ends: what numpy's Fourier transform says, in a graph that stores no matrix."""

from __future__ import annotations

import io

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.typing import NDArray

from edgeprune.nn.fast_log_mel import FLOOR, LightMel, mel_edges

RATE = 16000


def plain(
    samples: NDArray[np.float32], length: int, step: int, bands: int
) -> NDArray[np.float64]:  # fmt: skip
    """Log-mel spectra of one window by numpy's rfft and by triangles drawn point by point."""
    window = np.hanning(length + 1)[:-1]
    starts = range(0, len(samples) - length + 1, step)
    frames = np.stack([samples[s : s + length] for s in starts])
    power = np.abs(np.fft.rfft(frames * window) * 4 / length) ** 2
    hertz = np.fft.rfftfreq(length, 1 / RATE)
    edges = mel_edges(bands, 60.0, 7600.0)
    bank = np.stack([np.interp(hertz, edges[i : i + 3], [0, 1, 0]) for i in range(bands)])
    return np.asarray(np.log(power @ bank.T + FLOOR))


@pytest.fixture(scope="module")
def samples() -> torch.Tensor:
    return torch.randn(3, RATE, generator=torch.Generator().manual_seed(0)) * 0.2


@pytest.mark.parametrize(
    ("length", "step", "bands"), [(400, 320, 40), (512, 160, 24), (480, 321, 9)]
)
def test_spectra_equal_numpys(samples: torch.Tensor, length: int, step: int, bands: int) -> None:
    found = LightMel(RATE, length, step, bands)(samples).numpy()
    expected = np.stack([plain(x, length, step, bands) for x in samples.numpy()])
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-4)


def test_a_window_has_the_frames_a_convolution_would_have(samples: torch.Tensor) -> None:
    convolution = torch.nn.Conv1d(1, 1, 400, stride=320)
    assert LightMel(RATE, 400, 320, 20)(samples).shape[1] == convolution(samples[:, None]).shape[2]
    assert LightMel(RATE, 400, 320, 20)(samples[:, :400]).shape == (3, 1, 20)
    odd = torch.nn.Conv1d(1, 1, 325, stride=320)(samples[:, None, :15685])
    assert LightMel(RATE, 325, 320, 9)(samples[:, :15685]).shape[1] == odd.shape[2] == 49


def test_cepstra_are_scipys_cosine_transform_of_the_bands(samples: torch.Tensor) -> None:
    from scipy.fft import dct

    bands = LightMel(RATE, 400, 320, 40)(samples).numpy()
    found = LightMel(RATE, 400, 320, 40, cepstra=13)(samples).numpy()
    np.testing.assert_allclose(found, dct(bands, norm="ortho")[..., :13], rtol=0, atol=2e-4)


def test_a_sine_of_amplitude_one_has_about_power_one_in_its_band() -> None:
    time = torch.arange(RATE) / RATE
    loud = LightMel(RATE, 400, 320, 20)(torch.sin(2 * np.pi * 1000 * time)[None])
    assert abs(loud.max().item()) < 1.0  # within 4 dB: the triangles are not flat


def test_the_file_holds_no_matrix_and_answers_as_torch(samples: torch.Tensor) -> None:
    front = torch.nn.Sequential(LightMel(RATE, 400, 320, 40), torch.nn.Linear(40, 2)).eval()
    buffer = io.BytesIO()
    with pytest.warns():
        torch.onnx.export(front, (samples[:1],), buffer, opset_version=18, dynamo=False)  # type: ignore[arg-type]
    data = buffer.getvalue()
    assert len(data) < 20_000
    assert max(np.prod(x.dims) for x in onnx.load_from_string(data).graph.initializer) <= 400
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: samples[:1].numpy()})[0]
    with torch.inference_mode():
        np.testing.assert_allclose(found, front(samples[:1]).numpy(), rtol=0, atol=1e-4)


def test_mixed_precision_leaves_it_alone(samples: torch.Tensor) -> None:
    front = LightMel(RATE, 400, 320, 40, cepstra=13)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = front(samples)
    torch.testing.assert_close(found, front(samples), rtol=0, atol=0)


def test_nothing_of_it_is_trained() -> None:
    assert list(LightMel(RATE, 400, 320, 40).parameters()) == []


@pytest.mark.parametrize(
    ("options", "why"),
    [((1, 320, 40), "a front end of 0 samples, .* is not possible"),
     ((400, 320, 160), "mel band 2 of 160 contains no 40 Hz bin")],
)  # fmt: skip
def test_what_cannot_be_is_refused(options: tuple[int, int, int], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        LightMel(RATE, *options)
