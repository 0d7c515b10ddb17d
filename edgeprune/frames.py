"""A block's state as frames in time, whatever order its family keeps its tokens in.

Representations are means over time, and a point's are the mean over the frames of its sound; so
every state is looked at as (batch, frames, hidden), time along one axis:

- leading class tokens are left out;
- AST's patches, row by row of frequencies, are averaged over frequencies;
- CLAP's are too, and its states of earlier stages are carried to the last (see ``clap.py``);
- CNN14's pictures are averaged over frequencies, and over time down to the last block's frames;
  channels that a state lacks are zeros. Distances, inner products and CKA are as without them;
  cosines between states of different width compare channels of the same number and say little.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from edgeprune.families import family_of
from edgeprune.hearing import share_heard


def frames_of(model: Any, state: Tensor) -> Tensor:
    """Look at a state of a model as frames in time.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    state : Tensor
        As a block gives it, or as the final norm left it.

    Returns
    -------
    Tensor (batch, frames, hidden)

    """
    config = model.config
    if config.model_type == "clap_audio_model":
        found: Tensor = model.frames(state, share_heard(config))
        return found
    if config.model_type == "cnn14":
        found = model.frames(state)
        return found
    sound = state[:, family_of(config.model_type).class_tokens :]
    if config.model_type == "audio-spectrogram-transformer":
        rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        return sound.unflatten(1, (rows, -1)).mean(dim=1)
    return sound
