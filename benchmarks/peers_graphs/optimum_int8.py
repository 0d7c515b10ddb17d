"""optimum's dynamic int8, as its users make it: ORTQuantizer with one of its own configurations.

    /tmp/edgeprune-peers/optimum/bin/python optimum_int8.py FLOAT.onnx OUT.onnx avx512_vnni

Runs in an environment of its own (`graph_variants.VENVS`), because optimum-onnx 0.1.0 pins
transformers < 4.58.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from optimum.onnxruntime import ORTQuantizer
from optimum.onnxruntime.configuration import AutoQuantizationConfig


def main() -> None:
    """Quantize the file given on the command line."""
    source, target, preset = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    config = getattr(AutoQuantizationConfig, preset)(is_static=False, per_channel=True)
    with tempfile.TemporaryDirectory() as folder:
        quantizer = ORTQuantizer.from_pretrained(source.parent, file_name=source.name)
        quantizer.quantize(save_dir=folder, quantization_config=config)
        made = Path(folder) / f"{source.stem}_quantized.onnx"
        shutil.move(made, target)


if __name__ == "__main__":
    main()
