"""Running and rewriting ONNX graphs: sessions on one thread, inner tensors, changed nodes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper

CONTRIBUTED = "com.microsoft"
"""Domain of ONNX Runtime's own operators."""


def open_file(data: bytes) -> Any:
    """Return ONNX Runtime's session of a file, on one thread."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def inner_tensors(
    data: bytes, names: Sequence[str], clips: NDArray[np.float32]
) -> Iterator[dict[str, NDArray[Any]]]:
    """Yield the values of some inner tensors of a graph, clip by clip.

    Parameters
    ----------
    data : bytes
        ONNX file.
    names : sequence of str
        Names of the tensors.
    clips : array of float32, (n, window)
        Inputs.

    """
    model = onnx.load_from_string(data)
    there = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    session = open_file(model.SerializeToString())
    source = session.get_inputs()[0].name
    for clip in clips:
        yield dict(zip(names, session.run(list(names), {source: clip[None]}), strict=True))


def rewritten(
    model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto], added: Iterable[onnx.TensorProto]
) -> bytes:
    """Return the file of a model with other nodes, without unused constants.

    Parameters
    ----------
    model : onnx.ModelProto
        Model; it is changed.
    nodes : sequence of onnx.NodeProto
        All nodes of the new graph, in order.
    added : iterable of onnx.TensorProto
        Additional constants.

    """
    graph = model.graph
    used = {name for node in nodes for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in used]
    del graph.node[:], graph.initializer[:], graph.value_info[:]
    graph.node.extend(nodes)
    graph.initializer.extend([*kept, *added])
    own = any(node.domain == CONTRIBUTED for node in nodes)
    if own and all(domain.domain != CONTRIBUTED for domain in model.opset_import):
        model.opset_import.append(helper.make_opsetid(CONTRIBUTED, 1))
    data: bytes = model.SerializeToString()
    return data
