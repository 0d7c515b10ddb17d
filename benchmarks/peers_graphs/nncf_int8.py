"""NNCF's post-training quantization of an ONNX file: static int8 with calibration.

    /tmp/edgeprune-peers/nncf/bin/python nncf_int8.py FLOAT.onnx OUT.onnx plain|transformer CALIBRATION.npy

``plain`` is its default; ``transformer`` is what its documentation recommends for attention. Runs
in an environment of its own (`graph_variants.VENVS`). CALIBRATION.npy holds windows (n, samples).
"""

from __future__ import annotations

import sys

import nncf
import numpy as np
import onnx

KINDS = {"plain": None, "transformer": nncf.ModelType.TRANSFORMER}


def main() -> None:
    """Quantize the file given on the command line."""
    source, target, kind, calibration = sys.argv[1:]
    model = onnx.load(source)
    name = model.graph.input[0].name
    windows = np.load(calibration)
    data = nncf.Dataset([{name: window[None]} for window in windows])
    made = nncf.quantize(model, data, subset_size=len(windows), model_type=KINDS[kind])
    onnx.save(made, target)


if __name__ == "__main__":
    main()
