"""Log-mel front ends of pretrained families as part of the model: raw samples in, features out.

Families trained on spectrograms come with a feature extractor in numpy. Here the same features are
one strided convolution and one matrix product in torch, so that training, the exported graph and
the recorder share them. Offset removal, pre-emphasis, window and Fourier transform are linear: they
are multiplied into the convolution's kernel (one row for each bin used by a mel filter)::

    samples (batch, n) -- fill -- reflect -- kernel --> spectrum -- square --> power
        -- mel --> log -- ending --> input of the family's model

``spectrogram_specs`` has one specification per kind. The matrices are computed from it and are no
parameters: they are neither trained nor counted nor saved.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from edgeprune.nn.spectrogram_specs import SpectrogramSpec
from edgeprune.nn.split_point import Seam
from edgeprune_device.errors import EdgepruneError

STANDARD_EPSILON = 1e-7  # transformers' SeamlessM4TFeatureExtractor
WHISPER_RANGE = 8.0  # dynamic range below the loudest value, in powers of ten


def mel_matrix(spec: SpectrogramSpec) -> NDArray[np.float64]:
    """Return the mel filters (bins, mels) that transformers computes."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():  # AST's lowest filters contain no bin, as in its training,
        warnings.simplefilter("ignore")  # and transformers warns about that
        return np.asarray(mel_filter_bank(
            spec.fft // 2 + 1, spec.mels, spec.lowest, spec.highest, spec.sampling_rate,
            norm="slaney" if spec.slaney_norm else None, mel_scale=spec.mel_scale,
            triangularize_in_mel_space=spec.mel_scale == "kaldi",
        ), dtype=np.float64)  # fmt: skip


