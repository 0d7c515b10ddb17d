"""A classifier split into front end, blocks and head, to evaluate many layer subsets efficiently.

Layer subsets that begin with the same layers share that computation, and all share the front end::

    samples -- enter --> state 0 -- block 0 --> state 1 -- ... --> state L -- leave --> logits

``run_subsets`` traverses the subsets as a tree of common prefixes, batch by batch, and holds the
hidden states of one path at a time.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.core.console import Ui
from edgeprune.data.windows import Windows
from edgeprune.models.families import blocks_of, family_of, layers_of, submodule
from edgeprune.models.hidden_states import frames_of
from edgeprune.models.loading import prepare

BATCH = 32

LayerSubset = tuple[int, ...]
"""Layer subset: the layers that are kept, from 0, ascending."""
Bridges = Mapping[tuple[int, int], tuple[Tensor, Tensor]]
"""(i, j) -> (weight (hidden, hidden), bias (hidden,)) of the bridge over layers i to j - 1."""


class _Entered(Exception):
    """Raised to capture the first block's input; not an error."""

    def __init__(self, hidden: Tensor, rest: tuple[Any, ...], options: dict[str, Any]) -> None:
        super().__init__()
        self.hidden, self.rest, self.options = hidden, rest, options


@dataclass
class Batch:
    """Some windows on their way through a model."""

    hidden: Tensor
    """Hidden state 0: (batch, tokens, hidden), or a feature map of CNN14."""
    rest: tuple[Any, ...] = ()
    """Further positional arguments of every block."""
    options: dict[str, Any] = field(default_factory=dict)
    """Keyword arguments of every block (WavLM: the position bias of block 0)."""


class Stack:
    """A model of a known family, split between its blocks.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Classifier.
    head : tuple of Tensor, optional
        Weight (labels, hidden) and bias (labels,) of a linear head on the mean over time, used
        instead of the model's own head if that does not know the labels.

    """

    def __init__(self, model: Any, head: tuple[Tensor, Tensor] | None = None) -> None:
        self.model = model.eval()
        self.family = family_of(model.config.model_type)
        self.blocks = layers_of(model)
        self.head = head
        self.window_samples = 0
        """Number of samples of the last windows that entered."""

    def __len__(self) -> int:
        """Return the number of blocks."""
        return len(self.blocks)

    def run_front_end(self, samples: Tensor) -> Batch:
        """Run the front end on windows (batch, samples)."""

        def stop(_: nn.Module, args: tuple[Tensor, ...], options: dict[str, Any]) -> None:
            given = dict(options)
            hidden = args[0] if args else given.pop("hidden_states")
            raise _Entered(hidden, args[1:], given)

        self.window_samples = samples.shape[-1]
        first = blocks_of(self.model)[0]
        hook = first.register_forward_pre_hook(stop, with_kwargs=True, prepend=True)
        try:
            self.model(prepare(self.model, samples))
        except _Entered as caught:
            return Batch(caught.hidden, caught.rest, caught.options)
        finally:
            hook.remove()
        raise RuntimeError("the model did not run its first block")

    def block(self, index: int, hidden: Tensor, batch: Batch) -> Tensor:
        """Apply one layer to a hidden state (batch, tokens, hidden)."""
        out = self.blocks[index](hidden, *batch.rest, **batch.options)
        if "position_bias" in batch.options:
            batch.options["position_bias"] = out[1]
        state: Tensor = out[0] if isinstance(out, tuple) else out
        return state

    def states(self, batch: Batch) -> list[Tensor]:
        """Return all hidden states: the first block's input, then the output of each block."""
        states = [batch.hidden]
        for index in range(len(self)):
            states.append(self.block(index, states[-1], batch))
        return states

    def finish(self, hidden: Tensor) -> Tensor:
        """Apply the final norm after the last block, if there is one."""
        if hasattr(self.model, "finish"):
            finished: Tensor = self.model.finish(hidden)
            return finished
        family, config = self.family, self.model.config
        there = getattr(config, "do_stable_layer_norm", False) or not family.stable_only
        if family.final_norm and there:
            normed: Tensor = submodule(self.model, family.final_norm)(hidden)
            return normed
        return hidden

    def pooled(self, hidden: Tensor) -> Tensor:
        """Return the mean over time (batch, hidden) of a last hidden state, after ``finish``."""
        return frames_of(self.model, self.finish(hidden)).mean(dim=1)

    def run_head(self, states: Sequence[Tensor], kept: Sequence[int]) -> Tensor:
        """Return logits (batch, labels).

        Parameters
        ----------
        states : sequence of Tensor
            The first block's input, then the output of every kept block.
        kept : sequence of int
            Indices of those blocks (a head on a weighted sum has one weight for each).

        """
        if self.head is not None:
            weight, bias = self.head
            return self.pooled(states[-1]) @ weight.T + bias
        last = self.finish(states[-1])
        if hasattr(self.model, "classify"):  # edgeprune's own model classes
            logits: Tensor = self.model.classify(last)
            return logits
        if getattr(self.model.config, "use_weighted_layer_sum", False):
            share = self.model.layer_weights[[0, *(i + 1 for i in kept)]].softmax(dim=-1)
            summed = [*states[:-1], last if self.family.summed_normed else states[-1]]
            last = (torch.stack(summed) * share[:, None, None, None]).sum(dim=0)
        elif self.family.upsample:
            last = self._upsampled(last)
        with self._encoded(last) as given:
            answered: Tensor = self.model(**given).logits
        return answered

    def _upsampled(self, last: Tensor) -> Tensor:
        """Upsample the last hidden state to the front end's frame rate (SEW), zero-padded."""
        found: Tensor = submodule(self.model, self.family.upsample)(last)
        frames = int(self.model._get_feat_extract_output_lengths(self.window_samples))
        return nn.functional.pad(found, (0, 0, 0, max(0, frames - found.shape[1])))

    @contextmanager
    def _encoded(self, last: Tensor) -> Iterator[dict[str, Any]]:
        """Let the model's head find this last hidden state instead of running the encoder.

        Yields the arguments of the call: Whisper takes the encoder's output; for other families the
        encoder is replaced by a module that returns it.
        """
        from transformers.modeling_outputs import BaseModelOutputWithPooling

        base, config = self.model.base_model, self.model.config
        weighted = getattr(config, "use_weighted_layer_sum", False)
        tokens = self.family.class_tokens
        found = BaseModelOutputWithPooling(
            last_hidden_state=last, pooler_output=last[:, :tokens].mean(dim=1) if tokens else None
        )
        config.use_weighted_layer_sum = False
        try:
            if base is self.model:
                yield {"encoder_outputs": (last,)}
            else:
                base.forward = lambda *_, **__: found
                yield {self.model.main_input_name: last}
        finally:
            if base is not self.model:
                del base.forward
            config.use_weighted_layer_sum = weighted


