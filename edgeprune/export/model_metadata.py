"""Metadata in a model file, and the oldest runtime that can run it.

ONNX has ``metadata_props``. TFLite has one string, the model's description, which holds JSON here:
it is appended to the file and the offset to it is changed in place, so that no weight moves (the
runtimes need weights aligned to 16 bytes, which repacking the file in Python would not preserve).
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import onnx
import onnxruntime

from edgeprune_device.errors import EdgepruneError

PREFIX = "edgeprune."
KEYS = ("name", "version", "labels", "sample_rate")
ORT_FOR_OPSET = {17: "1.12", 18: "1.14", 19: "1.15", 20: "1.17", 21: "1.18"}
"""Operator set -> first ONNX Runtime with it (onnxruntime.ai, "ONNX Runtime compatibility")."""
ORT_FOR_IR = {8: "1.10", 9: "1.16", 10: "1.18"}
"""Version of the file format -> first ONNX Runtime that reads it (the same table)."""
LITERT = "2.1"  # oldest supported ai-edge-litert
DESCRIPTION = 10  # byte offset in the vtable of a TFLite model: field 3


def stamp_of(manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata of a bundle's model file: ``KEYS``, all as strings."""
    return {
        "name": str(manifest["name"]),
        "version": str(manifest["edgeprune_version"]),
        "labels": json.dumps(manifest["labels"], ensure_ascii=False),
        "sample_rate": str(manifest["audio"]["sample_rate"]),
    }


def stamped(data: bytes, format: str, stamp: Mapping[str, str]) -> bytes:
    """Return a model file with metadata; what it computes does not change.

    Parameters
    ----------
    data : bytes
        Model file.
    format : str
        ``onnx`` or ``tflite``.
    stamp : mapping of str to str
        Metadata, see ``stamp_of``.

    """
    facts = {PREFIX + key: value for key, value in stamp.items()}
    if format == "tflite":
        return _described(data, json.dumps(facts, ensure_ascii=False))
    model = onnx.load_from_string(data)
    others = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, others | facts)
    written: bytes = model.SerializeToString()
    return written


def runtime_needed(data: bytes, format: str) -> str:
    """Return the oldest runtime that runs a file, such as ``onnxruntime>=1.14``.

    For an operator set that the tables do not list, or Microsoft's own operators, it is the version
    installed here.
    """
    if format == "tflite":
        return f"ai-edge-litert>={LITERT}"
    model = onnx.load_from_string(data)
    here = ".".join(onnxruntime.__version__.split(".")[:2])
    needs = [ORT_FOR_IR.get(model.ir_version, here)]
    for used in model.opset_import:
        known = ORT_FOR_OPSET.get(used.version, here) if used.domain in ("", "ai.onnx") else here
        needs.append(known)
    return f"onnxruntime>={max(needs, key=lambda v: [int(part) for part in v.split('.')])}"


def _described(data: bytes, text: str) -> bytes:
    slot = _description_slot(data)
    start = -(-len(data) // 4) * 4
    encoded = text.encode("utf-8")
    file = bytearray(data) + bytes(start - len(data))
    struct.pack_into("<I", file, slot, start - slot)
    return bytes(file + struct.pack("<I", len(encoded)) + encoded + b"\0")


def _description(data: bytes) -> str:
    slot = _description_slot(data)
    start = slot + struct.unpack_from("<I", data, slot)[0]
    length = struct.unpack_from("<I", data, start)[0]
    return data[start + 4 : start + 4 + length].decode("utf-8", "replace")


def _description_slot(data: bytes) -> int:
    """Return the position of the offset to a TFLite file's description (flatbuffers internals)."""
    if data[4:8] != b"TFL3":
        raise EdgepruneError("The file is not a TFLite file.")
    root = struct.unpack_from("<I", data, 0)[0]
    vtable = root - struct.unpack_from("<i", data, root)[0]
    size = struct.unpack_from("<H", data, vtable)[0]
    field = struct.unpack_from("<H", data, vtable + DESCRIPTION)[0] if size > DESCRIPTION else 0
    if not field:
        raise EdgepruneError("This TFLite file has no field for a description.")
    return int(root + field)
