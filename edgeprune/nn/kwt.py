"""Keyword Transformer as a transformers model, registered with the Auto classes.

KWT (Berg, O'Connor, Cruz 2021, "Keyword Transformer", arXiv 2104.00769) takes one second of
samples: 98 MFCC frames and a class token pass through post-norm blocks, and the class token is
classified. The MFCC computation is part of the model, so the exported graph takes raw samples.

    samples (batch, 16000)
      frontend -> MFCC (batch, 98, 40)
      embed, class token, positions -> tokens (batch, 99, 64)
      blocks -> tokens
      head(class token) -> logits

Importing this module registers ``model_type: kwt`` with AutoConfig, AutoModel and
AutoModelForAudioClassification.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from edgeprune.nn.split_point import Seam


class KwtConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a Keyword Transformer; the defaults are KWT-1's."""

    model_type = "kwt"

    num_hidden_layers: int = 12
    hidden_size: int = 64
    num_attention_heads: int = 1
    intermediate_size: int = 256
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6
    norm_position: str = "post"
    num_tokens: int = 99
    """MFCC frames and one class token."""
    sampling_rate: int = 16000
    num_samples: int = 16000
    """Samples per window; fixed, because the positional embeddings are learned."""
    num_mel_bins: int = 80
    num_mfcc: int = 40
    frame_length: int = 480
    frame_step: int = 160
    fft_bins: int = 244
    """Rows of the Fourier matrices: the bins used by the mel filters."""
    mask_time_count: int = 2
    """SpecAugment in training: time masks per clip (as trained upstream)."""
    mask_time_length: int = 25
    """Longest time mask, in frames."""
    mask_feature_count: int = 2
    """SpecAugment in training: masks over MFCC coefficients per clip."""
    mask_feature_length: int = 7
    """Widest mask over coefficients, in coefficients."""


class KwtFrontend(nn.Module):
    """Raw samples to normalized MFCC, by fixed matrices from the checkpoint."""

    window: Tensor
    dft_real: Tensor
    dft_imag: Tensor
    mel: Tensor
    log_floor: Tensor
    dct: Tensor
    mean: Tensor
    inv_std: Tensor
    gather_frames: Tensor

    def __init__(self, config: KwtConfig) -> None:
        super().__init__()
        self.frame_step = config.frame_step
        self.seam = Seam(config.frame_step)
        hops, bins = config.frame_length // config.frame_step, config.fft_bins
        frames = config.num_tokens - 1
        for name, shape in {
            "window": (config.frame_length,),
            "dft_real": (bins, config.frame_length),
            "dft_imag": (bins, config.frame_length),
            "mel": (config.num_mel_bins, bins),
            "log_floor": (1,),
            "dct": (config.num_mfcc, config.num_mel_bins),
            "mean": (1,),
            "inv_std": (config.num_mfcc,),
        }.items():
            self.register_buffer(name, torch.ones(shape))
        gather = torch.arange(frames)[:, None] + torch.arange(hops)[None, :]
        self.register_buffer("gather_frames", gather.to(torch.int32))

    def forward(self, samples: Tensor) -> Tensor:
        """Map samples (batch, num_samples) in [-1, 1] to MFCC (batch, frames, num_mfcc).

        Fewer samples (a multiple of the hop) give fewer frames.
        """
        hops = samples.reshape(samples.shape[0], -1, self.frame_step)
        count = hops.shape[1] - self.gather_frames.shape[1] + 1
        gather = (
            self.gather_frames if count >= len(self.gather_frames) else self.gather_frames[:count]
        )
        frames = hops[:, gather.long()].flatten(2) * self.window
        real = frames @ self.dft_real.T
        imag = frames @ self.dft_imag.T
        spectrum = torch.sqrt(real * real + imag * imag)
        mel = torch.log(torch.maximum(spectrum @ self.mel.T, self.log_floor))
        mfcc: Tensor = self.seam((mel @ self.dct.T - self.mean) * self.inv_std)
        return mfcc


class KwtAttention(nn.Module):
    """Scaled dot-product self-attention without biases on query, key and value."""

    def __init__(self, config: KwtConfig) -> None:
        super().__init__()
        size = config.hidden_size
        self.heads = config.num_attention_heads
        self.scale = (size // self.heads) ** -0.5
        self.q = nn.Linear(size, size, bias=False)
        self.k = nn.Linear(size, size, bias=False)
        self.v = nn.Linear(size, size, bias=False)
        self.out = nn.Linear(size, size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (batch, n, hidden) to tokens of the same shape."""
        q, k, v = (
            part(tokens).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for part in (self.q, self.k, self.v)
        )
        weights = torch.softmax(q @ k.transpose(-1, -2) * self.scale, dim=-1)
        mixed: Tensor = self.out((weights @ v).transpose(1, 2).flatten(2))
        return mixed


class KwtMlp(nn.Module):
    """Feed-forward part of a block."""

    def __init__(self, config: KwtConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.hidden_size, config.intermediate_size)
        self.act = ACT2FN[config.hidden_act]
        self.fc2 = nn.Linear(config.intermediate_size, config.hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (batch, n, hidden) to tokens of the same shape."""
        hidden: Tensor = self.fc2(self.act(self.fc1(tokens)))
        return hidden


class KwtBlock(nn.Module):
    """One post-norm transformer block."""

    def __init__(self, config: KwtConfig) -> None:
        super().__init__()
        self.attn = KwtAttention(config)
        self.norm1 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)
        self.mlp = KwtMlp(config)
        self.norm2 = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, tokens: Tensor) -> Tensor:
        """Map tokens (batch, n, hidden) to tokens of the same shape."""
        attended = self.norm1(tokens + self.attn(tokens))
        mixed: Tensor = self.norm2(attended + self.mlp(attended))
        return mixed


