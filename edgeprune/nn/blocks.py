"""Residual blocks of students and mimic layers: (batch, frames, width) in and out.

``conv``         depth-wise convolution over time, then point-wise ones over channels (the parts of
                 MobileNetV2 in the order of ConvNeXt: Sandler et al. 2018, Liu et al. 2022); batch
                 norms, which are folded into the convolutions on export
``transformer``  pre-norm self-attention and a feed-forward part, each with a residual connection
``frame``        Linear-LayerNorm-ReLU-Linear on every frame separately (arXiv 2409.16302)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvBlock(nn.Module):
    """Depth-wise convolution over time, two point-wise convolutions, and a residual connection.

    Computed as two-dimensional convolutions of height 1, because ONNX Runtime has fast blocked
    kernels for those only.

    Parameters
    ----------
    width : int
        Channels of input and output.
    hidden : int
        Channels between the point-wise convolutions.
    kernel : int
        Kernel over time, in frames; odd.

    """

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"kernel = {kernel} is out of range (allowed: odd numbers)")
        self.depthwise = nn.Conv2d(
            width, width, (1, kernel), padding=(0, kernel // 2), groups=width, bias=False
        )
        self.norm = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, hidden, 1, bias=False)
        self.norm_hidden = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, width, 1, bias=False)
        self.norm_out = nn.BatchNorm2d(width)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Map (batch, frames, width) to the same shape."""
        came = hidden.transpose(1, 2)[:, :, None]
        mixed = self.norm(self.depthwise(came))
        wide = functional.relu(self.norm_hidden(self.expand(mixed)))
        out: Tensor = (came + self.norm_out(self.project(wide)))[:, :, 0].transpose(1, 2)
        return out


class FrameBlock(nn.Module):
    """Linear-LayerNorm-ReLU-Linear per frame, without residual connection (arXiv 2409.16302)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Map (batch, frames, width) to the same shape."""
        out: Tensor = self.outer(functional.relu(self.norm(self.inner(hidden))))
        return out


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward part, each with a residual connection.

    Parameters
    ----------
    width : int
        Width of input and output, and of all heads together; a multiple of ``heads``.
    hidden : int
        Width of the feed-forward part.
    heads : int
        Attention heads.

    """

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"width = {width} is not a multiple of heads = {heads}")
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm_feed = nn.LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Map (batch, frames, width) to the same shape."""
        normed = self.norm_attention(hidden)
        q, k, v = (
            part(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        hidden = hidden + self.out((weights @ v).transpose(1, 2).flatten(2))
        fed: Tensor = self.outer(functional.gelu(self.inner(self.norm_feed(hidden))))
        return hidden + fed
