"""CLAP's audio tower as a classifier, registered with the Auto classes.

The tower is HTSAT (Chen et al. 2022, arXiv 2202.00874), a Swin transformer over a picture of the
spectrogram: its strips of time stand on one another. Blocks go in pairs, plain and shifted, and
between two stages a patch merging halves both axes and doubles the width.

- A *layer*, as edgeprune counts and drops them, is a pair: dropping one block of it would turn the
  shifts of those behind it around.
- A *state* is given a width by its stage. Where states are compared, one of an earlier stage is
  carried on by the patch mergings between, as it would be if the pairs there were dropped; then
  all states have the last stage's width, and time runs along one axis.

``transformers`` has the tower (``ClapAudioModel``, names ``audio_model.*`` in a ``clap``
checkpoint) but no classifier and no Auto class for it. Importing this module registers
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
    """The tower and a linear head on the mean of its last tokens."""

    config: ClapAudioConfig
    config_class = ClapAudioConfig
    base_model_prefix = "audio_model"
    main_input_name = "input_features"
    input_modalities = ("audio",)

    def __init__(self, config: ClapAudioConfig) -> None:
        if config.enable_fusion:
            raise EdgepruneError("A tower with feature fusion is loaded by load_model alone.")
        super().__init__(config)
        self.audio_model = ClapAudioModel(config)
        for block in self.audio_model.audio_encoder.modules():
            if hasattr(block, "set_shift_and_window_size"):  # else the first run would change it
                block.set_shift_and_window_size(block.input_resolution)
        stages = len(config.depths)
        self.classifier = nn.Linear(
            config.patch_embeds_hidden_size * 2 ** (stages - 1), config.num_labels
        )
        self.post_init()

    def forward(self, input_features: Tensor, **_: Any) -> SequenceClassifierOutput:
        """Turn pictures (batch, 1, frames, mels) into logits (batch, num_labels)."""
        found = self.audio_model(input_features, always_partition=True)
        return SequenceClassifierOutput(logits=self.classifier(found.pooler_output))

    def finish(self, state: Tensor) -> Tensor:
        """Carry a state to the last stage, and apply the norm behind it."""
        encoder = self.audio_model.audio_encoder
        normed: Tensor = encoder.norm(carried(encoder, state, len(encoder.layers) - 1))
        return normed

    def classify(self, finished: Tensor) -> Tensor:
        """Turn finished tokens (batch, tokens, hidden) into logits (batch, num_labels)."""
        logits: Tensor = self.classifier(finished.mean(dim=1))
        return logits

    def frames(self, state: Tensor, heard: float = 1.0) -> Tensor:
        """Put a state's tokens in the order of time, the mean over frequencies.

        Parameters
        ----------
        state : Tensor (batch, tokens, width)
            Of any stage.
        heard : float
            Share of the picture's time that the window fills; the rest repeats it.

        Returns
        -------
        Tensor (batch, frames, hidden)

        """
        encoder = self.audio_model.audio_encoder
        last = len(encoder.layers) - 1
        state = carried(encoder, state, last)
        rows, columns = encoder.input_resolutions[last]
        strips = encoder.freq_ratio
        if rows % strips:
            raise EdgepruneError(
                f"This tower's last stage has {rows} rows for {strips} strips of time.",
                "Its spec_size, num_mel_bins and depths are not those of a CLAP tower.",
            )
        grid = state.reshape(state.shape[0], strips, rows // strips, columns, -1)
        frames = grid.mean(dim=2).flatten(1, 2)
        return frames[:, : max(1, round(heard * frames.shape[1]))]


class SwinPair(nn.Module):
    """A plain and a shifted block of one stage, as one layer; it belongs to no model."""

    def __init__(self, encoder: Any, stage: int, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)
        self.stage = stage
        self._tower = (encoder,)  # in a tuple, so that its weights are not this layer's

    def forward(self, hidden: Tensor, *_: Any, **__: Any) -> Tensor:
        """Turn tokens (batch, tokens, width) of this or an earlier stage into this stage's."""
        encoder = self._tower[0]
        hidden = carried(encoder, hidden, self.stage)
        for block in self.blocks:
            hidden = block(hidden, encoder.input_resolutions[self.stage], False, True)[0]
        return hidden


def carried(encoder: Any, state: Tensor, stage: int) -> Tensor:
    """Take tokens (batch, tokens, width) through the patch mergings before a stage."""
    width = encoder.config.patch_embeds_hidden_size
    at = (state.shape[-1] // width).bit_length() - 1
    for index in range(at, stage):
        state = encoder.layers[index].downsample(state, encoder.input_resolutions[index])
    return state


def pairs_of(tower: Any) -> list[SwinPair]:
    """Return a ``ClapAudioModel``'s layers: its blocks in pairs, in order."""
    encoder = tower.audio_encoder
    return [
        SwinPair(encoder, stage, list(part.blocks)[start : start + PAIR])
        for stage, part in enumerate(encoder.layers)
        for start in range(0, len(part.blocks), PAIR)
    ]


def keep_pairs(tower: Any, keep: Sequence[int]) -> None:
    """Keep only these pairs of a ``ClapAudioModel``, in place; ``depths`` follows."""
    encoder, pairs = tower.audio_encoder, pairs_of(tower)
    kept: list[list[nn.Module]] = [[] for _ in encoder.layers]
    for index in keep:
        kept[pairs[index].stage].extend(pairs[index].blocks)
    for part, blocks in zip(encoder.layers, kept, strict=True):
        part.blocks = nn.ModuleList(blocks)
    tower.config.depths = encoder.depths = [len(blocks) for blocks in kept]


def cropped_bias(table: Tensor, window: int) -> Tensor:
    """Cut a table of relative positions to a smaller attention window: its middle.

    Parameters
    ----------
    table : Tensor ((2 w - 1)^2, heads)
        For windows of w x w patches.
    window : int
        The smaller width.

    Returns
    -------
    Tensor ((2 window - 1)^2, heads)

    """
    side = round(table.shape[0] ** 0.5)
    skip = (side - (2 * window - 1)) // 2
    square = table.reshape(side, side, -1)
    return square[skip : side - skip, skip : side - skip].flatten(0, 1)


def position_index(window: int) -> Tensor:
    """Return which row of the table each pair of patches in a window x window square reads.

    Returns
    -------
    Tensor (window^2, window^2)
        Whole numbers below (2 window - 1)^2.

    """
    place = torch.arange(window)
    apart = place[:, None] - place[None, :] + window - 1
    rows = apart[:, None, :, None] * (2 * window - 1)
    index: Tensor = (rows + apart[None, :, None, :]).reshape(window**2, window**2)
    return index


# exist_ok: transformers passes over registrations of its own configs without a word
AutoModel.register(ClapAudioConfig, ClapAudioModel, exist_ok=True)
AutoModelForAudioClassification.register(
    ClapAudioConfig, ClapAudioForAudioClassification, exist_ok=True
)
