"""WavLM's attention for any number of heads and any hidden size, equal to transformers' own.

In transformers, each head takes its own slice of the hidden state to gate the position bias that
block 0 computes for all blocks (Chen et al. 2022, arXiv 2110.13900, section 3.1), and heads x head
size must equal the hidden size. Here the gate is one linear layer over the whole hidden state with
two outputs per head, and each block knows which of block 0's biases belong to its heads. So heads
and the hidden size can be trimmed.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from edgeprune.models import serialization
from edgeprune.models.families import layers_of

PART = "gated-attention"


class GatedAttention(nn.Module):
    """Attention with a gated relative position bias.

    Parameters
    ----------
    hidden, heads : int
        Width of the hidden state, and number of heads of this block.
    head_dim : int
        Width of a head.
    buckets, distance : int
        Number of buckets of relative positions, and greatest distance in frames.
    owner : bool
        Whether this block computes the bias for all blocks.
    dropout : float
        Dropout of the attention weights.

    """

    heads: Tensor
    rel_attn_embed: nn.Embedding | None

    def __init__(
        self, hidden: int, heads: int, head_dim: int, buckets: int, distance: int, owner: bool,
        dropout: float,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_heads, self.head_dim = heads, head_dim
        self.buckets, self.distance, self.dropout = buckets, distance, dropout
        self.q_proj = nn.Linear(hidden, heads * head_dim)
        self.k_proj = nn.Linear(hidden, heads * head_dim)
        self.v_proj = nn.Linear(hidden, heads * head_dim)
        self.out_proj = nn.Linear(heads * head_dim, hidden)
        self.gate = nn.Linear(hidden, 2 * heads)
        self.gru_rel_pos_const = nn.Parameter(torch.ones(1, heads, 1, 1))
        self.register_buffer("heads", torch.arange(heads))
        self.rel_attn_embed = nn.Embedding(buckets, heads) if owner else None

    def forward(
        self, hidden_states: Tensor, attention_mask: Tensor | None = None,
        position_bias: Tensor | None = None, **_: Any,
    ) -> tuple[Tensor, None, Tensor]:  # fmt: skip
        """Map hidden states (batch, frames, hidden); the bias is (heads of block 0, n, n).

        Frames that ``attention_mask`` (batch, frames) marks with 0 are not attended to.
        """
        frames = hidden_states.shape[1]
        if position_bias is None:
            position_bias = self.bias(frames)
        query, key, value = (
            part(hidden_states).unflatten(-1, (-1, self.head_dim)).transpose(1, 2)
            for part in (self.q_proj, self.k_proj, self.v_proj)
        )
        gates = torch.sigmoid(self.gate(hidden_states).unflatten(-1, (-1, 2)).transpose(1, 2))
        opened = gates[..., :1] * (gates[..., 1:] * self.gru_rel_pos_const - 1.0) + 2.0
        bias = opened * position_bias.index_select(0, self.heads)
        if attention_mask is not None:
            bias = bias.masked_fill(attention_mask.ne(1)[:, None, None, :], -math.inf)
        dropout = self.dropout if self.training else 0.0
        mixed = functional.scaled_dot_product_attention(query, key, value, bias, dropout)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None, position_bias

    def bias(self, frames: int) -> Tensor:
        """Return the position bias (heads, frames, frames) of every head of block 0."""
        if self.rel_attn_embed is None:
            raise RuntimeError("this block needs a position bias and computes none")
        places = torch.arange(frames, device=self.heads.device)
        apart = places[None, :] - places[:, None]
        half = self.buckets // 2
        exact = half // 2
        far = apart.abs().clamp(min=1).float() / exact
        steps = torch.log(far) / math.log(self.distance / exact) * (half - exact)
        large = (exact + steps).long().clamp(max=half - 1)
        bucket = torch.where(apart.abs() < exact, apart.abs(), large) + (apart > 0) * half
        values: Tensor = self.rel_attn_embed(bucket)
        return values.permute(2, 0, 1)


def make_trimmable(model: Any) -> None:
    """Replace every attention of a WavLM by this one, in place; repeated calls have no effect."""
    prefix = f"{model.base_model_prefix}.encoder.layers"
    for number, block in enumerate(layers_of(model)):
        old: Any = getattr(block, "attention", None)
        if old is None or not hasattr(old, "gru_rel_pos_linear"):
            continue
        spec = {
            "part": PART, "hidden": old.embed_dim, "heads": old.num_heads, "head_dim": old.head_dim,
            "buckets": old.num_buckets, "distance": old.max_distance,
            "owner": hasattr(old, "rel_attn_embed"), "dropout": float(old.dropout),
        }  # fmt: skip
        new: Any = serialization.make_part(spec).to(old.out_proj.weight.device).train(old.training)
        _copy(old, new)
        serialization.replace_module(model, f"{prefix}.{number}.attention", new)


@torch.no_grad()
def _copy(old: Any, new: Any) -> None:
    """Copy transformers' weights; its gate sums eight outputs in fours, so two outputs suffice."""
    for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
        getattr(new, name).load_state_dict(getattr(old, name).state_dict())
    new.gru_rel_pos_const.copy_(old.gru_rel_pos_const)
    if new.rel_attn_embed is not None:
        new.rel_attn_embed.load_state_dict(old.rel_attn_embed.state_dict())
    weight = old.gru_rel_pos_linear.weight.unflatten(0, (2, 4)).sum(1)
    new.gate.weight.zero_()
    for head in range(old.num_heads):
        mine = slice(head * old.head_dim, (head + 1) * old.head_dim)
        new.gate.weight[2 * head : 2 * head + 2, mine] = weight
    new.gate.bias.copy_(
        old.gru_rel_pos_linear.bias.unflatten(0, (2, 4)).sum(1).repeat(old.num_heads)
    )
    for name, parameter in new.named_parameters():
        parent = getattr(old, name.split(".")[0], old.gru_rel_pos_linear)
        given = parent if isinstance(parent, nn.Parameter) else next(parent.parameters())
        parameter.requires_grad_(given.requires_grad)
