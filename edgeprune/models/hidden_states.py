"""Conversion of a block's output to frames in time, whatever the family's token order.

Representations are means over time, and a point's is the mean over the frames of its sound. So
every hidden state is converted to (batch, frames, hidden), with time along one axis:

- leading class tokens are left out;
- AST's patches, ordered row by row of frequencies, are averaged over frequency;
- CLAP's are too, and earlier stages are passed through the patch mergings (see ``nn.clap``);
- CNN14's feature maps are averaged over frequency, and over time to the last block's frame rate;
  missing channels are filled with zeros. This does not affect distances, inner products and CKA;
  cosines between hidden states of different width compare unrelated channels and say little.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from edgeprune.models.families import blocks_of, family_of, layers_of
from edgeprune.models.input_length import filled_share


def frames_of(model: Any, state: Tensor) -> Tensor:
    """Convert a hidden state to frames in time.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model of a known family.
    state : Tensor
        Output of a block, or of the final norm.

    Returns
    -------
    Tensor (batch, frames, hidden)

    """
    config = model.config
    if config.model_type == "clap_audio_model":
        found: Tensor = model.frames(state, filled_share(config))
        return found
    if config.model_type == "cnn14":
        bands: Tensor = model.frames(state)
        return bands
    sound = state[:, family_of(config.model_type).class_tokens :]
    if config.model_type == "audio-spectrogram-transformer":
        rows = (config.num_mel_bins - config.patch_size) // config.frequency_stride + 1
        return sound.reshape(sound.shape[0], rows, -1, sound.shape[-1]).mean(dim=1)
    return sound


@contextmanager
def block_states(model: Any) -> Iterator[list[Tensor]]:
    """Collect the first layer's input and every layer's output of one forward pass.

    A model without layers (a small CNN) has no hidden states.
    """
    blocks = blocks_of(model)
    ends: list[Any] = list(layers_of(model))
    if family_of(model.config.model_type).unit > 1:
        ends = [layer.blocks[-1] for layer in ends]
    states: list[Tensor] = []

    def entered(_: nn.Module, args: tuple[Tensor, ...], options: dict[str, Any]) -> None:
        states.append(args[0] if args else options["hidden_states"])

    def left(_: nn.Module, __: Any, out: Any) -> None:
        states.append(out[0] if isinstance(out, tuple) else out)

    hooks = [b.register_forward_pre_hook(entered, with_kwargs=True) for b in blocks[:1]]
    hooks += [block.register_forward_hook(left) for block in ends]
    try:
        yield states
    finally:
        for hook in hooks:
            hook.remove()
