"""Cut a model in two, so that a recorder computes the frames of overlapping windows once.

    front    a chunk of samples -> its frames, exported for the chunk's length
    back     a window's frames -> scores: the deployed file itself, from its seam on

That is exact where a frame hangs on the samples around it and on nothing else. It is measured, not
believed: in double precision, on noise, the frames of a chunk must be those of the window
(``edges_of``); then, on recordings, the two files' scores of overlapping windows must be the
deployed file's (``check``). What is known never to hold is refused in a sentence (``refusal``).

=============================================  =========================================
window scaled to mean 0 and variance 1         refused: every frame changes with the window
group norm over time (wav2vec2-base)           refused: the same
layer norm or none; narrow encoders; stems     exact, every frame
log-mel, MFCC (KWT, AST, CNN14, students)      exact; a reflected edge (Whisper, CNN14) is computed
                                               for every window
Whisper's and wav2vec2-BERT's normalisation    behind the seam, so exact
CLAP                                           refused: the window is repeated
=============================================  =========================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper
from torch import Tensor, nn

from edgeprune import models
from edgeprune.export_onnx import FRAMES, traced
from edgeprune.families import family_of
from edgeprune.hearing import recipe_of
from edgeprune.methods import Method
from edgeprune.onnx_graphs import inside_of, open_file, rewritten
from edgeprune.scopes import Scopes
from edgeprune.seam import Seam, seam_of
from edgeprune.shaping import shape
from edgeprune.strided import FirstConv
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.overlap import Plan, problem_of_incremental

EQUAL = 1e-9  # of frames in double precision, as a share of their size
FILES = {"front": "front.onnx", "back": "back.onnx"}


class Reached(Exception):  # noqa: N818  it is no error
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
        self.model, self.axis, self.step = model, seam.axis, seam.step
        seam.register_forward_hook(self._see)

    def _see(self, _: nn.Module, __: Any, frames: Tensor) -> None:
        self.frames = frames
        raise Reached

    def forward(self, samples: Tensor) -> Tensor:
        """Return the frames; what comes behind them is not run."""
        try:
            models.logits_of(self.model, samples)
        except Reached:
            pass
        return self.frames


@dataclass(frozen=True)
class Halves:
    """The two files of a model, and how their frames lie."""

    plan: Plan
    axis: int
    front: bytes
    back: bytes
    entry: Mapping[str, Any]
    """The manifest's ``model.incremental``."""

    @property
    def files(self) -> dict[str, bytes]:
        """Name in the bundle to content."""
        return {FILES["front"]: self.front, FILES["back"]: self.back}


def refusal(classifier: Any) -> str:
    """Say why a model's frames can never be kept; empty where they may be."""
    config = classifier.config
    if getattr(config, "edgeprune_normalize", False):
        return ("Every window is scaled to zero mean and unit variance before the model hears it, "
                "so that no frame of one window is another's.")  # fmt: skip
    if family_of(config.model_type).frontend and recipe_of(classifier).kind == "clap":
        return "CLAP repeats a window until it fills its picture, so that no frame is another's."
    if family_of(config.model_type).frontend and getattr(classifier.frontend, "room", 0):
        window = getattr(config, "edgeprune_window", 0)
        if recipe_of(classifier).ending == "clamped" and classifier.frontend.room != window:
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


