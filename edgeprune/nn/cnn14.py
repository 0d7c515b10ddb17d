"""PANNs' CNN14 as a transformers model, registered with the Auto classes.

CNN14 (Kong et al. 2020, "PANNs", arXiv 1912.10211; the convolutional tower of the first CLAP) is
fully convolutional: its blocks change width and resolution, so none can be removed. It can be
trimmed, and serves as a teacher. Modules and tensors are named as in PANNs' checkpoints; the
checkpoints' spectrogram tensors are ignored, because the spectrogram is computed here.

    samples (batch, n)
      log-mel --> (batch, 1, frames, 64)
      bn0, conv_block1 ... conv_block6 --> (batch, 2048, frames / 32, 2)
      mean over frequencies, maximum plus mean over time
      fc1, ReLU, fc_audioset --> logits

Importing this module registers ``model_type: cnn14`` with AutoConfig, AutoModel and
AutoModelForAudioClassification.
"""

from __future__ import annotations

from itertools import pairwise
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
from transformers.modeling_outputs import BaseModelOutput, SequenceClassifierOutput

from edgeprune.nn.kwt import spec_mask
from edgeprune_device.errors import EdgepruneError


class Cnn14Config(PreTrainedConfig):  # type: ignore[misc]
    """Configuration of a CNN14; the defaults are those of PANNs' ``Cnn14_mAP=0.431.pth``."""

    model_type = "cnn14"

    channels: tuple[int, ...] | list[int] = (64, 128, 256, 512, 1024, 2048)
    """Output channels of the blocks; all blocks but the last halve both resolutions."""
    fc_size: int = 2048
    """Width of the layer before the head."""
    num_mel_bins: int = 64
    sampling_rate: int = 32000
    frame_length: int = 1024
    """Samples per frame (PANNs: ``window_size``)."""
    hop_length: int = 320
    frequency_min: float = 50.0
    """Lowest frequency of the mel filters, in Hz."""
    frequency_max: float = 14000.0
    """Highest frequency of the mel filters, in Hz."""
    block_dropout: float = 0.2
    """Dropout after every block."""
    head_dropout: float = 0.5
    """Dropout before and after ``fc1``."""
    mask_time_count: int = 2
    """SpecAugment in training: time masks per clip (as trained upstream)."""
    mask_time_share: float = 0.064
    """Longest time mask, as a share of the frames (upstream: 64 of 1,001)."""
    mask_feature_count: int = 2
    """SpecAugment in training: masks over mel filters per clip."""
    mask_feature_length: int = 8
    """Widest mask over mel filters, in filters."""

    @property
    def num_hidden_layers(self) -> int:
        """Number of blocks."""
        return len(self.channels)


class Cnn14Block(nn.Module):
    """Two 3 x 3 convolutions, each with batch normalization and ReLU, and average pooling."""

    def __init__(self, inputs: int, outputs: int, pool: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.pool = pool

    def forward(self, image: Tensor) -> Tensor:
        """Map (batch, inputs, frames, mels) to (batch, outputs, frames / pool, mels / pool)."""
        image = torch.relu(self.bn1(self.conv1(image)))
        image = torch.relu(self.bn2(self.conv2(image)))
        return nn.functional.avg_pool2d(image, self.pool) if self.pool > 1 else image


class Cnn14PreTrainedModel(PreTrainedModel):  # type: ignore[misc]
    """Base class of the headless model and the classifier; the tensors have no prefix."""

    config_class = Cnn14Config
    base_model_prefix = ""
    main_input_name = "input_features"
    _keys_to_ignore_on_load_unexpected = (r"spectrogram_extractor\..*", r"logmel_extractor\..*")

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, nn.Linear | nn.Conv2d):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
            module.reset_running_stats()


