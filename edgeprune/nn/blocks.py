"""Small blocks that students and mimic layers are made of: (batch, frames, width) in and out.

``conv``         mixes time by a depth-wise convolution, then channels (MobileNetV2's parts in
                 ConvNeXt's order: Sandler et al. 2018, Liu et al. 2022); its norms are batch norms,
                 which vanish into the convolutions when it is exported
``transformer``  pre-norm self-attention and a feed-forward part, both of their own width
``frame``        Linear-LayerNorm-ReLU-Linear on every frame alone (arXiv 2409.16302)
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


class ConvBlock(nn.Module):
    """Depth-wise convolution over time, then two point-wise ones; what came in is added.

    The arithmetic is that of two-dimensional convolutions of height 1: ONNX Runtime has its fast,
    blocked kernels for those alone.
    """

    def __init__(self, width: int, hidden: int, kernel: int) -> None:
        super().__init__()
        if kernel % 2 == 0:
            raise ValueError(f"a kernel of {kernel} frames has no middle")
        self.depthwise = nn.Conv2d(
            width, width, (1, kernel), padding=(0, kernel // 2), groups=width, bias=False
        )
        self.norm = nn.BatchNorm2d(width)
        self.expand = nn.Conv2d(width, hidden, 1, bias=False)
        self.norm_hidden = nn.BatchNorm2d(hidden)
        self.project = nn.Conv2d(hidden, width, 1, bias=False)
        self.norm_out = nn.BatchNorm2d(width)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Turn (batch, frames, width) into the same shape."""
        came = hidden.transpose(1, 2)[:, :, None]
        mixed = self.norm(self.depthwise(came))
        wide = functional.relu(self.norm_hidden(self.expand(mixed)))
        out: Tensor = (came + self.norm_out(self.project(wide)))[:, :, 0].transpose(1, 2)
        return out


class FrameBlock(nn.Module):
    """Linear-LayerNorm-ReLU-Linear, every frame alone; no residual connection (Seed 3's mimic)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Turn (batch, frames, width) into the same shape."""
        out: Tensor = self.outer(functional.relu(self.norm(self.inner(hidden))))
        return out


class TransformerBlock(nn.Module):
    """Pre-norm self-attention and feed-forward part.

    Parameters
    ----------
    width : int
        Of what comes in and goes out, and of all heads together.
    hidden : int
        Of the feed-forward part.
    heads : int

    """

    def __init__(self, width: int, hidden: int, heads: int) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"{heads} heads do not share a width of {width}")
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width)
        self.q, self.k, self.v, self.out = (nn.Linear(width, width) for _ in range(4))
        self.norm_feed = nn.LayerNorm(width)
        self.inner = nn.Linear(width, hidden)
        self.outer = nn.Linear(hidden, width)

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Turn (batch, frames, width) into the same shape."""
        normed = self.norm_attention(hidden)
        q, k, v = (
            part(normed).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, dim=-1)
        hidden = hidden + self.out((weights @ v).transpose(1, 2).flatten(2))
        fed: Tensor = self.outer(functional.gelu(self.inner(self.norm_feed(hidden))))
        return hidden + fed
