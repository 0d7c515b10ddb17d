"""Finds references to external data in a model file before a runtime loads it.

An ONNX file may name other files that hold its weights. Runtimes have read files through such names
that they should not have (CVE-2022-25882, CVE-2024-27318 and later ones), and for a model loaded
from memory the names are relative to the working directory. A TFLite file may have external buffers
as well. A bundle lists all its files and the model must be complete in one, so both are rejected.
The file's bytes are walked directly: protobuf fields by number and flatbuffer tables, nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5  # protobuf's wire types; groups (3, 4) are rejected
DEEPEST = 100
FIELDS: dict[str, dict[int, str]] = {  # message -> field -> nested message, after onnx.proto3
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
EXTERNAL_DATA, DATA_LOCATION = 13, 14  # fields of a tensor
EXTERNAL_GROUPS, EXTERNAL_BUFFERS = 8, 9  # fields of TFLite's model
MODEL_GRAPH = 7


class _DamagedError(ValueError):
    """The bytes are not a valid protobuf message."""


def external_problem(format: str, data: bytes) -> str:
    """Return the problem of a model file with external data; empty if it has none.

    Parameters
    ----------
    format : str
        ``onnx`` or ``tflite``.
    data : bytes
        Content of the model file.

    Returns
    -------
    str
        The end of a sentence, such as "its model keeps weights in another file (external data)".

    """
    return (_onnx_problem if format == "onnx" else _tflite_problem)(data)


def _onnx_problem(data: bytes) -> str:
    view = memoryview(data)
    waiting = [("model", view, 0)]
    graphs = 0
    try:
        while waiting:
            kind, message, depth = waiting.pop()
            if depth > DEEPEST:
                return "its model is nested too deeply"
            inner = FIELDS[kind]
            for field, wire, value in _fields(message):
                graphs += kind == "model" and field == MODEL_GRAPH
                if kind == "tensor" and (
                    field == EXTERNAL_DATA or (field == DATA_LOCATION and value != 0)
                ):
                    return "its model keeps weights in another file (external data)"
                if field in inner:
                    if wire != BYTES or not isinstance(value, memoryview):
                        return "its model is not an ONNX file"
                    waiting.append((inner[field], value, depth + 1))
    except _DamagedError:
        return "its model is not an ONNX file"
    return "" if graphs == 1 else "its model is not an ONNX file"


def _fields(message: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """Yield (field, wire type, value) of each field of a message."""
    place, length = 0, len(message)
    while place < length:
        key, place = _varint(message, place)
        field, wire = key >> 3, key & 7
        if wire == VARINT:
            value, place = _varint(message, place)
            yield field, wire, value
            continue
        if wire == BYTES:
            size, place = _varint(message, place)
        elif wire in (FIXED32, FIXED64):
            size = 4 if wire == FIXED32 else 8
        else:
            raise _DamagedError
        if field == 0 or place + size > length:
            raise _DamagedError
        yield field, wire, message[place : place + size]
        place += size


def _varint(message: memoryview, place: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if place >= len(message):
            break
        byte = message[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, place
    raise _DamagedError


def _tflite_problem(data: bytes) -> str:
    """Check the root table: identifier TFL3, and no field of external buffers."""
    try:
        if data[4:8] != b"TFL3":
            return "its model is not a TFLite file"
        (root,) = struct.unpack_from("<I", data, 0)
        (back,) = struct.unpack_from("<i", data, root)
        if root < back:
            return "its model is not a TFLite file"
        size, _ = struct.unpack_from("<2H", data, root - back)
        for field in (EXTERNAL_GROUPS, EXTERNAL_BUFFERS):
            slot = 4 + 2 * field
            if slot + 2 <= size and struct.unpack_from("<H", data, root - back + slot)[0]:
                return "its model keeps weights in another file (external buffers)"
    except struct.error:
        return "its model is not a TFLite file"
    return ""
