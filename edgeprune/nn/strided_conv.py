"""A waveform encoder rewritten as matrix products, which runtimes execute and quantize well.

Computes the same values as wav2vec 2.0's convolutions (Baevski et al. 2020, section 2):

1. A convolution with stride s over frames is a linear layer over rows of s neighbouring frames
   (a reshape, no copy), plus one over the next row where the kernel is longer than the stride.
   int8 kernels of linear layers have one scale per row; those of convolutions have one scale for
   the whole window, so that loud frames determine the rounding error of quiet ones.
2. Group normalization over time after the first convolution needs every channel's mean and
   variance. Both follow from the covariance of the frames of samples (a 10 x 10 matrix), so the
   norm becomes a factor and an offset on the weights, without a pass over thousands of frames.
3. Only frames that the last layer uses are computed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeprune.nn.split_point import Seam
from edgeprune_device.errors import EdgepruneError


class StridedConv(nn.Module):
    """Convolution over time of frames (1, time, channels), as linear layers over rows of frames.

    Parameters
    ----------
    conv : nn.Conv1d
        Convolution without groups, dilation or padding.
    frames : int
        Number of output frames; ``frames_in`` is that of input frames.

    """

    def __init__(self, conv: nn.Conv1d, frames: int) -> None:
        super().__init__()
        kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.frames, self.channels = frames, conv.in_channels
        self.rows = frames + math.ceil(kernel / self.stride) - 1
        self.parts = nn.ModuleList()
        for start in range(0, kernel, self.stride):
            weight = conv.weight.detach()[:, :, start : start + self.stride]
            rows = weight.permute(0, 2, 1).reshape(conv.out_channels, -1)
            self.parts.append(_linear(rows, conv.bias if start == 0 else None))

    @property
    def frames_in(self) -> int:
        """Number of input frames: whole rows, so up to a stride more than the kernels cover."""
        return self.rows * self.stride

    def forward(self, frames: Tensor) -> Tensor:
        """Map (1, frames_in, channels) to (1, frames, out channels)."""
        rows = frames.reshape(1, self.rows, self.stride * self.channels)
        # the first part runs over one row too many: slicing its output is the smaller copy
        out = self._part(0, rows)[:, : self.frames]
        for number in range(1, len(self.parts)):
            out = out + self._part(number, rows[:, number : number + self.frames])
        return out

    def _part(self, number: int, rows: Tensor) -> Tensor:
        """Apply one linear layer to the rows it covers."""
        part: Any = self.parts[number]
        out: Tensor = part(
            rows if part.in_features == rows.shape[2] else rows[:, :, : part.in_features]
        )
        return out


class FirstConv(nn.Module):
    """The first convolution, over samples, and the group norm after it (one group per channel).

    Parameters
    ----------
    conv : nn.Conv1d
        Convolution with one input channel.
    norm : nn.GroupNorm or None
        Its norm, if any.
    total : int
        Frames of the whole window, over which the norm's statistics are computed.
    frames : int
        Number of output frames, from the first on.

    """

    basis: Tensor
    weight: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, conv: nn.Conv1d, norm: nn.GroupNorm | None, total: int, frames: int) -> None:
        super().__init__()
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.total, self.frames, self.normed = total, frames, norm is not None
        # In the cosine basis a window's covariance is nearly diagonal, so that the variance of a
        # channel with little energy is not a small difference of large numbers.
        turned = cosines(self.kernel) @ conv.weight.detach()[:, 0].double().T
        ones = torch.zeros(self.kernel + 1)
        ones[-1] = 1
        basis = functional.pad(cosines(self.kernel).float(), (0, 0, 0, 1))
        self.frame = _linear(basis, ones)  # and a column of ones, for the offset
        self.register_buffer("weight", turned.float().contiguous())
        bias = conv.bias.detach() if conv.bias is not None else torch.zeros(conv.out_channels)
        if norm is not None:
            self.epsilon = norm.eps
            self.register_buffer("scale", norm.weight.detach().clone())
            bias = norm.bias.detach()
        self.register_buffer("offset", bias.clone()[None])

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (1, window) to (1, frames, channels)."""
        count = math.ceil(self.kernel / self.stride)
        rows = max(self.total, self.frames)
        needed = (rows + count - 1) * self.stride
        short = needed - samples.shape[1]
        samples = functional.pad(samples, (0, short)) if short > 0 else samples[:, :needed]
        blocks = samples.reshape(1, rows + count - 1, self.stride)
        apart = [blocks[:, start : start + rows] for start in range(count)]
        frames = self.frame(torch.cat(apart, dim=-1)[:, :, : self.kernel])
        weight, offset = self.weight, self.offset
        if self.normed:
            heard = frames[:, : self.total, : self.kernel]
            mean = heard.mean(dim=1, keepdim=True)
            centred = heard - mean
            covariance = torch.matmul(centred.transpose(1, 2), centred)[0] / self.total
            variance = (weight * torch.matmul(covariance, weight)).sum(dim=0)
            weight = weight * (self.scale * torch.rsqrt(variance + self.epsilon))
            offset = offset - torch.matmul(mean[0], weight)
        return torch.matmul(frames[:, : self.frames], torch.cat([weight, offset]))


