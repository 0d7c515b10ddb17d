"""Small blocks: each keeps the shape, and mixes time or does not."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from edgeprune.nn.blocks import ConvBlock, FrameBlock, TransformerBlock

REACH = {"conv": 1, "transformer": 10, "frame": 0}
"""How many frames to each side a block of kernel 3 hears."""


def block_of(kind: str) -> nn.Module:
    torch.manual_seed(0)
    made = {"conv": ConvBlock(8, 12, 3), "frame": FrameBlock(8, 12),
            "transformer": TransformerBlock(8, 12, 2)}  # fmt: skip
    return made[kind].eval()


@pytest.mark.parametrize("kind", REACH)
def test_a_block_hears_as_many_frames_as_it_should(kind: str) -> None:
    block, frames = block_of(kind), torch.randn(1, 21, 8, requires_grad=True)
    out = block(frames, attention_mask=None)
    assert out.shape == frames.shape
    (gradient,) = torch.autograd.grad(out[0, 10].sum(), frames)
    heard = gradient[0].abs().sum(dim=1).nonzero().flatten().tolist()
    assert heard == list(range(10 - REACH[kind], 11 + REACH[kind]))


def test_attention_is_torchs() -> None:
    block, frames = TransformerBlock(8, 12, 2), torch.randn(2, 5, 8)
    theirs = nn.TransformerEncoderLayer(
        8, 2, 12, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
    )
    names = {"self_attn.out_proj": "out", "linear1": "inner", "linear2": "outer",
             "norm1": "norm_attention", "norm2": "norm_feed"}  # fmt: skip
    with torch.no_grad():
        packed = theirs.self_attn
        packed.in_proj_weight.copy_(torch.cat([block.q.weight, block.k.weight, block.v.weight]))
        packed.in_proj_bias.copy_(torch.cat([block.q.bias, block.k.bias, block.v.bias]))
        for name, own in names.items():
            theirs.get_submodule(name).load_state_dict(block.get_submodule(own).state_dict())
        torch.testing.assert_close(block(frames), theirs.eval()(frames), rtol=0, atol=1e-5)


def test_widths_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="width = 8 is not a multiple of heads = 3"):
        TransformerBlock(8, 12, 3)
    with pytest.raises(ValueError, match=r"kernel = 4 is out of range \(allowed: odd numbers\)"):
        ConvBlock(8, 12, 4)
