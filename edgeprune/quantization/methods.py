"""Table of all quantization methods, by file format and name.

============  ==============================================  =========================================
name          onnx                                            tflite
============  ==============================================  =========================================
``none``      as exported                                     as exported
``dynamic``   int8 products, one scale per window or frame    int8 products and convolutions
``weights``   stored in 8 bits, computed in float             the same
``weights4``  products in 4 bits, one scale per 32 weights    fully connected in 4 bits, per channel
``half``      computed and stored in half precision           stored in half precision
``static``    int8 products, fixed ranges                     the same
============  ==============================================  =========================================
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantization import int4_fp16_onnx, tflite
from edgeprune.quantization.activation_ranges import CHOICE
from edgeprune.quantization.dynamic_onnx import to_int8
from edgeprune.quantization.module_scopes import Scopes
from edgeprune.quantization.static_onnx import static_onnx
from edgeprune.quantization.weight_only import store_int8
from edgeprune_device.errors import EdgepruneError

Method = Callable[[bytes, Scopes, NDArray[np.float32]], bytes]
"""(float32 file, scopes treated separately, calibration windows (n, window)) -> file."""

METHODS: dict[str, dict[str, Method]] = {
    "onnx": {
        "none": lambda data, scopes, clips: data,
        "dynamic": lambda data, scopes, clips: to_int8(
            data, scopes.float_scopes, scopes.row_scopes
        ),
        "weights": lambda data, scopes, clips: store_int8(data, scopes.float_scopes),
        "weights4": int4_fp16_onnx.weights4,
        "half": int4_fp16_onnx.half,
        "static": static_onnx,
    },
    "tflite": {
        "none": lambda data, scopes, clips: data,
        "dynamic": tflite.dynamic,
        "weights": tflite.weights,
        "weights4": tflite.weights4,
        "half": tflite.half,
        "static": tflite.static,
    },
}
"""Format -> name -> method."""
CALIBRATED = {"onnx": static_onnx, "tflite": tflite.static}
"""Format -> method that uses calibration windows."""


def method_of(form: str, name: str, calibrate: str = CHOICE) -> Method:
    """Return a method of a format.

    Parameters
    ----------
    form : str
        ``onnx`` or ``tflite``.
    name : str
        Name of the method.
    calibrate : str
        How ``static`` chooses ranges: a key of ``clipping_ranges.METHODS``.

    Raises
    ------
    EdgepruneError
        The format or the method is not known.

    """
    if form not in METHODS:
        raise EdgepruneError(f"File format {form!r} is not known.", f"Known: {', '.join(METHODS)}.")
    if name not in METHODS[form]:
        raise EdgepruneError(
            f"quantize.method = {name!r} is not known for {form} files.",
            f"Known: {', '.join(METHODS[form])}.",
        )
    return (
        partial(CALIBRATED[form], calibrate=calibrate) if name == "static" else METHODS[form][name]
    )
