"""Names, shapes and types of a model file's inputs and outputs, from its runtime."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgeprune_device.bundle.external_data import external_problem
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.native_output import capture_native_output

ONNX_TYPES = {"float": "float32"}  # other names are the same as numpy's


@dataclass(frozen=True)
class Tensor:
    """An input or an output of a file."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]
    """None where the file leaves a size open."""
    scale: float = 0.0
    zero_point: int = 0
    """For integers: value = (number - zero_point) * scale."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape without open sizes."""
        return tuple(int(size) for size in self.shape if size is not None)

    def closed(self, size: int) -> Tensor:
        """Return it with its open sizes set: the last one to ``size``, the others to 1."""
        last = max((i for i, held in enumerate(self.shape) if held is None), default=-1)
        filled = tuple(
            held if held is not None else size if place == last else 1
            for place, held in enumerate(self.shape)
        )
        return replace(self, shape=filled)

    def entry(self) -> dict[str, Any]:
        """Return its entry for an adapter in a manifest."""
        steps = {"scale": self.scale, "zero_point": self.zero_point}
        return {"name": self.name, "shape": list(self.sizes), "dtype": self.dtype,
                **({} if self.dtype == "float32" else steps)}  # fmt: skip


def tensors_of(format: str, data: bytes, path: str) -> tuple[list[Tensor], list[Tensor]]:
    """Return a file's inputs and outputs.

    Parameters
    ----------
    format : str
        ``onnx`` or ``tflite``.
    data : bytes
        The file.
    path : str
        Path of the file, for error messages.

    Raises
    ------
    EdgepruneError
        The runtime rejects the file, or it has external weights.

    """
    if problem := external_problem(format, data):
        raise EdgepruneError(f"{path} cannot be wrapped: {problem}.", "Save it as a single file.")
    try:
        return (_onnx if format == "onnx" else _tflite)(data)
    except Exception as error:  # the runtimes' exceptions have no common base
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise EdgepruneError(f"The runtime rejects {path}: {reason}") from None


def _onnx(data: bytes) -> tuple[list[Tensor], list[Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])

    def tensor(found: Any) -> Tensor:
        kind = str(found.type).removeprefix("tensor(").removesuffix(")")
        shape = tuple(size if isinstance(size, int) else None for size in found.shape)
        return Tensor(found.name, ONNX_TYPES.get(kind, kind), shape)

    return [tensor(x) for x in session.get_inputs()], [tensor(x) for x in session.get_outputs()]


def _tflite(data: bytes) -> tuple[list[Tensor], list[Tensor]]:
    from ai_edge_litert.interpreter import Interpreter

    with capture_native_output():
        interpreter = Interpreter(model_content=data, num_threads=1)
        interpreter.allocate_tensors()

    def tensor(found: Any) -> Tensor:
        scale, zero_point = found["quantization"]
        shape = tuple(int(size) for size in found["shape"])
        return Tensor(found["name"], np.dtype(found["dtype"]).name, shape, scale, zero_point)

    return ([tensor(x) for x in interpreter.get_input_details()],
            [tensor(x) for x in interpreter.get_output_details()])  # fmt: skip
