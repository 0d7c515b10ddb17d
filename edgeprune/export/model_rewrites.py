"""Rewrites of a model before export, equal in value, that make its graph fast on a runtime.

Rewritten where a family has it (parts of another type are left unchanged):

waveform encoder          matrix products over rows of samples and frames (``nn.strided_conv``)
positional convolution    weight norm folded; taps that only meet padding removed
attention                 one product for queries, keys and values, with the scale in the weights
layer norm (TFLite)       the fewest operators: LiteRT has none of its own
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.models.families import family_of, submodule
from edgeprune.nn.strided_conv import WaveformEncoder, check_reach, fits


def shape(model: Any, window_samples: int, runtime: str) -> Any:
    """Return a copy of a model, rewritten for a runtime and windows of one length.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model of a known family; it is not changed.
    window_samples : int
        Samples per window.
    runtime : str
        ``onnx`` or ``tflite``.

    Raises
    ------
    EdgepruneError
        The window is shorter than the receptive field of the encoder's frames.

    """
    shaped = copy.deepcopy(model).eval()
    fold_weight_norm(shaped)
    family = family_of(shaped.config.model_type)
    frames = 0
    encoder = _part(shaped, family.frozen)
    if encoder is not None and fits(encoder):
        convs = [layer.conv for layer in encoder.conv_layers]
        kernels, strides = (
            [getattr(c, name)[0] for c in convs] for name in ("kernel_size", "stride")
        )
        check_reach(kernels, strides, window_samples)
        new = WaveformEncoder(encoder, window_samples)
        frames = new.frames
        _put(shaped, family.frozen, new)
    positions = _part(shaped, family.positions)
    if frames and positions is not None and _same_padded(positions):
        _put(shaped, family.positions, Positions(positions, frames))
    for name, part in list(shaped.named_modules()):
        if type(part).__name__.endswith("Attention") and _plain_attention(part):
            _replace(shaped, name, FusedAttention(part))
        elif runtime == "tflite" and type(part) is nn.LayerNorm:
            _replace(shaped, name, PlainLayerNorm(part))
    return shaped


class FusedAttention(nn.Module):
    """Self-attention as in transformers, with one product for queries, keys and values.

    Equal to Vaswani et al. 2017 (arXiv 1706.03762) section 3.2; the factor 1 / sqrt(d) is merged
    into the queries' weights.
    """

    def __init__(self, part: Any) -> None:
        super().__init__()
        self.head_dim = part.head_dim
        self.heads = part.q_proj.out_features // part.head_dim
        parts = (part.q_proj, part.k_proj, part.v_proj)
        factors = (float(part.scaling), 1.0, 1.0)
        self.qkv = nn.Linear(part.q_proj.in_features, sum(x.out_features for x in parts))
        with torch.no_grad():
            pairs = list(zip(parts, factors, strict=True))
            self.qkv.weight.copy_(torch.cat([x.weight * factor for x, factor in pairs]))
            none = [torch.zeros(x.out_features) if x.bias is None else x.bias for x in parts]
            self.qkv.bias.copy_(torch.cat([b * f for b, f in zip(none, factors, strict=True)]))
        self.out = part.out_proj

    def forward(self, hidden_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, None]:
        """Map (1, frames, hidden) to the same shape; a whole window needs no mask."""
        frames, heads = hidden_states.shape[1], self.heads
        apart = self.qkv(hidden_states).reshape(frames, 3 * heads, self.head_dim).transpose(0, 1)
        query, key, value = apart[:heads], apart[heads : 2 * heads], apart[2 * heads :]
        mixed = torch.softmax(query @ key.transpose(1, 2), dim=-1) @ value
        return self.out(mixed.transpose(0, 1).reshape(1, frames, heads * self.head_dim)), None


class Positions(nn.Module):
    """Positional convolution for windows of one length, without taps that only meet padding."""

    def __init__(self, part: Any, frames: int) -> None:
        super().__init__()
        old = part.conv
        kernel = old.kernel_size[0]
        first = max(0, kernel // 2 - (frames - 1))
        last = min(kernel, kernel // 2 + frames)
        self.conv = nn.Conv1d(old.in_channels, old.out_channels, last - first, groups=old.groups,
                              padding=kernel // 2 - first, bias=old.bias is not None)  # fmt: skip
        with torch.no_grad():
            self.conv.weight.copy_(old.weight[:, :, first:last])
            if self.conv.bias is not None:
                self.conv.bias.copy_(old.bias)
        self.activation, self.frames = part.activation, frames

    def forward(self, hidden_states: Tensor) -> Tensor:
        """Map (1, frames, hidden) to the positional term that is added to it."""
        out: Tensor = self.activation(self.conv(hidden_states.transpose(1, 2))[:, :, : self.frames])
        return out.transpose(1, 2)


class PlainLayerNorm(nn.Module):
    """Layer norm over the last axis in nine operators (Ba et al. 2016, arXiv 1607.06450)."""

    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.epsilon, self.weight, self.bias = norm.eps, norm.weight, norm.bias

    def forward(self, hidden: Tensor) -> Tensor:
        """Return the same as ``nn.LayerNorm``."""
        centred = hidden - hidden.mean(dim=-1, keepdim=True)
        variance = (centred * centred).mean(dim=-1, keepdim=True)
        out = centred * torch.rsqrt(variance + self.epsilon)
        out = out if self.weight is None else out * self.weight
        return out if self.bias is None else out + self.bias


def fold_weight_norm(model: Any) -> None:
    """Replace a convolution with weight norm by a plain one with the resulting weight.

    torch's own ``remove_parametrizations`` changes a class that deep copies share, which would
    break the model that this one was copied from.
    """
    path = family_of(model.config.model_type).weight_norm
    there = dict(model.base_model.named_modules())
    if not path or path not in there:  # the family has none, or the step mimic removed it
        return
    old: Any = submodule(model, path)
    plain = nn.Conv1d(
        old.in_channels, old.out_channels, old.kernel_size, old.stride, old.padding, old.dilation,
        old.groups, bias=old.bias is not None,
    )  # fmt: skip
    with torch.no_grad():
        plain.weight.copy_(old.weight)
        if plain.bias is not None:
            plain.bias.copy_(old.bias)
    _put(model, path, plain)


def _plain_attention(part: Any) -> bool:
    """Return whether a module is self-attention that ``FusedAttention`` computes."""
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    plain = all(type(getattr(part, name, None)) is nn.Linear for name in names)
    own = not hasattr(part, "gru_rel_pos_const") and not getattr(part, "is_decoder", False)
    return plain and own and hasattr(part, "scaling") and part.q_proj.out_features > 0


def _same_padded(part: Any) -> bool:
    conv = getattr(part, "conv", None)
    return (type(conv) is nn.Conv1d and conv.stride == (1,) and conv.dilation == (1,)
            and conv.padding == (conv.kernel_size[0] // 2,) and hasattr(part, "padding")
            and hasattr(part, "activation"))  # fmt: skip


def _part(model: Any, path: str) -> Any:
    there = dict(model.base_model.named_modules())
    return there.get(path) if path else None


def _put(model: Any, path: str, new: nn.Module) -> None:
    _replace(model.base_model, path, new)


def _replace(root: Any, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(root.get_submodule(parent) if parent else root, name, new)
