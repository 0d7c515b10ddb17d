"""CLAP's audio tower as a classifier, registered with the Auto classes.

The tower is HTSAT (Chen et al. 2022, arXiv 2202.00874), a Swin transformer over an image of the
spectrogram in which strips of time are stacked along the frequency axis. Blocks come in pairs, with
plain and shifted windows; between two stages, patch merging halves both axes and doubles the width.

- A *layer*, as edgeprune counts and removes them, is a pair: removing a single block would invert
  the shifts of all later ones.
- The width of a *hidden state* depends on its stage. To compare hidden states, those of earlier
  stages are passed through the patch mergings in between, as if the pairs there were removed; then
  all have the width of the last stage, with time along one axis.

``transformers`` has the tower (``ClapAudioModel``, tensors ``audio_model.*`` in a ``clap``
checkpoint) but neither a classifier nor an Auto class for it. Importing this module registers
``model_type: clap_audio_model`` with AutoModel and AutoModelForAudioClassification.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForAudioClassification, ClapAudioConfig, ClapAudioModel
from transformers.modeling_outputs import SequenceClassifierOutput
from transformers.models.clap.modeling_clap import ClapPreTrainedModel

from edgeprune_device.errors import EdgepruneError

PAIR = 2


class ClapAudioForAudioClassification(ClapPreTrainedModel):  # type: ignore[misc]
    """The tower with a linear head on the mean of its last tokens."""

    config: ClapAudioConfig
    config_class = ClapAudioConfig
    base_model_prefix = "audio_model"
    main_input_name = "input_features"
    input_modalities = ("audio",)

    def __init__(self, config: ClapAudioConfig) -> None:
        if config.enable_fusion:
            raise EdgepruneError(
                "A CLAP tower with feature fusion can only be loaded by load_model."
            )
        super().__init__(config)
        self.audio_model = ClapAudioModel(config)
        for block in self.audio_model.audio_encoder.modules():
            if hasattr(block, "set_shift_and_window_size"):  # or the first forward would change it
                block.set_shift_and_window_size(block.input_resolution)
        stages = len(config.depths)
        self.classifier = nn.Linear(
            config.patch_embeds_hidden_size * 2 ** (stages - 1), config.num_labels
        )
        self.post_init()

    def forward(self, input_features: Tensor, **_: Any) -> SequenceClassifierOutput:
        """Map images (batch, 1, frames, mels) to logits (batch, num_labels)."""
        found = self.audio_model(input_features, always_partition=True)
        return SequenceClassifierOutput(logits=self.classifier(found.pooler_output))

    def finish(self, state: Tensor) -> Tensor:
        """Pass a hidden state through the remaining patch mergings and the final norm."""
        encoder = self.audio_model.audio_encoder
        normed: Tensor = encoder.norm(
            through_patch_mergings(encoder, state, len(encoder.layers) - 1)
        )
        return normed

    def classify(self, finished: Tensor) -> Tensor:
        """Map normalized tokens (batch, tokens, hidden) to logits (batch, num_labels)."""
        logits: Tensor = self.classifier(finished.mean(dim=1))
        return logits

    def frames(self, state: Tensor, heard: float = 1.0) -> Tensor:
        """Arrange the tokens of a hidden state by time, averaged over frequency.

        Parameters
        ----------
        state : Tensor (batch, tokens, width)
            Hidden state of any stage.
        heard : float
            Share of the image's time axis that the window fills; the rest repeats the window.

        Returns
        -------
        Tensor (batch, frames, hidden)
            Frames with the width of the last stage.

        """
        encoder = self.audio_model.audio_encoder
        last = len(encoder.layers) - 1
        state = through_patch_mergings(encoder, state, last)
        rows, columns = encoder.input_resolutions[last]
        strips = encoder.freq_ratio
        if rows % strips:
            raise EdgepruneError(
                f"This CLAP tower's last stage has {rows} rows for {strips} strips of time.",
                "Its spec_size, num_mel_bins and depths are not those of a CLAP tower.",
            )
        grid = state.reshape(state.shape[0], strips, rows // strips, columns, -1)
        frames = grid.mean(dim=2).flatten(1, 2)
        return frames[:, : max(1, round(heard * frames.shape[1]))]


class SwinPair(nn.Module):
    """A plain and a shifted block of one stage as one layer; it is part of no model."""

    def __init__(self, encoder: Any, stage: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.stage = stage
        self._tower = (encoder,)  # in a tuple, so that it is not registered as a submodule

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Map tokens (batch, tokens, width) of this or an earlier stage to this stage's tokens."""
        encoder = self._tower[0]
        hidden = through_patch_mergings(encoder, hidden, self.stage)
        for block in self.blocks:
            hidden = block(hidden, encoder.input_resolutions[self.stage], False, True)[0]
        return hidden


def through_patch_mergings(encoder: Any, state: Tensor, stage: int) -> Tensor:
    """Pass tokens (batch, tokens, width) through the patch mergings before a stage."""
    width = encoder.config.patch_embeds_hidden_size
    at = (state.shape[-1] // width).bit_length() - 1
    for index in range(at, stage):
        state = encoder.layers[index].downsample(state, encoder.input_resolutions[index])
    return state


def pairs_of(tower: Any) -> list[SwinPair]:
    """Return the layers of a ``ClapAudioModel``: its blocks in pairs, in order."""
    encoder = tower.audio_encoder
    return [
        SwinPair(encoder, stage, list(part.blocks)[start : start + PAIR])
        for stage, part in enumerate(encoder.layers)
        for start in range(0, len(part.blocks), PAIR)
    ]


def keep_pairs(tower: Any, keep: Sequence[int]) -> None:
    """Keep only these pairs of a ``ClapAudioModel``, in place, and update ``depths``."""
    encoder, pairs = tower.audio_encoder, pairs_of(tower)
    kept: list[list[nn.Module]] = [[] for _ in encoder.layers]
    for index in keep:
        kept[pairs[index].stage].extend(pairs[index].blocks)
    for part, blocks in zip(encoder.layers, kept, strict=True):
        part.blocks = nn.ModuleList(blocks)
    tower.config.depths = encoder.depths = [len(blocks) for blocks in kept]


def cropped_bias(table: Tensor, window: int) -> Tensor:
    """Crop a table of relative position biases to a smaller attention window.

    Parameters
    ----------
    table : Tensor ((2 w - 1)^2, heads)
        Biases for windows of w x w patches.
    window : int
        Side of the smaller window, in patches.

    Returns
    -------
    Tensor ((2 window - 1)^2, heads)
        The middle of the table.

    """
    side = round(table.shape[0] ** 0.5)
    skip = (side - (2 * window - 1)) // 2
    square = table.reshape(side, side, -1)
    return square[skip : side - skip, skip : side - skip].flatten(0, 1)


def position_index(window: int) -> Tensor:
    """Return the row of the bias table for each pair of patches in a window x window square.

    Returns
    -------
    Tensor (window^2, window^2)
        Integers below (2 window - 1)^2.

    """
    place = torch.arange(window)
    apart = place[:, None] - place[None, :] + window - 1
    rows = apart[:, None, :, None] * (2 * window - 1)
    index: Tensor = (rows + apart[None, :, None, :]).reshape(window**2, window**2)
    return index


# exist_ok: transformers silently ignores registrations of its own configs
AutoModel.register(ClapAudioConfig, ClapAudioModel, exist_ok=True)
AutoModelForAudioClassification.register(
    ClapAudioConfig, ClapAudioForAudioClassification, exist_ok=True
)
