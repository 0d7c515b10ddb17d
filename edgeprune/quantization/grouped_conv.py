"""int8 positional convolutions for ONNX Runtime: one matrix product per group.

ONNX Runtime has no fast int8 kernel for a grouped convolution with a hundred taps. The input frames
of each output frame are gathered (in int8, so the copies are small), and every group is one matrix
product of a batch:

    y[g, t, :] = scale * (rows[g, t, :] @ W8[g]) * w_scale[g]      rows: taps x channels of a group
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from edgeprune.export.onnx_graph import inner_tensors, rewritten
from edgeprune.quantization.weight_only import to_int8

LEAST_TAPS = 16  # with fewer, the cost of the convolution is negligible


def grouped_int8(data: bytes) -> bytes:
    """Quantize convolutions over time with groups, many taps and a stride of one.

    Parameters
    ----------
    data : bytes
        float32 ONNX file with fixed shapes; returned unchanged if it has no such convolution.

    """
    model = onnx.load_from_string(data)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found = [node for node in model.graph.node if _is_positional(node, tensors)]
    if not found:
        return data
    shape = [size.dim_value for size in model.graph.input[0].type.tensor_type.shape.dim]
    silence = np.zeros(shape, np.float32)  # only the shapes matter
    heard = next(inner_tensors(data, [node.input[0] for node in found], silence))
    nodes: list[onnx.NodeProto] = []
    made: list[onnx.TensorProto] = []
    for node in model.graph.node:
        if any(node is other for other in found):
            new, constants = _product(node, tensors, heard[node.input[0]].shape[2])
            nodes += new
            made += constants
        else:
            nodes.append(node)
    return rewritten(model, nodes, made)


def _is_positional(node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto]) -> bool:
    """Return whether a node is a grouped convolution over one axis, with many taps and stride 1."""
    if node.op_type != "Conv" or node.input[1] not in tensors:
        return False
    given = _attributes(node)
    _, channels, *taps = tensors[node.input[1]].dims
    return (len(taps) == 1 and taps[0] >= LEAST_TAPS and channels > 1 and given.get("group", 1) > 1
            and given.get("strides", [1]) == [1] and given.get("dilations", [1]) == [1])  # fmt: skip


def _product(
    node: onnx.NodeProto, tensors: dict[str, onnx.TensorProto], frames: int
) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """Return nodes and constants in place of a convolution of (1, channels, frames)."""
    given, name = _attributes(node), f"{node.name}/grouped"
    weight = numpy_helper.to_array(tensors[node.input[1]])
    outputs, channels, taps = weight.shape
    groups = given["group"]
    before, after = given.get("pads", [0, 0])
    made = frames + before + after - taps + 1
    matrix = weight.reshape(groups, outputs // groups, channels, taps).transpose(0, 3, 2, 1)
    whole, scale = to_int8(
        matrix.reshape(groups, taps * channels, -1).transpose(1, 0, 2).reshape(taps * channels, -1),
        1,
    )  # one scale per output channel
    whole = whole.reshape(taps * channels, groups, -1).transpose(1, 0, 2)
    reached = np.arange(made)[:, None] + np.arange(taps)[None]
    constants = {
        "weight": whole, "scale": scale.reshape(groups, 1, -1), "reached": reached.reshape(-1),
        "pads": np.array([0, 0, before, 0, 0, after]),
        "apart": np.array([groups, channels, frames + before + after]),
        "rows": np.array([groups, made, taps * channels]), "out": np.array([1, outputs, made]),
    }  # fmt: skip
    if len(node.input) > 2:
        bias = numpy_helper.to_array(tensors[node.input[2]])
        constants["bias"] = bias.reshape(groups, 1, -1)

    def of(part: str) -> str:
        return f"{name}.{part}"

    nodes = [
        helper.make_node("DynamicQuantizeLinear", [node.input[0]], [of("q"), of("step"), of("zero")]),
        helper.make_node("Pad", [of("q"), of("pads"), of("zero")], [of("padded")]),
        helper.make_node("Reshape", [of("padded"), of("apart")], [of("split")]),
        helper.make_node("Transpose", [of("split")], [of("frames")], perm=[0, 2, 1]),
        helper.make_node("Gather", [of("frames"), of("reached")], [of("near")], axis=1),
        helper.make_node("Reshape", [of("near"), of("rows")], [of("near rows")]),
        helper.make_node("MatMulInteger", [of("near rows"), of("weight"), of("zero")], [of("sums")],
                         name=name),
        helper.make_node("Cast", [of("sums")], [of("float")], to=onnx.TensorProto.FLOAT),
        helper.make_node("Mul", [of("step"), of("scale")], [of("both")]),
        helper.make_node("Mul", [of("float"), of("both")], [of("scaled")]),
    ]  # fmt: skip
    last = of("scaled")
    if "bias" in constants:
        nodes.append(helper.make_node("Add", [last, of("bias")], [of("biased")]))
        last = of("biased")
    nodes += [
        helper.make_node("Transpose", [last], [of("channels")], perm=[0, 2, 1]),
        helper.make_node("Reshape", [of("channels"), of("out")], list(node.output)),
    ]
    return nodes, [
        numpy_helper.from_array(np.ascontiguousarray(value), of(part))
        for part, value in constants.items()
    ]


def _attributes(node: onnx.NodeProto) -> dict[str, Any]:
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
