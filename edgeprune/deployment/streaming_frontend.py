"""A model's front end alone, and whether its frames depend only on the sound around them.

That is measured: in double precision, on noise, the frames of a chunk must equal those of the
window that it is part of (``edges_of``). Known exceptions are rejected with a reason:

=============================================  =========================================
window normalized to mean 0 and variance 1     rejected: all frames depend on the window
group norm over time (wav2vec2-base)           rejected: the same
layer norm or none; narrow encoders; stems     exact, every frame
log-mel, MFCC (KWT, AST, students)             exact, every frame
reflected edges (Whisper, CNN14)               exact; frames at the edge: for every window
Whisper's and wav2vec2-BERT's normalization    after the seam, so exact
CLAP                                           rejected: the window is repeated
=============================================  =========================================
"""

from __future__ import annotations

import contextlib
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.export.model_rewrites import shape
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.models.input_length import spec_of
from edgeprune.nn.split_point import seam_of
from edgeprune.nn.strided_conv import FirstConv
from edgeprune_device.bundle.frame_overlap import FrameOverlap
from edgeprune_device.errors import EdgepruneError

EQUAL = 1e-9  # largest relative difference of frames in double precision
FEWEST_FRAMES = 4  # so that a chunk of half of them lies within the window, away from its edges
LEVELS = (1.0, 10.0, 0.1)
"""Levels of the sound inside a chunk, relative to the sound around it."""


class SeamReached(Exception):
    """Raised to end a model's forward pass at its seam; not an error."""


class Front(nn.Module):
    """A model up to its seam: samples (1, n) to frames.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model as returned by ``model_rewrites.shape``.

    """

    def __init__(self, model: Any) -> None:
        super().__init__()
        seam = seam_of(model)
        if seam is None:
            raise EdgepruneError("This model's front end has no seam.")
        self.model = model
        self.axis, self.step = int(seam.axis), int(seam.step)
        seam.register_forward_hook(self._see)

    def _see(self, _: nn.Module, __: Any, frames: Tensor) -> None:
        self.frames = frames
        raise SeamReached

    def forward(self, samples: Tensor) -> Tensor:
        """Return the frames; the rest of the model is not run."""
        with contextlib.suppress(SeamReached):
            loading.logits_of(self.model, samples)
        return self.frames


def reason_against(classifier: Any) -> str:
    """Return the reason why a model's frames can never be reused; empty if there is none."""
    config = classifier.config
    if getattr(config, "edgeprune_normalize", False):
        return ("Every window is normalized to zero mean and unit variance, so that windows share "
                "no frames.")  # fmt: skip
    if not family_of(config.model_type).frontend:
        return ""
    spec = spec_of(classifier)
    if spec.kind == "clap":
        return "CLAP repeats a window to fill its input, so that windows share no frames."
    window = getattr(config, "edgeprune_window", 0)
    if spec.ending == "clamped" and classifier.frontend.input_size != window:
        return "The window is padded with silence to fill the model's input."
    return ""


def window_front_end(classifier: Any, window_samples: int) -> tuple[Front | None, str]:
    """Return the front end for a window, or why it cannot be separated."""
    if why := reason_against(classifier):
        return None, why
    shaped = shape(classifier, window_samples, "onnx")
    if seam_of(shaped) is None:
        return None, "The end of this model's front end is not known."
    if any(isinstance(part, FirstConv) and part.normed for part in shaped.modules()):
        return None, ("The group norm of its encoder computes mean and variance over the whole "
                      "window, so that windows share no frames.")  # fmt: skip
    return Front(shaped).eval(), ""


def chunk_front(classifier: Any, chunk_samples: int) -> Front:
    """Return the front end for chunks of another length than the window."""
    shaped = shape(classifier, chunk_samples, "onnx")
    if hasattr(shaped, "frontend") and hasattr(shaped.frontend, "input_size"):
        shaped.frontend.input_size = 0  # padding of the window is after the seam, or was rejected
    return Front(shaped).eval()


def plan_for(
    classifier: Any, window_samples: int, hop_samples: int, round_down: bool = False
) -> tuple[FrameOverlap | None, str]:
    """Return how the frames of a model's windows overlap, or why none can be reused.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
        Model.
    window_samples : int
        Samples per window.
    hop_samples : int
        Samples between windows; a chunk consists of the new samples of a hop, and the edges.
    round_down : bool
        Whether the hop may be shortened to a whole number of frames.

    """
    front, why = window_front_end(classifier, window_samples)
    if front is None:
        return None, why
    step = front.step
    if hop_samples % step and not (round_down and hop_samples > step):
        return None, (f"A hop of {hop_samples} samples is not a multiple of the frame step of "
                      f"{step} samples.")  # fmt: skip
    edges = edges_of(classifier, front, window_samples)
    if edges is None:
        return None, ("A frame of this model's front end depends on the whole window, or a window "
                      "has too few frames to tell.")  # fmt: skip
    left, right, frames = edges
    new = hop_samples // step + left + right
    plan = FrameOverlap(frames, new, step, window_samples, left, right)
    if new >= frames or plan.problem:
        return None, f"Windows share too few frames at a hop of {hop_samples} samples."
    return plan, ""


def edges_of(classifier: Any, front: Front, window_samples: int) -> tuple[int, int, int] | None:
    """Return how many first and last frames of a chunk depend on its edges, and frames per window.

    The frames of a chunk within a window of noise must equal the window's frames, in double
    precision, with the surrounding sound equally loud, much louder and much quieter.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
        Model.
    front : Front
        Front end for windows.
    window_samples : int
        Samples per window.

    Returns
    -------
    tuple of int or None
        None: none of the chunk's frames equals the window's, or one in its middle does not, or the
        window is too short to tell.

    """
    noise = 0.1 * torch.randn(1, window_samples, generator=torch.Generator().manual_seed(0))
    frames = len(_frames(front, noise))
    if frames < FEWEST_FRAMES:
        return None
    plan = FrameOverlap(frames, -(-frames // 2), front.step, window_samples)
    begin = (frames - plan.chunk) // 2
    amid = slice(begin * plan.step, begin * plan.step + plan.chunk_samples)
    chunk, left, right = chunk_front(classifier, plan.chunk_samples), 0, 0
    for level in LEVELS:
        sound = noise.clone()
        sound[:, amid] *= level
        found, wanted = _frames(chunk, sound[:, amid]), _frames(front, sound)
        wanted = wanted[begin : begin + plan.chunk]
        if found.shape != wanted.shape:
            return None
        apart = (found - wanted).abs().flatten(1).amax(dim=1)
        same = (apart <= EQUAL * wanted.abs().max()).nonzero().flatten().tolist()
        if not same or len(same) != same[-1] - same[0] + 1:
            return None
        left, right = max(left, same[0]), max(right, plan.chunk - 1 - same[-1])
    return left, right, frames


def _frames(front: Front, samples: Tensor) -> Tensor:
    """Return frames (frames, ...) in double precision."""
    with torch.inference_mode():
        made: Tensor = front.double()(samples.double())
    return made[0].movedim(front.axis - 1, 0)
