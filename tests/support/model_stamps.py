"""What a model file says of itself: the inverse of ``model_metadata.stamped``, for tests."""

from __future__ import annotations

import json

import onnx

from edgeprune.export.model_metadata import PREFIX, _description


def read_stamp(data: bytes, format: str) -> dict[str, str]:
    """Return what a model file says of itself; empty if we did not write it."""
    if format == "tflite":
        try:
            found = json.loads(_description(data) or "{}")
        except ValueError:  # the converter's own: "MLIR Converted."
            found = {}
    else:
        found = {entry.key: entry.value for entry in onnx.load_from_string(data).metadata_props}
    return {key.removeprefix(PREFIX): found[key] for key in found if key.startswith(PREFIX)}
