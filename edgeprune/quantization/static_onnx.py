"""Static int8 for ONNX Runtime: fixed activation ranges, from calibration clips.

MatMul and Gemm with constant weights: int8 per channel, activations in uint8. Products in a
family's row scopes keep one scale per frame (``per_token``), because a single range for the quiet
and the loud frames of a waveform encoder loses accuracy. Outputs of products have a range, too:
with float outputs, ONNX Runtime has no integer kernel, and multiplies in float with weights that it
unpacks for every window (25 ms against 10).
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import TensorData, TensorsData, save_tensors_data

from edgeprune.export.onnx_graph import inner_tensors
from edgeprune.quantization.activation_ranges import CHOICE, check_choice, checked, ranges_of
from edgeprune.quantization.dynamic_onnx import INT8_OPERATORS, no_advice
from edgeprune.quantization.module_scopes import Scopes, inside
from edgeprune.quantization.per_token import per_token_int8

OPTIONS = {"MatMulConstBOnly": True}


def static_onnx(
    data: bytes, scopes: Scopes, clips: NDArray[np.float32], calibrate: str = CHOICE
) -> bytes:
    """Quantize matrix products to int8 with fixed activation ranges.

    Parameters
    ----------
    data : bytes
        float32 ONNX file.
    scopes : Scopes
        Modules treated separately.
    clips : array of float32, (n, window)
        Calibration windows, -1 to 1.
    calibrate : str
        How ranges are chosen: a key of ``clipping_ranges.METHODS``.

    Raises
    ------
    EdgepruneError
        The clips are not usable (``activation_ranges.checked``).

    """
    check_choice(calibrate)
    model = onnx.load_from_string(data)
    window = model.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    clips = checked(clips, window)
    del model.graph.value_info[:]  # stale shapes make the quantizer's own inference fail
    constants = {tensor.name for tensor in model.graph.initializer}
    products = [
        node for node in model.graph.node if node.op_type in INT8_OPERATORS
        and node.input[1] in constants and not inside(node.name, (*scopes.float_scopes, *scopes.row_scopes))
    ]  # fmt: skip
    if not products:
        return per_token_int8(data, scopes.row_scopes)
    names = sorted({name for node in products for name in (node.input[0], node.output[0])})
    known = ranges_of(inner_tensors(data, names, clips), calibrate)
    table = TensorsData(CalibrationMethod.MinMax, {
        name: TensorData(lowest=np.array(r.low, np.float32), highest=np.array(r.high, np.float32))
        for name, r in known.items()
    })  # fmt: skip
    with tempfile.TemporaryDirectory() as folder, no_advice():
        target, cache = Path(folder) / "static.onnx", Path(folder) / "ranges.json"
        save_tensors_data(table, cache)
        quantize_static(
            model, target, calibration_cache_path=cache, quant_format=QuantFormat.QDQ,
            op_types_to_quantize=INT8_OPERATORS, nodes_to_quantize=[x.name for x in products],
            per_channel=True, activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax, extra_options=OPTIONS,
        )  # fmt: skip
        return per_token_int8(target.read_bytes(), scopes.row_scopes)