def spec_mask(shape: tuple[int, int, int], config: Any, longest_time: int) -> Tensor:
    """SpecAugment's mask (Park et al. 2019, arXiv 1904.08779): False where an entry is masked.

    Parameters
    ----------
    shape : tuple of int
        Batch, frames, coefficients (or bands).
    config : KwtConfig, Cnn14Config or StudentConfig
        Numbers of masks, and the greatest width of those over coefficients.
    longest_time : int
        Longest time mask, in frames.

    Returns
    -------
    Tensor
        Booleans of the given shape.

    """
    keep = torch.ones(shape, dtype=torch.bool)
    plan = ((1, config.mask_time_count, longest_time),
            (2, config.mask_feature_count, config.mask_feature_length))  # fmt: skip
    for axis, count, longest in plan:
        size = shape[axis]
        position = torch.arange(size)
        for _ in range(count):
            length = torch.randint(0, min(longest, size) + 1, (shape[0], 1))
            start = (torch.rand(shape[0], 1) * (size - length + 1)).long()
            hidden = (position >= start) & (position < start + length)
            keep &= ~(hidden[:, :, None] if axis == 1 else hidden[:, None, :])
    return keep


class KwtPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Base class of the headless model and the classifier; the tensors have no prefix."""

    config_class = KwtConfig
    base_model_prefix = ""
    main_input_name = "input_values"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)


class KwtModel(KwtPreTrainedModel):
    """The encoder: samples in, tokens out."""

    def __init__(self, config: KwtConfig) -> None:
        super().__init__(config)
        if config.norm_position != "post":
            raise ValueError(
                f"norm_position = {config.norm_position!r} is not known (known: 'post')"
            )
        self.frontend = KwtFrontend(config)
        self.embed = nn.Linear(config.num_mfcc, config.hidden_size)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.hidden_size))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.num_tokens, config.hidden_size))
        self.blocks = nn.ModuleList(KwtBlock(config) for _ in range(config.num_hidden_layers))
        self.add_head(config)
        self.post_init()

    def add_head(self, config: KwtConfig) -> None:
        """Do nothing; the classifier adds its head here, before the weights are initialized."""

    def encode(self, input_values: Tensor) -> tuple[Tensor, ...]:
        """Map samples (batch, num_samples) to the tokens before block 1 and after each block."""
        mfcc = self.frontend(input_values)
        if self.training:
            shape = (mfcc.shape[0], mfcc.shape[1], mfcc.shape[2])
            keep = spec_mask(shape, self.config, self.config.mask_time_length)
            mfcc = mfcc * keep.to(mfcc.device)
        tokens = torch.cat([self.cls_token.expand(mfcc.shape[0], -1, -1), self.embed(mfcc)], dim=1)
        states = [tokens + self.pos_embed]
        for block in self.blocks:
            states.append(block(states[-1]))
        return tuple(states)

    def forward(
        self, input_values: Tensor, output_hidden_states: bool = False, **_: Any
    ) -> BaseModelOutput:
        """Map samples (batch, num_samples) to tokens (batch, num_tokens, hidden)."""
        states = self.encode(input_values)
        return BaseModelOutput(
            last_hidden_state=states[-1], hidden_states=states if output_hidden_states else None
        )


class KwtForAudioClassification(KwtModel):
    """The encoder with a linear head on its class token."""

    def add_head(self, config: KwtConfig) -> None:
        """Add the linear head."""
        self.head = nn.Linear(config.hidden_size, config.num_labels)

    def classify(self, tokens: Tensor) -> Tensor:
        """Map the last block's tokens (batch, num_tokens, hidden) to logits (batch, labels)."""
        logits: Tensor = self.head(tokens[:, 0])
        return logits

    def forward(
        self, input_values: Tensor, output_hidden_states: bool = False, **_: Any
    ) -> SequenceClassifierOutput:
        """Map samples (batch, num_samples) to logits (batch, num_labels)."""
        states = self.encode(input_values)
        return SequenceClassifierOutput(
            logits=self.classify(states[-1]),
            hidden_states=states if output_hidden_states else None,
        )


AutoConfig.register("kwt", KwtConfig)
AutoModel.register(KwtConfig, KwtModel)
AutoModelForAudioClassification.register(KwtConfig, KwtForAudioClassification)
