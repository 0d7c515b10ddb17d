"""edgeprune's own student as a transformers model, registered with the Auto classes.

    samples (batch, n)
      spectrum -> log-mel spectra or cepstra (batch, frames, bands), or a strided convolution
      stem -> (batch, frames, hidden)
      blocks -> (batch, frames, hidden)                       see ``blocks``
      head: pooling over frames, linear -> logits             (CTC: linear on every frame)

``front_end = "cnn"`` without blocks and with ``pooling = "flatten"`` is the small CNN of the
bird-song poster: Conv1d 1-16-32 (kernel 3, pooling 5), a layer of 128. The poster trained it with
Adam; here, as every student, it is trained with AdamW: peak learning rate 2e-3, weight decay 0.01
(``replacement.student``).

Importing this module registers ``model_type: edgeprune-student`` with AutoConfig, AutoModel,
AutoModelForAudioClassification and AutoModelForCTC.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForAudioClassification,
    AutoModelForCTC,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.modeling_outputs import (
    BaseModelOutput,
    CausalLMOutput,
    SequenceClassifierOutput,
)

from edgeprune.nn.blocks import ConvBlock, FrameBlock, TransformerBlock
from edgeprune.nn.fast_log_mel import HIGH_HZ, LOW_HZ
from edgeprune.nn.stems import STEMS

CNN_HIDDEN = 128


class StudentConfig(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a student."""

    model_type = "edgeprune-student"

    front_end: str = "log-mel"
    """``log-mel``, ``mfcc``, ``waveform`` or ``cnn``."""
    sampling_rate: int = 16000
    frame_length: int = 400
    """Samples per frame, or kernel of the waveform stem's filters."""
    frame_step: int = 320
    """Samples from one frame to the next."""
    num_mel_bins: int = 40
    num_mfcc: int = 20
    low_hz: float = LOW_HZ
    high_hz: float = HIGH_HZ
    stem_channels: int = 16
    """Channels of the stem's two-dimensional convolutions; 0: a linear stem."""
    block: str = "conv"
    """``conv``, ``transformer`` or ``frame``."""
    num_hidden_layers: int = 6
    hidden_size: int = 96
    intermediate_size: int = 192
    conv_kernel: int = 9
    """Kernel of a block's depth-wise convolution, in frames; odd."""
    num_attention_heads: int = 4
    pooling: str = "mean"
    """``mean``, ``mean-max``, ``attentive`` or, for the CNN, ``flatten``."""
    pooled_frames: int = 0
    """Number of frames that ``flatten`` expects."""
    vocab_size: int = 0
    """Labels of a CTC head."""
    mask_time_count: int = 2
    """SpecAugment in training: time masks per window."""
    mask_time_length: int = 10
    """Longest time mask, in frames."""
    mask_feature_count: int = 2
    """SpecAugment in training: masks over bands per window."""
    mask_feature_length: int = 6
    """Widest mask over bands, in bands."""


def make_block(config: StudentConfig) -> nn.Module:
    """Build one block of a student with random weights."""
    width, hidden = config.hidden_size, config.intermediate_size
    if config.block == "conv":
        return ConvBlock(width, hidden, config.conv_kernel)
    if config.block == "transformer":
        return TransformerBlock(width, hidden, config.num_attention_heads)
    if config.block == "frame":
        return FrameBlock(width, hidden)
    raise ValueError(f"block = {config.block!r} is not known (known: conv, transformer, frame)")


class StudentPreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Base class of the headless student and those with a head."""

    config_class = StudentConfig
    base_model_prefix = "student"
    main_input_name = "input_values"

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d | nn.LayerNorm):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            if not isinstance(module, nn.LayerNorm):
                nn.init.zeros_(module.running_mean)  # type: ignore[arg-type]
                nn.init.ones_(module.running_var)  # type: ignore[arg-type]


class StudentModel(StudentPreTrainedModel):
    """Stem and blocks: samples in, frames out."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.stem = STEMS[config.front_end](config)
        self.positions: nn.Module | None = None
        if config.block == "transformer":  # attention is invariant to the order of frames
            size = config.hidden_size
            self.positions = nn.Conv1d(size, size, 15, padding=7, groups=size)
        self.blocks = nn.ModuleList(make_block(config) for _ in range(config.num_hidden_layers))
        self.post_init()

    def forward(
        self, input_values: Tensor, output_hidden_states: bool = False, **_: Any
    ) -> BaseModelOutput:
        """Map samples (batch, n) to frames (batch, frames, hidden)."""
        hidden = self.stem(input_values)
        if self.positions is not None:
            hidden = hidden + self.positions(hidden.transpose(1, 2)).transpose(1, 2)
        states = [hidden]
        for block in self.blocks:
            states.append(block(states[-1]))
        return BaseModelOutput(
            last_hidden_state=states[-1],
            hidden_states=tuple(states) if output_hidden_states else None,
        )


class StudentHead(nn.Module):
    """Pooling over the frames and a linear layer."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__()
        self.pooling = config.pooling
        width = config.hidden_size * {"mean-max": 2}.get(config.pooling, 1)
        if config.pooling == "attentive":
            self.attention = nn.Linear(width, 1)
        if config.pooling == "flatten":
            self.hidden = nn.Linear(width * config.pooled_frames, CNN_HIDDEN)
            width = CNN_HIDDEN
        self.linear = nn.Linear(width, config.num_labels)

    def forward(self, frames: Tensor) -> Tensor:
        """Map frames (batch, frames, hidden) to logits (batch, labels)."""
        if self.pooling == "mean-max":
            pooled = torch.cat([frames.mean(dim=1), frames.amax(dim=1)], dim=-1)
        elif self.pooling == "attentive":
            pooled = (frames * torch.softmax(self.attention(frames), dim=1)).sum(dim=1)
        elif self.pooling == "flatten":
            pooled = functional.relu(self.hidden(frames.flatten(1)))
        else:
            pooled = frames.mean(dim=1)
        logits: Tensor = self.linear(pooled)
        return logits


class StudentForAudioClassification(StudentPreTrainedModel):
    """Student with a head over all frames."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.student = StudentModel(config)
        self.head = StudentHead(config)
        self.post_init()

    def forward(
        self, input_values: Tensor, output_hidden_states: bool = False, **_: Any
    ) -> SequenceClassifierOutput:
        """Map samples (batch, n) to logits (batch, labels)."""
        out = self.student(input_values, output_hidden_states=output_hidden_states)
        return SequenceClassifierOutput(
            logits=self.head(out.last_hidden_state), hidden_states=out.hidden_states
        )


class StudentForCTC(StudentPreTrainedModel):
    """Student with a linear head on every frame."""

    def __init__(self, config: StudentConfig) -> None:
        super().__init__(config)
        self.student = StudentModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size)
        self.post_init()

    def forward(
        self, input_values: Tensor, output_hidden_states: bool = False, **_: Any
    ) -> CausalLMOutput:
        """Map samples (batch, n) to logits (batch, frames, vocabulary)."""
        out = self.student(input_values, output_hidden_states=output_hidden_states)
        return CausalLMOutput(
            logits=self.lm_head(out.last_hidden_state), hidden_states=out.hidden_states
        )


AutoConfig.register("edgeprune-student", StudentConfig)
AutoModel.register(StudentConfig, StudentModel)
AutoModelForAudioClassification.register(StudentConfig, StudentForAudioClassification)
AutoModelForCTC.register(StudentConfig, StudentForCTC)
