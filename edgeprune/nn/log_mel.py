"""Spectrogram front ends as part of the model: raw samples in, a family's log-mel features out.

Families that were trained on spectrograms come with a feature extractor in numpy. Here the same
features are one strided convolution and one matrix product in torch, so that training, the
exported graph and the recorder share them. Offset removal, pre-emphasis, window and Fourier
transform are linear: they are multiplied out into the convolution's kernel (a row for each bin
that a mel filter reads)::

    samples (batch, n) -- fill -- reflect -- kernel --> spectrum -- square --> power
        -- mel --> log -- ending --> what the family's model takes

``spectrogram_kinds.py`` has a row for each kind. The matrices are made of the spec and are no parameters:
they are neither trained nor counted nor saved.
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
WHISPER_RANGE = 8.0  # powers of ten under the loudest that Whisper hears


def mel_matrix(spec: SpectrogramSpec) -> NDArray[np.float64]:
    """Return the mel filters (bins, mels), as transformers makes them."""
    from transformers.audio_utils import mel_filter_bank

    with warnings.catch_warnings():  # AST's lowest filters fall between two bins: its checkpoints
        warnings.simplefilter("ignore")  # were trained so
        return np.asarray(mel_filter_bank(
            spec.fft // 2 + 1, spec.mels, spec.lowest, spec.highest, spec.sampling_rate,
            norm="slaney" if spec.slaney_norm else None, mel_scale=spec.mel_scale,
            triangularize_in_mel_space=spec.mel_scale == "kaldi",
        ), dtype=np.float64)  # fmt: skip


def fourier_kernel(spec: SpectrogramSpec, bins: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return what one frame's samples are multiplied by, all linear steps in one.

    Parameters
    ----------
    spec : Recipe
    bins : array (n,)
        Which bins of the Fourier transform.

    Returns
    -------
    array (2 n, frame)
        The real parts' rows, then the imaginary parts'.

    """
    from transformers.audio_utils import window_function

    size = spec.frame
    steps = np.eye(size)
    if not spec.offset:
        steps -= 1.0 / size
    if spec.preemphasis:
        before = np.eye(size, k=-1)
        before[0, 0] = 1.0  # the first sample stands before itself
        steps = steps - spec.preemphasis * before @ steps
    steps = steps * window_function(size, spec.window, spec.periodic)[:, None] * spec.scale
    turns = 2.0 * np.pi * np.outer(bins, np.arange(size)) / spec.fft
    return np.concatenate([np.cos(turns) @ steps, -np.sin(turns) @ steps])


class LogMel(nn.Module):
    """A front end: samples (batch, n) to what its family's model takes.

    Parameters
    ----------
    spec : Recipe
    room : int
        ``scaled``: frames the model takes; missing ones are zeros. ``clamped`` and ``image``:
        samples it takes; missing ones are zeros, or (CLAP) the sound again as often as it fits,
        then zeros. 0: as many as there are.

    """

    kernel: Tensor
    mel: Tensor

    def __init__(self, spec: SpectrogramSpec, room: int = 0) -> None:
        super().__init__()
        self.specification, self.room = spec, room
        self.seam = Seam(spec.hop)
        mel = mel_matrix(spec)
        used = np.flatnonzero(mel.any(axis=1))
        bins = np.arange(used[0], used[-1] + 1)
        kernel = torch.from_numpy(fourier_kernel(spec, bins)[:, None]).float()
        self.register_buffer("kernel", kernel, persistent=False)
        self.register_buffer("mel", torch.from_numpy(mel[bins]).float(), persistent=False)

    def forward(self, samples: Tensor) -> Tensor:
        """Turn samples (batch, n) in [-1, 1] into features.

        Returns
        -------
        Tensor
            ``scaled`` (batch, frames, mels); ``clamped`` (batch, mels, frames); ``stacked``
            (batch, frames / stride, mels * stride); ``image`` (batch, 1, frames, mels).

        Raises
        ------
        EdgepruneError
            The window is too short for a frame, or longer than the model takes.

        """
        spec = self.specification
        sound = _filled(samples, self.room, spec)
        check_length(sound.shape[-1], spec)
        if spec.centred:
            half = spec.fft // 2
            sound = nn.functional.pad(sound, (half, half), mode="reflect")
        spectrum = nn.functional.conv1d(sound[:, None], self.kernel, stride=spec.hop)
        real, imaginary = spectrum.chunk(2, dim=1)
        power = (real * real + imaginary * imaginary).transpose(1, 2)
        logs = _LOGS[spec.log](torch.clamp_min(power @ self.mel, spec.floor))
        return ENDINGS[spec.ending](self.seam(logs), spec, self.room)