class WaveformEncoder(nn.Module):
    """The whole stack of convolutions, for windows of one length.

    Parameters
    ----------
    encoder : nn.Module
        Feature encoder of transformers for which ``fits`` is true.
    window_samples : int
        Samples per window.

    """

    def __init__(self, encoder: Any, window_samples: int) -> None:
        super().__init__()
        layers = list(encoder.conv_layers)
        lengths = frames_of([layer.conv for layer in layers], window_samples)
        frames = lengths[-1]
        convs: list[StridedConv] = []
        for layer in reversed(layers[1:]):
            convs.insert(0, StridedConv(layer.conv, frames))
            frames = convs[0].frames_in
        norms = [getattr(layer, "layer_norm", None) for layer in layers]
        grouped = isinstance(norms[0], nn.GroupNorm)
        self.first = FirstConv(layers[0].conv, norms[0] if grouped else None, lengths[0], frames)
        self.convs = nn.ModuleList(convs)
        self.norms = nn.ModuleList(
            nn.Identity() if norm is None or isinstance(norm, nn.GroupNorm) else norm
            for norm in norms
        )
        self.activation = layers[0].activation
        self.frames = lengths[-1]
        self.seam = Seam(math.prod(layer.conv.stride[0] for layer in layers))

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (1, window) to (1, channels, frames), as transformers' encoders do."""
        hidden = self.activation(self.norms[0](self.first(samples)))
        for conv, norm in zip(self.convs, list(self.norms)[1:], strict=True):
            hidden = self.activation(norm(conv(hidden)))
        out: Tensor = self.seam(hidden).transpose(1, 2)
        return out


def fits(encoder: Any) -> bool:
    """Return whether a feature encoder is a plain stack of convolutions that can be rewritten."""
    layers = list(getattr(encoder, "conv_layers", ()))
    convs = [getattr(layer, "conv", None) for layer in layers]
    norms = [getattr(layer, "layer_norm", None) for layer in layers]
    plain = all(
        type(conv) is nn.Conv1d and conv.groups == 1 and conv.dilation == (1,) and conv.padding == (0,)
        for conv in convs
    )  # fmt: skip
    grouped = [norm for norm in norms if isinstance(norm, nn.GroupNorm)]
    alone = all(norm.num_groups == norm.num_channels and norm.affine for norm in grouped)
    known = all(norm is None or isinstance(norm, nn.GroupNorm | nn.LayerNorm) for norm in norms)
    first = not grouped or (len(grouped) == 1 and grouped[0] is norms[0])
    mono = bool(convs) and getattr(convs[0], "in_channels", 0) == 1
    return plain and alone and known and first and mono


def frames_of(convs: Sequence[nn.Conv1d], window_samples: int) -> list[int]:
    """Return the number of frames after each convolution of a stack."""
    lengths, length = [], window_samples
    for conv in convs:
        length = (length - conv.kernel_size[0]) // conv.stride[0] + 1
        lengths.append(length)
    return lengths


def check_reach(kernels: Sequence[int], strides: Sequence[int], window_samples: int) -> None:
    """Raise if a window is too short for one frame of a stack of convolutions.

    Raises
    ------
    EdgepruneError
        The window is shorter than the receptive field of a frame.

    """
    reach, step = 1, 1
    for kernel, stride in zip(kernels, strides, strict=True):
        reach, step = reach + (kernel - 1) * step, step * stride
    if window_samples < reach:
        raise EdgepruneError(
            f"A window of {window_samples} samples is too short for the model's encoder (at least "
            f"{reach} samples).", "Choose longer windows with --window.",
        )  # fmt: skip


def cosines(size: int) -> Tensor:
    """Return the orthonormal cosine basis (DCT-II) (size, size) in float64, one row a frequency."""
    row = torch.arange(size, dtype=torch.float64)
    basis = torch.cos(math.pi * (row[None] + 0.5) * row[:, None] / size) * math.sqrt(2 / size)
    basis[0] /= math.sqrt(2)
    return basis


@torch.no_grad()
def _linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    layer.weight.copy_(weight)
    if bias is not None:
        layer.bias.copy_(bias)
    return layer