class Cnn14Model(Cnn14PreTrainedModel):
    """The encoder: log-mel spectrogram in, feature map of the last block out."""

    def __init__(self, config: Cnn14Config) -> None:
        super().__init__(config)
        self.bn0 = nn.BatchNorm2d(config.num_mel_bins)
        widths = [1, *config.channels]
        for index, (inputs, outputs) in enumerate(pairwise(widths), start=1):
            pool = 2 if index < len(config.channels) else 1
            setattr(self, f"conv_block{index}", Cnn14Block(inputs, outputs, pool))
        self.fc1 = nn.Linear(config.channels[-1], config.fc_size)
        self.add_head(config)
        self.post_init()

    def add_head(self, config: Cnn14Config) -> None:
        """Do nothing; the classifier adds its head here, before the weights are initialized."""

    @property
    def blocks(self) -> list[nn.Module]:
        """The convolution blocks, in order."""
        return [self.get_submodule(f"conv_block{i + 1}") for i in range(len(self.config.channels))]

    def encode(self, input_features: Tensor) -> tuple[Tensor, ...]:
        """Map (batch, 1, frames, mels) to the feature maps before block 1 and after each block."""
        self.check_frames(input_features.shape[2])
        image = self.bn0(input_features.transpose(1, 3)).transpose(1, 3)
        if self.training:
            image = image * self.mask_of(image)[:, None]
        states = [image]
        for block in self.blocks:
            image = block(image)
            image = nn.functional.dropout(image, self.config.block_dropout, self.training)
            states.append(image)
        return tuple(states)

    def check_frames(self, frames: int) -> None:
        """Raise if the pooling would leave no frame."""
        least = 2 ** (len(self.config.channels) - 1)
        if frames < least:
            hop = self.config.hop_length / self.config.sampling_rate
            raise EdgepruneError(
                f"This model halves time {len(self.config.channels) - 1} times, so a window needs "
                f"{least} frames ({(least - 1) * hop:.2g} s); it has {frames}.",
                "Choose longer windows with --window.",
            )

    def mask_of(self, image: Tensor) -> Tensor:
        """Return SpecAugment's mask (batch, frames, mels), 0 where an entry is masked."""
        batch, _, frames, mels = image.shape
        longest = max(1, round(self.config.mask_time_share * frames))
        return spec_mask((batch, frames, mels), self.config, longest).to(image)

    def frames(self, state: Tensor) -> Tensor:
        """Convert a block's feature map to frames of the last block's number and width.

        Parameters
        ----------
        state : Tensor (batch, channels, frames, mels)
            Feature map of any block.

        Returns
        -------
        Tensor (batch, last block's frames, last block's channels)

        """
        bands = state.mean(dim=3)
        mels, halvings = state.shape[3], 0
        while mels >> halvings > self.config.num_mel_bins >> (len(self.blocks) - 1):
            halvings += 1
        if halvings:
            bands = nn.functional.avg_pool1d(bands, 2**halvings)
        lacking = max(0, self.config.channels[-1] - bands.shape[1])
        return nn.functional.pad(bands.transpose(1, 2), (0, lacking))

    def forward(
        self, input_features: Tensor, output_hidden_states: bool = False, **_: Any
    ) -> BaseModelOutput:
        """Map (batch, 1, frames, mels) to (batch, channels, frames / 32, mels / 32)."""
        states = self.encode(input_features)
        return BaseModelOutput(
            last_hidden_state=states[-1], hidden_states=states if output_hidden_states else None
        )


class Cnn14ForAudioClassification(Cnn14Model):
    """The encoder with PANNs' head."""

    def add_head(self, config: Cnn14Config) -> None:
        """Add the linear head."""
        self.fc_audioset = nn.Linear(config.fc_size, config.num_labels)

    def classify(self, image: Tensor) -> Tensor:
        """Map the last block's feature map to logits (batch, labels)."""
        bands = image.mean(dim=3)
        found = bands.amax(dim=2) + bands.mean(dim=2)
        dropout = self.config.head_dropout
        found = nn.functional.dropout(found, dropout, self.training)
        found = torch.relu(self.fc1(found))
        logits: Tensor = self.fc_audioset(nn.functional.dropout(found, dropout, self.training))
        return logits

    def forward(
        self, input_features: Tensor, output_hidden_states: bool = False, **_: Any
    ) -> SequenceClassifierOutput:
        """Map (batch, 1, frames, mels) to logits (batch, num_labels)."""
        states = self.encode(input_features)
        return SequenceClassifierOutput(
            logits=self.classify(states[-1]),
            hidden_states=states if output_hidden_states else None,
        )


AutoConfig.register("cnn14", Cnn14Config)
AutoModel.register(Cnn14Config, Cnn14Model)
AutoModelForAudioClassification.register(Cnn14Config, Cnn14ForAudioClassification)
