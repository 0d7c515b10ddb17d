"""int8 products with one scale per frame (per-token quantization), for ONNX Runtime.

ONNX Runtime's dynamic quantization has one scale for all frames of a window. In a waveform encoder,
loud frames are a hundred times larger than quiet ones, whose values then round to very few levels:
5 % of the decisions change (see docs/explanation/int8-convolutions.md). Here a product becomes

    scale[t] = max |x[t, :]|        one per row (frame)
    y[t, :]  = scale[t] * (round(127 x[t, :] / scale[t]) @ W8) * w_scale / 127

with W8 the weights in int8 and w_scale one per column, as in LiteRT's fully connected layers. Rows
that are used by several products are quantized once; slices are taken of the int8 rows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from edgeprune.export.onnx_graph import CONTRIBUTED, rewritten
from edgeprune.quantization.module_scopes import inside
from edgeprune.quantization.weight_only import to_int8

ZERO = 128  # middle of uint8, whose kernels are the fast ones on x86, and equally fast on ARM
LEVELS = 127
TINY = 1e-6  # least scale, for a row of zeros
LAST_AXIS = -1


def per_token_int8(data: bytes, scopes: Sequence[str]) -> bytes:
    """Quantize the matrix products of some modules, with one scale per row of their input.

    Parameters
    ----------
    data : bytes
        float32 ONNX file.
    scopes : sequence of str
        Modules whose products are quantized.

    """
    model = onnx.load_from_string(data)
    graph = _Graph(model.graph)
    nodes: list[onnx.NodeProto] = []
    for node in model.graph.node:
        if (
            inside(node.name, scopes)
            and node.op_type == "MatMul"
            and graph.is_matrix(node.input[1])
        ):
            nodes += graph.product(node)
        else:
            nodes.append(node)
    if not graph.made:
        return data
    return rewritten(model, nodes, graph.constants.values())


class _Graph:
    """State of a graph while its products are rewritten."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self.tensors = {tensor.name: tensor for tensor in graph.initializer}
        self.makers = {name: node for node in graph.node for name in node.output}
        self.made: dict[str, tuple[str, str]] = {}
        """Activation -> names of its rows in uint8 and of their scales."""
        self.constants: dict[str, onnx.TensorProto] = {}

    def is_matrix(self, name: str) -> bool:
        return name in self.tensors and len(self.tensors[name].dims) == 2

    def constant(self, name: str, value: NDArray[np.generic]) -> str:
        self.constants[name] = numpy_helper.from_array(np.ascontiguousarray(value), name)
        return name

    def product(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the nodes in place of a float product."""
        nodes: list[onnx.NodeProto] = []
        rows, scale = self.rows(node.input[0], nodes)
        whole, columns = to_int8(numpy_helper.to_array(self.tensors[node.input[1]]), axis=1)
        name = f"{node.name}/rows"
        weight = self.constant(f"{name}.weight", whole)
        per_column = self.constant(f"{name}.scale", columns.reshape(-1))
        zero = self.constant(f"{name}.zero", np.zeros(whole.shape[1], np.int8))
        step, middle = self._step(), self._middle()
        nodes.append(helper.make_node(
            "MatMulIntegerToFloat", [rows, weight, step, per_column, middle, zero], [f"{name}.float"],
            domain=CONTRIBUTED, name=name,
        ))  # fmt: skip
        nodes.append(helper.make_node("Mul", [f"{name}.float", scale], list(node.output)))
        return nodes

    def rows(self, name: str, nodes: list[onnx.NodeProto]) -> tuple[str, str]:
        """Return names of an activation's uint8 rows and scales; append their nodes when new."""
        if name in self.made:
            return self.made[name]
        maker = self.makers.get(name)
        if maker is not None and maker.op_type == "Slice":
            rows, scale = self.rows(maker.input[0], nodes)
            rest = list(maker.input[1:])
            nodes.append(helper.make_node("Slice", [rows, *rest], [f"{name}.rows"]))
            if not self._cuts_columns(maker):
                nodes.append(helper.make_node("Slice", [scale, *rest], [f"{name}.scale"]))
                scale = f"{name}.scale"
            self.made[name] = f"{name}.rows", scale
            return self.made[name]
        axis = self.constant("row_axis", np.array([LAST_AXIS], np.int64))
        tiny = self.constant("row_tiny", np.array(TINY, np.float32))
        nodes += [
            helper.make_node("Abs", [name], [f"{name}.size"]),
            helper.make_node("ReduceMax", [f"{name}.size", axis], [f"{name}.most"], keepdims=1),
            helper.make_node("Max", [f"{name}.most", tiny], [f"{name}.scale"]),
            helper.make_node("Div", [name, f"{name}.scale"], [f"{name}.unit"]),
            helper.make_node("QuantizeLinear", [f"{name}.unit", self._step(), self._middle()],
                             [f"{name}.rows"]),
        ]  # fmt: skip
        self.made[name] = f"{name}.rows", f"{name}.scale"
        return self.made[name]

    def _cuts_columns(self, node: onnx.NodeProto) -> bool:
        """Return whether a slice is along the last axis of (1, rows, columns), keeping all rows."""
        return self._values(node.input[3]).tolist() in ([2], [-1])

    def _values(self, name: str) -> NDArray[np.int64]:
        if name in self.tensors:
            return np.asarray(numpy_helper.to_array(self.tensors[name]))
        attribute = next(a for a in self.makers[name].attribute if a.name == "value")
        return np.asarray(numpy_helper.to_array(attribute.t))

    def _step(self) -> str:
        return self.constant("row_step", np.array(1 / LEVELS, np.float32))

    def _middle(self) -> str:
        return self.constant("row_middle", np.array(ZERO, np.uint8))
