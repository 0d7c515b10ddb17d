"""A model's front end alone, and whether its frames hang on nothing but the sound around them.

That is measured, not believed: in double precision, on noise, the frames of a chunk must be those
of the window that it is part of (``edges_of``). What is known never to hold is refused in a
sentence:

=============================================  =========================================
window scaled to mean 0 and variance 1         refused: every frame changes with the window
group norm over time (wav2vec2-base)           refused: the same
layer norm or none; narrow encoders; stems     exact, every frame
log-mel, MFCC (KWT, AST, students)             exact, every frame
edges reflected (Whisper, CNN14)               exact; the edge's frames are made for every window
Whisper's and wav2vec2-BERT's normalisation    behind the seam, so exact
CLAP                                           refused: the window is repeated
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

EQUAL = 1e-9  # of frames in double precision, as a share of their size
FEWEST_FRAMES = 4  # a chunk of half of them lies amid the window, away from both edges
LEVELS = (1.0, 10.0, 0.1)
"""Of the sound inside a chunk, where the sound around it has 1."""


class Reached(Exception):
    """Ends a model's run at its seam."""


class Front(nn.Module):
    """A model up to its seam: samples (1, n) to frames.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        As ``shape`` returns it.

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
        raise Reached

    def forward(self, samples: Tensor) -> Tensor:
        """Return the frames; what comes behind them is not run."""
        with contextlib.suppress(Reached):
            loading.logits_of(self.model, samples)
        return self.frames


def refusal(classifier: Any) -> str:
    """Say why a model's frames can never be kept; empty where they may be."""
    config = classifier.config
    if getattr(config, "edgeprune_normalize", False):
        return ("Every window is scaled to zero mean and unit variance before the model hears it, "
                "so that no frame of one window is another's.")  # fmt: skip
    if not family_of(config.model_type).frontend:
        return ""
    spec = spec_of(classifier)
    if spec.kind == "clap":
        return "CLAP repeats a window until it fills its picture, so that no frame is another's."
    window = getattr(config, "edgeprune_window", 0)
    if spec.ending == "clamped" and classifier.frontend.room != window:
        return "The window is filled up with silence before the model hears it."
    return ""


def fronts_of(classifier: Any, window_samples: int) -> tuple[Front | None, str]:
    """Return a window's front end, or why there is none that can be cut off."""
    if why := refusal(classifier):
        return None, why
    shaped = shape(classifier, window_samples, "onnx")
    if seam_of(shaped) is None:
        return None, "It is not known where this model's front end ends."
    if any(isinstance(part, FirstConv) and part.normed for part in shaped.modules()):
        return None, ("The group norm of its encoder takes mean and variance over the whole window, "
                      "so that no frame of one window is another's.")  # fmt: skip
    return Front(shaped).eval(), ""


def chunk_front(classifier: Any, chunk_samples: int) -> Front:
    """Return the front end for stretches of another length than the window."""
    shaped = shape(classifier, chunk_samples, "onnx")
    if hasattr(shaped, "frontend") and hasattr(shaped.frontend, "room"):
        shaped.frontend.room = 0  # what fills up the window stands behind the seam, or is refused
    return Front(shaped).eval()


def plan_for(
    classifier: Any, window_samples: int, hop_samples: int, round_down: bool = False
) -> tuple[FrameOverlap | None, str]:
    """Return how the frames of a model's windows lie, or why none can be kept.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
    window_samples : int
    hop_samples : int
        The chunk is as long as what is new at this hop, and the edges.
    round_down : bool
        A hop that is no whole number of frames may become the shorter one that is.

    """
    front, why = fronts_of(classifier, window_samples)
    if front is None:
        return None, why
    step = front.step
    if hop_samples % step and not (round_down and hop_samples > step):
        return None, (f"A hop of {hop_samples} samples is no multiple of the {step} between two "
                      "frames of this model.")  # fmt: skip
    edges = edges_of(classifier, front, window_samples)
    if edges is None:
        return None, ("A frame of this model's front end hangs on the whole window, or a window has "
                      "too few to tell.")  # fmt: skip
    left, right, frames = edges
    new = hop_samples // step + left + right
    plan = FrameOverlap(frames, new, step, window_samples, left, right)
    if new >= frames or plan.problem:
        return None, f"Windows share too few frames at a hop of {hop_samples} samples."
    return plan, ""


def edges_of(classifier: Any, front: Front, window_samples: int) -> tuple[int, int, int] | None:
    """Return how many of a stretch's first and last frames hang on its edges, and a window's frames.

    A chunk amid a window of noise must have the window's frames, in double precision, be the
    sound around it as loud, much louder or much quieter.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
    front : Front
        For windows.
    window_samples : int

    Returns
    -------
    tuple of int or None
        None: none of the chunk's frames is the window's, or one in its middle is not, or the
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