def check_length(samples: int, spec: SpectrogramSpec) -> None:
    """Raise if a window has not enough samples for these features."""
    least = least_samples(spec)
    if samples < least:
        raise EdgepruneError(
            f"A window of {samples / spec.sampling_rate:.3g} s is too short for this model's "
            f"spectrogram; {least / spec.sampling_rate:.3g} s is the least.",
            "Choose longer windows with --window.",
        )


def least_samples(spec: SpectrogramSpec) -> int:
    """Return how many samples the shortest window has."""
    if spec.centred:
        return spec.fft // 2 + 1  # what is reflected at an edge
    return spec.frame + (spec.stride - 1) * spec.hop


def frames_in(samples: int, spec: SpectrogramSpec) -> int:
    """Return how many frames the feature extractor makes of so many samples."""
    if spec.ending == "clamped":
        return math.ceil(samples / (2 * spec.hop)) * 2
    if spec.centred:
        return samples // spec.hop + 1
    return (1 + (samples - spec.frame) // spec.hop) // spec.stride


def _filled(samples: Tensor, room: int, spec: SpectrogramSpec) -> Tensor:
    """Fill a window up to the samples that the model takes."""
    length = samples.shape[-1]
    if not room or spec.ending == "scaled":
        return samples
    if length > room:
        raise EdgepruneError(
            f"This model takes windows of at most {room / spec.sampling_rate:g} s, not "
            f"{length / spec.sampling_rate:g} s.",
            "Choose shorter windows with --window.",
        )
    if spec.kind == "clap":
        samples = torch.cat([samples] * (room // length), dim=-1)
    return nn.functional.pad(samples, (0, room - samples.shape[-1]))


def _scaled(logs: Tensor, spec: SpectrogramSpec, room: int) -> Tensor:
    """AST: missing frames are zeros before the mean is taken off (Gong et al. 2021)."""
    if room:
        logs = nn.functional.pad(logs, (0, 0, 0, max(0, room - logs.shape[1])))[:, :room]
    return (logs - spec.mean) / (2.0 * spec.std)


def _clamped(logs: Tensor, _: SpectrogramSpec, __: int) -> Tensor:
    """Whisper: eight powers of ten under the window's loudest (Radford et al. 2022)."""
    logs = logs[:, :-1]
    loudest = logs.amax(dim=(1, 2), keepdim=True)
    return ((torch.maximum(logs, loudest - WHISPER_RANGE) + 4.0) / 4.0).transpose(1, 2)


def _stacked(logs: Tensor, spec: SpectrogramSpec, _: int) -> Tensor:
    """wav2vec2-BERT: every filter to zero mean and unit variance, then neighbours side by side.

    An odd frame at the end is left out; the extractor fills it up and masks it.
    """
    frames = logs.shape[1]
    centred = logs - logs.mean(dim=1, keepdim=True)
    variance = (centred * centred).sum(dim=1, keepdim=True) / (frames - 1)
    normal = centred / torch.sqrt(variance + STANDARD_EPSILON)
    whole = frames // spec.stride
    pairs = normal[:, : whole * spec.stride]
    return pairs.reshape(-1, whole, spec.stride * spec.mels)


def _image(logs: Tensor, _: SpectrogramSpec, __: int) -> Tensor:
    """CLAP and PANNs: a picture of one channel."""
    return logs[:, None]


ENDINGS: dict[str, Callable[[Tensor, SpectrogramSpec, int], Tensor]] = {
    "scaled": _scaled, "clamped": _clamped, "stacked": _stacked, "image": _image,
}  # fmt: skip
_LOGS: dict[str, Callable[[Tensor], Tensor]] = {
    "ln": torch.log,
    "log10": lambda x: torch.log(x) * (1.0 / math.log(10.0)),
    "dB": lambda x: torch.log(x) * (10.0 / math.log(10.0)),
}