def batches(windows: Windows, device: torch.device, ui: Ui, title: str) -> Iterator[Tensor]:
    """Read the windows of every point, in order, in batches (batch, samples)."""
    starts = range(0, len(windows.clip), BATCH)
    for start in ui.track(starts, title, len(starts)):
        yield torch.from_numpy(windows.read(slice(start, start + BATCH))).to(device)


def run_subsets(
    stack: Stack, samples: Tensor, cuts: Sequence[LayerSubset], bridges: Bridges | None = None
) -> dict[LayerSubset, Tensor]:
    """Evaluate many layer subsets of a model on the same windows, sharing common prefixes.

    Parameters
    ----------
    stack : Stack
        The whole model.
    samples : Tensor (batch, samples)
        Windows.
    cuts : sequence of tuple
        Layer subsets: the layers that each keeps, ascending.
    bridges : mapping, optional
        Replacements of removed spans; a gap without a bridge is left empty.

    Returns
    -------
    dict
        Layer subset -> logits (batch, labels).

    """
    found: dict[LayerSubset, Tensor] = {}
    batch = stack.run_front_end(samples)
    depth = len(stack)

    def crossed(hidden: Tensor, start: int, stop: int) -> Tensor:
        if bridges is None or start == stop or (start, stop) not in bridges:
            return hidden
        weight, bias = bridges[start, stop]
        return hidden @ weight.T + bias

    def walk(kept: LayerSubset, states: list[Tensor], below: Sequence[LayerSubset]) -> None:
        at = kept[-1] + 1 if kept else 0
        following: dict[int, list[LayerSubset]] = {}
        for cut in below:
            if len(cut) == len(kept):
                last = crossed(states[-1], at, depth)
                found[cut] = stack.run_head([*states[:-1], last], kept)
            else:
                following.setdefault(cut[len(kept)], []).append(cut)
        for layer, group in following.items():
            hidden = crossed(states[-1], at, layer)
            walk((*kept, layer), [*states, stack.block(layer, hidden, batch)], group)

    walk((), [batch.hidden], list(dict.fromkeys(cuts)))
    return found