def plan_for(classifier: Any, window_samples: int, hop_samples: int) -> tuple[Plan | None, str]:
    """Return how the frames of a model's windows lie, or why none can be kept.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
    window_samples : int
    hop_samples : int
        The chunk is as long as what is new at this hop, and the edges.

    """
    front, why = fronts_of(classifier, window_samples)
    if front is None:
        return None, why
    step = front.step
    if hop_samples % step:
        return None, (f"A hop of {hop_samples} samples is no multiple of the {step} between two "
                      "frames of this model.")  # fmt: skip
    noise = 0.1 * torch.randn(1, window_samples, generator=torch.Generator().manual_seed(0))
    whole = _frames(front, noise)
    plan = Plan(len(whole), -(-len(whole) // 2), step, window_samples)
    edges = edges_of(chunk_front(classifier, plan.chunk_samples), whole, noise, plan)
    if edges is None:
        return None, "A frame of this model's front end hangs on the whole window."
    left, right = edges
    new = hop_samples // step + left + right
    plan = replace(plan, chunk=new, left=left, right=right)
    if new >= len(whole) or plan.problem:
        return None, f"Windows share too few frames at a hop of {hop_samples} samples."
    return plan, ""


def edges_of(front: Front, whole: Tensor, noise: Tensor, plan: Plan) -> tuple[int, int] | None:
    """Return how many of a chunk's first and last frames are not the window's.

    Parameters
    ----------
    front : Front
        For chunks of ``plan.chunk_samples``.
    whole : Tensor (frames, ...)
        The window's, in double precision.
    noise : Tensor (1, window_samples)
    plan : Plan
        Its chunk has half of the window's frames; a chunk amid the window is compared.

    Returns
    -------
    tuple of int or None
        None: none of its frames is, or one in its middle is not.

    """
    begin = (plan.frames - plan.chunk) // 2
    first = begin * plan.step
    found = _frames(front, noise[:, first : first + plan.chunk_samples])
    wanted = whole[begin : begin + plan.chunk]
    if found.shape != wanted.shape:
        return None
    apart = (found - wanted).abs().flatten(1).amax(dim=1) > EQUAL * wanted.abs().max()
    same = (~apart).nonzero().flatten().tolist()
    if not same or len(same) != same[-1] - same[0] + 1:
        return None
    return same[0], plan.chunk - 1 - same[-1]


def _frames(front: Front, samples: Tensor) -> Tensor:
    """Return frames (frames, ...) in double precision."""
    with torch.inference_mode():
        made: Tensor = front.double()(samples.double())
    front.float()
    return made[0].movedim(front.axis - 1, 0)


def halves_of(
    classifier: Any, data: bytes, plan: Plan, method: Method, scopes: Scopes,
    clips: NDArray[np.float32], opset: int,
) -> tuple[Halves | None, str]:  # fmt: skip
    """Return a deployed file's halves, or why it cannot be cut.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
        What the file was made of.
    data : bytes
        The deployed ONNX file.
    plan : Plan
        As ``plan_for`` returned it.
    method : callable
        How the file was quantized: the front is, too.
    scopes : Scopes
    clips : array (n, window)
        What the method calibrates with.
    opset : int

    """
    front = chunk_front(classifier, plan.chunk_samples)
    raw = traced(front, plan.chunk_samples, [FRAMES], opset)
    made = method(raw, scopes, np.ascontiguousarray(clips[:, : plan.chunk_samples]))
    back, why = back_of(data, clips[:1])
    if not back:
        return None, why
    entry = {
        "step": plan.step, "left": plan.left, "right": plan.right, "axis": front.axis,
        "front": _half("front", made), "back": _half("back", back),
    }  # fmt: skip
    if problem := problem_of_incremental({
        "format": "onnx", "input": {"shape": [1, plan.window_samples]}, "incremental": entry,
    }):  # fmt: skip
        return None, f"It cannot be cut: {problem}."
    return Halves(plan, front.axis, made, back, entry), ""


def back_of(data: bytes, clips: NDArray[np.float32]) -> tuple[bytes, str]:
    """Return a deployed file from its seam on, or nothing and why it cannot be cut there.

    Parameters
    ----------
    data : bytes
        An ONNX file in which a tensor is called ``frames``.
    clips : array (n, window)
        Any: one is run, to see what the tensor is.

    """
    model = onnx.load_from_string(data)
    makers = {name: node for node in model.graph.node for name in node.output}
    if FRAMES not in makers:
        return b"", "The quantized file has no tensor at its front end's end any more."
    wanted, seen = [model.graph.output[0].name], set()
    while wanted:
        name = wanted.pop()
        if name in (*seen, FRAMES):
            continue
        seen.add(name)
        if name == model.graph.input[0].name:
            return b"", "The samples reach its scores by another way than its front end."
        wanted += makers[name].input if name in makers else []
    frames = next(inside_of(data, [FRAMES], clips[:1]))[FRAMES]
    if frames.dtype != np.float32:
        return b"", f"Its frames are no single precision ({frames.dtype})."
    nodes = [node for node in model.graph.node if seen & set(node.output)]
    del model.graph.input[:]
    model.graph.input.append(
        helper.make_tensor_value_info(FRAMES, TensorProto.FLOAT, list(frames.shape))
    )
    return rewritten(model, nodes, ()), ""


def _half(name: str, data: bytes) -> dict[str, Any]:
    """Return a file's entry in the manifest, with the shapes that the runtime finds in it."""
    session = open_file(data)
    sides = {"input": session.get_inputs()[0], "output": session.get_outputs()[0]}
    return {"file": FILES[name], **{
        side: {"name": x.name, "shape": list(x.shape), "dtype": "float32"}
        for side, x in sides.items()
    }}  # fmt: skip
