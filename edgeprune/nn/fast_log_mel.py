"""Log-mel and MFCC front ends of students, inside the graph, by small matrix products.

Frames are folded: applied to x[n] + x[N - n] and x[n] - x[N - n], a cosine and a sine matrix with
half the rows give the whole Fourier transform of a frame, at half the cost.

Nothing large is stored. A cosine table is ``cos(2 pi n k / N)`` of two short vectors, a mel filter
the lower of two lines. The graph computes both from those vectors, and a runtime that folds
constants (as ONNX Runtime does when it loads a file) computes them once. A front end of 40 mel
bands takes about 4 kB of a file instead of the 330 kB of its matrices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from edgeprune.nn.split_point import Seam

FLOOR = 1e-7  # of a band's power; a sine of amplitude 1 has about 1, so this is -70 dB
LOW_HZ, HIGH_HZ = 60.0, 7600.0


def hertz_to_mel(hertz: float) -> float:
    """Return the mel value of a frequency (O'Shaughnessy 1987, as in HTK)."""
    return 2595.0 * math.log10(1.0 + hertz / 700.0)


def mel_to_hertz(mel: float) -> float:
    """Return the frequency in Hz of a mel value."""
    return 700.0 * (math.pow(10.0, mel / 2595.0) - 1.0)


def mel_edges(bands: int, low_hz: float, high_hz: float) -> list[float]:
    """Return the bands + 2 corner frequencies in Hz of the triangles, evenly spaced in mel."""
    low, high = hertz_to_mel(low_hz), hertz_to_mel(high_hz)
    return [mel_to_hertz(low + (high - low) * i / (bands + 1)) for i in range(bands + 2)]


class LightMel(nn.Module):
    """Log-mel spectra or cepstra of samples.

    Parameters
    ----------
    sample_rate : int
        Sample rate in Hz.
    frame_length : int
        Samples per frame, and length of the Fourier transform (periodic Hann window). If odd, the
        last sample is dropped.
    frame_step : int
        Samples from one frame to the next. A window of n samples has
        ``(n - frame_length) // frame_step + 1`` frames, as with a convolution.
    bands : int
        Mel bands (triangles of height 1).
    cepstra : int
        Coefficients of the cosine transform (DCT-II, orthonormal) of the bands; 0: the bands.
    low_hz, high_hz : float
        Lower edge of the first triangle and upper edge of the last one.

    Raises
    ------
    ValueError
        The frame is empty, the frequencies are no range, or a band is so narrow that no bin of the
        Fourier transform lies in it.

    """

    time: Tensor
    window: Tensor
    bins: Tensor
    hertz: Tensor
    rising: Tensor
    falling: Tensor

    def __init__(
        self, sample_rate: int, frame_length: int, frame_step: int, bands: int, cepstra: int = 0,
        low_hz: float = LOW_HZ, high_hz: float = HIGH_HZ,
    ) -> None:  # fmt: skip
        super().__init__()
        high_hz = min(high_hz, sample_rate / 2)
        reach, frame_length = frame_length, frame_length // 2 * 2
        if not frame_length or not 0 <= low_hz < high_hz or cepstra > bands:
            raise ValueError(
                f"a front end of {frame_length} samples, {low_hz} to {high_hz} Hz is not possible"
            )
        self.frame_length, self.frame_step, self.cepstra = frame_length, frame_step, cepstra
        self.reach = reach
        self.seam = Seam(frame_step)
        half, spacing = frame_length // 2, sample_rate / frame_length
        bins = [k for k in range(half + 1) if low_hz < k * spacing < high_hz]
        edges = mel_edges(bands, low_hz, high_hz)
        if empty := [i for i in range(bands) if not _inside(bins, spacing, edges[i], edges[i + 2])]:
            raise ValueError(f"mel band {empty[0]} of {bands} contains no {spacing:g} Hz bin")
        steps = torch.arange(1, half + 1, dtype=torch.float64)
        window = (0.5 - 0.5 * torch.cos(2 * math.pi * steps / frame_length)) * 4 / frame_length
        window[-1] /= 2  # the middle sample is its own mirror image and would count twice
        self.register_buffer("time", steps[:, None].float())
        self.register_buffer("window", window[:, None].float())
        self.register_buffer("bins", torch.tensor(bins, dtype=torch.float32)[None])
        hertz = torch.tensor([[k * spacing, 1.0] for k in bins])
        self.register_buffer("hertz", hertz)
        self.register_buffer("rising", _lines(edges[:-2], edges[1:-1]))
        self.register_buffer("falling", _lines(edges[2:], edges[1:-1]))
        if cepstra:
            places = (torch.arange(bands, dtype=torch.float32)[:, None] + 0.5) / (2 * bands)
            orders = torch.arange(cepstra, dtype=torch.float32)[None]
            scale = torch.full((1, cepstra), math.sqrt(2 / bands))
            scale[0, 0] = math.sqrt(1 / bands)
            self.register_buffer("places", places)
            self.register_buffer("orders", orders)
            self.register_buffer("scale", scale)

    @property
    def width(self) -> int:
        """Number of values per frame."""
        return self.cepstra or int(self.rising.shape[1])

    def frames(self, samples: Tensor) -> Tensor:
        """Split samples (batch, n) into frames (batch, frames, frame_length)."""
        length, step = self.frame_length, self.frame_step
        count = (samples.shape[1] - self.reach) // step + 1
        parts = -(-length // step)  # steps per frame, the last one partial
        spare = (count + parts - 1) * step - samples.shape[1]
        if spare > 0:
            samples = nn.functional.pad(samples, (0, spare))
        steps = samples[:, : (count + parts - 1) * step].reshape(len(samples), -1, step)
        pieces = [steps[:, i : i + count] for i in range(parts)]
        return torch.cat(pieces, dim=-1)[:, :, :length]

    def power(self, samples: Tensor) -> Tensor:
        """Return the power (batch, frames, bins) of the bins used by the filters."""
        frames, half = self.frames(samples), self.frame_length // 2
        start, mirrored = frames[:, :, 1 : half + 1], frames[:, :, half:].flip(-1)
        angle = _angle(self.time @ self.bins / self.frame_length)
        even = (start + mirrored) @ (torch.cos(angle) * self.window)
        odd = (start - mirrored) @ (torch.sin(angle) * self.window)
        return even * even + odd * odd

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, n) in [-1, 1] to (batch, frames, bands or cepstra).

        Always in full precision: half precision would lose quiet bands.
        """
        with torch.autocast(samples.device.type, enabled=False):
            logs: Tensor = self.seam(self._logs(samples.to(self.window.dtype)))
            return logs

    def _logs(self, samples: Tensor) -> Tensor:
        lower = torch.minimum(self.hertz @ self.rising, self.hertz @ self.falling)
        logs = torch.log(self.power(samples) @ torch.relu(lower) + FLOOR)
        if not self.cepstra:
            return logs
        turn: Tensor = torch.cos(_angle(self.get_buffer("places") @ self.get_buffer("orders")))
        return logs @ (turn * self.get_buffer("scale"))


def _angle(turns: Tensor) -> Tensor:
    """Return the angle of a number of turns; whole turns are removed while that is exact."""
    return (turns - torch.floor(turns)) * (2 * math.pi)


def _inside(bins: Sequence[int], spacing: float, low: float, high: float) -> bool:
    return any(low < k * spacing < high for k in bins)


def _lines(zeros: Sequence[float], ones: Sequence[float]) -> Tensor:
    """Return slope and offset (2, n) of the lines that are 0 at one frequency and 1 at another."""
    slopes = [1 / (one - zero) for zero, one in zip(zeros, ones, strict=True)]
    offsets = [-zero * slope for zero, slope in zip(zeros, slopes, strict=True)]
    return torch.tensor([slopes, offsets], dtype=torch.float32)
