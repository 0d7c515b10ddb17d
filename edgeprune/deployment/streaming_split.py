"""Splitting a model's file in two, so that overlapping windows share the front end's frames.

front    a chunk of samples -> its frames: exported for the chunk's length, quantized alike
back     a window's frames -> scores: the deployed file itself, from its seam on
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from edgeprune.deployment.streaming_frontend import chunk_front
from edgeprune.export.onnx import FRAMES, traced
from edgeprune.export.onnx_graph import inner_tensors, open_file, rewritten
from edgeprune.quantization.methods import Method
from edgeprune.quantization.module_scopes import Scopes
from edgeprune_device.bundle.frame_overlap import FrameOverlap, problem_of_incremental

FILES = {"front": "front.onnx", "back": "back.onnx"}


@dataclass(frozen=True)
class Halves:
    """The two files of a model, and how their frames overlap."""

    plan: FrameOverlap
    axis: int
    front: bytes
    back: bytes
    entry: Mapping[str, Any]
    """``model.incremental`` of the manifest."""

    @property
    def files(self) -> dict[str, bytes]:
        """Name in the bundle -> content."""
        return {FILES["front"]: self.front, FILES["back"]: self.back}


def halves_of(
    classifier: Any, data: bytes, plan: FrameOverlap, method: Method, scopes: Scopes,
    clips: NDArray[np.float32], opset: int,
) -> tuple[Halves | None, str]:  # fmt: skip
    """Return a deployed file's halves, or why it cannot be split.

    Parameters
    ----------
    classifier : transformers.PreTrainedModel
        Model that the file was made from.
    data : bytes
        The deployed ONNX file.
    plan : FrameOverlap
        Result of ``streaming_frontend.plan_for``.
    method : callable
        Quantization method of the file, used for the front, too.
    scopes : Scopes
        Modules that are quantized separately.
    clips : array (n, window)
        Calibration windows of the method.
    opset : int
        ONNX operator set.

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
        return None, f"It cannot be split: {problem}."
    return Halves(plan, front.axis, made, back, entry), ""


def back_of(data: bytes, clips: NDArray[np.float32]) -> tuple[bytes, str]:
    """Return a deployed file from its seam on, or nothing and why it cannot be split there.

    Parameters
    ----------
    data : bytes
        ONNX file with a tensor named ``frames``.
    clips : array (n, window)
        Any windows; one is run to find the type of the tensor.

    """
    model = onnx.load_from_string(data)
    makers = {name: node for node in model.graph.node for name in node.output}
    if FRAMES not in makers:
        return b"", "The quantized file no longer has a tensor at the end of its front end."
    wanted = [model.graph.output[0].name]
    seen: set[str] = set()
    while wanted:
        name = wanted.pop()
        if name in (*seen, FRAMES):
            continue
        seen.add(name)
        if name == model.graph.input[0].name:
            return b"", "Its scores depend on the samples not only through its front end."
        wanted += makers[name].input if name in makers else []
    frames = next(inner_tensors(data, [FRAMES], clips[:1]))[FRAMES]
    if frames.dtype != np.float32:
        return b"", f"Its frames are not in single precision ({frames.dtype})."
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
