"""Stems of students: samples to frames, by spectra in the graph or by convolutions.

``log-mel``, ``mfcc``   spectra (``fast_log_mel.LightMel``), two small convolutions over frequency
                        and time
``waveform``            learned filters, logarithm of their energy, a strided convolution
``cnn``                 the two convolutions of the bird-song poster, with pooling
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeprune.nn.fast_log_mel import LightMel
from edgeprune.nn.kwt import spec_mask
from edgeprune.nn.split_point import Seam

CNN_CHANNELS, CNN_KERNEL, CNN_POOL = (16, 32), 3, 5


class SpectrumStem(nn.Module):
    """Normalized log-mel spectra or cepstra, masked in training, mapped to frames.

    With ``stem_channels``, two convolutions over frequency and time halve the bands twice before
    the frames are formed, so that a small change of pitch is a shift instead of another pattern.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config
        cepstra = config.num_mfcc if config.front_end == "mfcc" else 0
        self.spectrum = LightMel(
            config.sampling_rate, config.frame_length, config.frame_step, config.num_mel_bins,
            cepstra, config.low_hz, config.high_hz,
        )  # fmt: skip
        bands, channels = self.spectrum.width, config.stem_channels
        self.norm = nn.BatchNorm1d(bands)
        if channels:
            self.first = nn.Conv2d(1, channels, 3, stride=(2, 1), padding=1, bias=False)
            self.norm_first = nn.BatchNorm2d(channels)
            self.second = nn.Conv2d(
                channels, channels, 3, stride=(2, 1), padding=1, groups=channels, bias=False
            )
            self.norm_second = nn.BatchNorm2d(channels)
            self.mix = nn.Conv2d(channels, 2 * channels, 1, bias=False)
            self.norm_mix = nn.BatchNorm2d(2 * channels)
            bands = 2 * channels * (((bands + 1) // 2 + 1) // 2)
        self.project = nn.Conv2d(bands, config.hidden_size, 1, bias=False)
        self.norm_out = nn.BatchNorm2d(config.hidden_size)

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, n) to (batch, frames, hidden)."""
        seen = self.norm(self.spectrum(samples).transpose(1, 2))
        if self.training:
            shape = (seen.shape[0], seen.shape[2], seen.shape[1])
            keep = spec_mask(shape, self.config, self.config.mask_time_length)
            seen = seen * keep.transpose(1, 2).to(seen.device)
        if self.config.stem_channels:
            wide = functional.relu(self.norm_first(self.first(seen[:, None])))
            wide = self.norm_second(self.second(wide))
            seen = functional.relu(self.norm_mix(self.mix(wide))).flatten(1, 2)
        out = functional.relu(self.norm_out(self.project(seen[:, :, None])))
        return out[:, :, 0].transpose(1, 2)


class WaveformStem(nn.Module):
    """Learned filters over the samples and a strided convolution over their frames.

    The filters come in pairs with a hop of half a frame step; the logarithm of each pair's energy
    is a band, as in Zeghidour et al. 2018 (arXiv 1711.01161, TD-filterbanks). The second
    convolution has a kernel of three of these frames and a stride of two.
    """

    def __init__(self, config: Any) -> None:
        super().__init__()
        size, bands = config.hidden_size, config.num_mel_bins
        if config.frame_step % 2:
            raise ValueError(f"a waveform stem needs an even frame_step, not {config.frame_step}")
        self.filters = nn.Conv1d(
            1, 2 * bands, config.frame_length, stride=config.frame_step // 2, bias=False
        )
        self.seam = Seam(config.frame_step // 2, axis=2)
        self.norm_filters = nn.BatchNorm1d(bands)
        self.mix = nn.Conv1d(bands, size, 3, stride=2, padding=1, bias=False)
        self.norm_mix = nn.BatchNorm1d(size)

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, n) to (batch, frames, hidden)."""
        real, imaginary = self.filters(samples[:, None]).chunk(2, dim=1)
        energy = self.seam(torch.log(real * real + imaginary * imaginary + 1e-5))
        out = functional.relu(self.norm_mix(self.mix(self.norm_filters(energy))))
        return out.transpose(1, 2)


def cnn_frames(samples: int) -> int:
    """Return the number of frames that the CNN makes of ``samples`` samples."""
    for _ in CNN_CHANNELS:
        samples = (samples - CNN_KERNEL + 1) // CNN_POOL
    return samples


class CnnStem(nn.Module):
    """The two convolutions of the bird-song poster: 1-16-32 channels, kernel 3, pooling 5."""

    def __init__(self, config: Any) -> None:
        super().__init__()
        if config.hidden_size != CNN_CHANNELS[1]:
            raise ValueError(
                f"hidden_size must be {CNN_CHANNELS[1]} for cnn, not {config.hidden_size}"
            )
        self.first = nn.Conv1d(1, CNN_CHANNELS[0], CNN_KERNEL)
        self.second = nn.Conv1d(CNN_CHANNELS[0], CNN_CHANNELS[1], CNN_KERNEL)
        self.seam = Seam(CNN_POOL ** len(CNN_CHANNELS), axis=2)

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, n) to (batch, frames, 32)."""
        wide = functional.max_pool1d(functional.relu(self.first(samples[:, None])), CNN_POOL)
        out = functional.max_pool1d(functional.relu(self.second(wide)), CNN_POOL)
        frames: Tensor = self.seam(out).transpose(1, 2)
        return frames


STEMS = {
    "log-mel": SpectrumStem, "mfcc": SpectrumStem, "waveform": WaveformStem, "cnn": CnnStem,
}  # fmt: skip
