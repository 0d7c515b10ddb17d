"""Light front ends: log-mel, MFCC or narrower convolutions in place of a waveform encoder."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from types import SimpleNamespace

from torch import Tensor, nn
from torch.nn import functional

from edgeprune.nn.blocks import ConvBlock
from edgeprune.nn.fast_log_mel import HIGH_HZ, LOW_HZ, LightMel
from edgeprune.nn.split_point import Seam
from edgeprune.nn.stems import SpectrumStem


class LightFeatures(nn.Module):
    """Spectrum-based replacement of a waveform encoder.

    Parameters
    ----------
    front_end : str
        ``log-mel`` or ``mfcc``.
    sample_rate : int
        Sample rate in Hz.
    reach, step : int
        Receptive field of one frame of the encoder, and its hop, in samples.
    channels : int
        Output channels of the encoder.
    width, layers, kernel, stem_channels, mels : int
        Shape of the replacement, see ``blocks.ConvBlock`` and ``stems.SpectrumStem``.

    """

    def __init__(
        self, front_end: str, sample_rate: int, reach: int, step: int, channels: int,
        width: int = 128, layers: int = 2, kernel: int = 9, stem_channels: int = 16,
        mels: int = 40,
    ) -> None:  # fmt: skip
        super().__init__()
        shape = SimpleNamespace(
            front_end=front_end, sampling_rate=sample_rate, frame_length=reach, frame_step=step,
            num_mel_bins=mels, num_mfcc=min(20, mels), low_hz=LOW_HZ, high_hz=HIGH_HZ,
            stem_channels=stem_channels, hidden_size=width, mask_time_count=0, mask_time_length=0,
            mask_feature_count=0, mask_feature_length=0,
        )  # fmt: skip
        self.stem = SpectrumStem(shape)
        self.blocks = nn.ModuleList(ConvBlock(width, 2 * width, kernel) for _ in range(layers))
        self.out = nn.Linear(width, channels)

    def forward(self, input_values: Tensor) -> Tensor:
        """Map samples (batch, n) to features (batch, channels, frames)."""
        frames = self.stem(input_values)
        for block in self.blocks:
            frames = block(frames)
        features: Tensor = self.out(frames).transpose(1, 2)
        return features


class NarrowFeatures(nn.Module):
    """Waveform encoder with fewer channels and batch norms, which are folded in on export."""

    def __init__(
        self, kernels: Sequence[int], strides: Sequence[int], width: int, channels: int
    ) -> None:
        super().__init__()
        widths = [1, *[width] * (len(kernels) - 1), channels]
        self.convs = nn.ModuleList(
            nn.Conv1d(widths[i], widths[i + 1], kernels[i], strides[i], bias=False)
            for i in range(len(kernels))
        )
        self.norms = nn.ModuleList(nn.BatchNorm1d(n) for n in widths[1:])
        self.seam = Seam(prod(strides), axis=2)

    def forward(self, input_values: Tensor) -> Tensor:
        """Map samples (batch, n) to features (batch, channels, frames)."""
        hidden = input_values[:, None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            hidden = functional.gelu(norm(conv(hidden)))
        out: Tensor = self.seam(hidden)
        return out


class LightFrontend(nn.Module):
    """Replacement of KWT's front end: log-mel spectra, and cepstra by one linear layer."""

    def __init__(
        self, sample_rate: int, reach: int, step: int, cepstra: int, mels: int = 40
    ) -> None:
        super().__init__()
        self.spectrum = LightMel(sample_rate, reach, step, mels)
        self.norm = nn.BatchNorm1d(mels)
        self.out = nn.Linear(mels, cepstra)

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, n) to (batch, frames, cepstra)."""
        bands = self.norm(self.spectrum(samples).transpose(1, 2)).transpose(1, 2)
        cepstra: Tensor = self.out(bands)
        return cepstra