def fourier_kernel(spec: SpectrogramSpec, bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the matrix by which the samples of one frame are multiplied: all linear steps in one.

    Parameters
    ----------
    spec : SpectrogramSpec
        Specification of the spectrogram.
    bins : array (n,)
        Bins of the Fourier transform.

    Returns
    -------
    array (2 n, frame)
        The rows of the real parts, then those of the imaginary parts.

    """
    from transformers.audio_utils import window_function

    size = spec.frame
    steps = np.eye(size)
    if not spec.offset:
        steps -= 1.0 / size
    if spec.preemphasis:
        before = np.eye(size, k=-1)
        before[0, 0] = 1.0  # the first sample is its own predecessor
        steps = steps - spec.preemphasis * before @ steps
    steps = steps * window_function(size, spec.window, spec.periodic)[:, None] * spec.scale
    turns = 2.0 * np.pi * np.outer(bins, np.arange(size)) / spec.fft
    return np.concatenate([np.cos(turns) @ steps, -np.sin(turns) @ steps])


class LogMel(nn.Module):
    """Front end of a family: samples (batch, n) to the input of the family's model.

    Parameters
    ----------
    spec : SpectrogramSpec
        Specification of the spectrogram.
    input_size : int
        Input size of the model. ``scaled``: in frames; missing ones are zeros. ``clamped`` and
        ``image``: in samples; missing ones are zeros, or (CLAP) the window repeated as often as it
        fits, then zeros. 0: the size of the window.

    """

    kernel: Tensor
    mel: Tensor

    def __init__(self, spec: SpectrogramSpec, input_size: int = 0) -> None:
        super().__init__()
        self.specification, self.input_size = spec, input_size
        self.seam = Seam(spec.hop)
        mel = mel_matrix(spec)
        used = np.flatnonzero(mel.any(axis=1))
        bins = np.arange(used[0], used[-1] + 1)
        kernel = torch.from_numpy(fourier_kernel(spec, bins)[:, None]).float()
        self.register_buffer("kernel", kernel, persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel[bins]).float(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, n) in [-1, 1] to features.

        Returns
        -------
        Tensor
            ``scaled`` (batch, frames, mels); ``clamped`` (batch, mels, frames); ``stacked``
            (batch, frames / stride, mels * stride); ``image`` (batch, 1, frames, mels).

        Raises
        ------
        EdgepruneError
            The window is shorter than a frame, or longer than the model's input.

        """
        spec = self.specification
        sound = _filled(samples, self.input_size, spec)
        check_length(sound.shape[-1], spec)
        if spec.centred:
            half = spec.fft // 2
            sound = nn.functional.pad(sound, (half, half), mode="reflect")
        spectrum = nn.functional.conv1d(sound[:, None], self.kernel, stride=spec.hop)
        real, imaginary = spectrum.chunk(2, dim=1)
        power = (real * real + imaginary * imaginary).transpose(1, 2)
        logs = _LOGS[spec.log](torch.clamp_min(power @ self.mel, spec.floor))
        return ENDINGS[spec.ending](self.seam(logs), spec, self.input_size)


def check_length(samples: int, spec: SpectrogramSpec) -> None:
    """Raise if a window has too few samples for these features."""
    least = least_samples(spec)
    if samples < least:
        raise EdgepruneError(
            f"A window of {samples / spec.sampling_rate:.3g} s is too short for this model's "
            f"spectrogram (at least {least / spec.sampling_rate:.3g} s).",
            "Choose longer windows with --window.",
        )


def least_samples(spec: SpectrogramSpec) -> int:
    """Return the number of samples of the shortest possible window."""
    if spec.centred:
        return spec.fft // 2 + 1  # the reflected padding at an edge
    return spec.frame + (spec.stride - 1) * spec.hop


def frames_in(samples: int, spec: SpectrogramSpec) -> int:
    """Return the number of frames that the feature extractor makes of ``samples`` samples."""
    if spec.ending == "clamped":
        return math.ceil(samples / (2 * spec.hop)) * 2
    if spec.centred:
        return samples // spec.hop + 1
    return (1 + (samples - spec.frame) // spec.hop) // spec.stride


def _filled(samples: Tensor, input_size: int, spec: SpectrogramSpec) -> Tensor:
    """Pad a window to the number of samples that the model takes."""
    length = samples.shape[-1]
    if not input_size or spec.ending == "scaled":
        return samples
    if length > input_size:
        raise EdgepruneError(
            f"This model takes windows of at most {input_size / spec.sampling_rate:g} s, not "
            f"{length / spec.sampling_rate:g} s.",
            "Choose shorter windows with --window.",
        )
    if spec.kind == "clap":
        samples = torch.cat([samples] * (input_size // length), dim=-1)
    return nn.functional.pad(samples, (0, input_size - samples.shape[-1]))


def _scaled(logs: Tensor, spec: SpectrogramSpec, input_size: int) -> Tensor:
    """AST: missing frames are zeros before normalization (Gong et al. 2021)."""
    if input_size:
        missing = max(0, input_size - logs.shape[1])
        logs = nn.functional.pad(logs, (0, 0, 0, missing))[:, :input_size]
    return (logs - spec.mean) / (2.0 * spec.std)


def _clamped(logs: Tensor, _: SpectrogramSpec, __: int) -> Tensor:
    """Whisper: clamped to eight powers of ten below the window's maximum (Radford et al. 2022)."""
    logs = logs[:, :-1]
    loudest = logs.amax(dim=(1, 2), keepdim=True)
    return ((torch.maximum(logs, loudest - WHISPER_RANGE) + 4.0) / 4.0).transpose(1, 2)


def _stacked(logs: Tensor, spec: SpectrogramSpec, _: int) -> Tensor:
    """wav2vec2-BERT: zero mean and unit variance per filter, then ``stride`` frames concatenated.

    An odd frame at the end is dropped; the feature extractor pads and masks it.
    """
    frames = logs.shape[1]
    centred = logs - logs.mean(dim=1, keepdim=True)
    variance = (centred * centred).sum(dim=1, keepdim=True) / (frames - 1)
    normal = centred / torch.sqrt(variance + STANDARD_EPSILON)
    whole = frames // spec.stride
    pairs = normal[:, : whole * spec.stride]
    return pairs.reshape(-1, whole, spec.stride * spec.mels)


def _image(logs: Tensor, _: SpectrogramSpec, __: int) -> Tensor:
    """CLAP and PANNs: an image with one channel."""
    return logs[:, None]


ENDINGS: dict[str, Callable[[Tensor, SpectrogramSpec, int], Tensor]] = {
    "scaled": _scaled, "clamped": _clamped, "stacked": _stacked, "image": _image,
}  # fmt: skip
_LOGS: dict[str, Callable[[Tensor], Tensor]] = {
    "ln": torch.log,
    "log10": lambda x: torch.log(x) * (1.0 / math.log(10.0)),
    "dB": lambda x: torch.log(x) * (10.0 / math.log(10.0)),
}
