"""Ways to spoil a bundle, by the thousand: each changes bytes, says what kind it was, and is undone."""

from __future__ import annotations

import copy
import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import open_model

BLOCK = 4096
Spoilt = tuple[str, bytes]


def flips(data: bytes, places: Iterator[tuple[int, int]]) -> Iterator[Spoilt]:
    """Yield the data with one bit flipped, for each (byte, bit)."""
    for place, bit in places:
        changed = bytearray(data)
        changed[place] ^= 1 << bit
        yield "bit flipped", bytes(changed)


def all_bits(first: int, last: int) -> Iterator[tuple[int, int]]:
    return ((place, bit) for place in range(first, last) for bit in range(8))


def some_bits(length: int, count: int, seed: int) -> Iterator[tuple[int, int]]:
    generator = np.random.default_rng(seed)
    return ((int(generator.integers(length)), int(generator.integers(8))) for _ in range(count))


def other_damage(data: bytes, count: int, seed: int) -> Iterator[Spoilt]:
    """Yield truncations, zeroed blocks, bursts, and what was added; never the data itself."""
    generator = np.random.default_rng(seed)
    for length in {0, 1, len(data) - 1, *generator.integers(0, len(data), count).tolist()}:
        yield "cut off", data[:length]
    starts = range(0, len(data), BLOCK)
    for start in starts if len(starts) <= count else generator.choice(starts, count, replace=False):
        block = data[start : start + BLOCK]
        if any(block):
            yield "4-KiB block zeroed", data[:start] + bytes(len(block)) + data[start + BLOCK :]
    for _ in range(count):
        start = int(generator.integers(len(data)))
        burst = generator.bytes(int(generator.integers(1, 64)))[: len(data) - start]
        changed = data[:start] + burst + data[start + len(burst) :]
        if changed != data:
            yield "burst of noise", changed
    for length in (1, 7, BLOCK):
        yield "bytes added", data + generator.bytes(length)


class Spoiler:
    """Tries spoilt bundles one after another and counts what became of them."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.accepted: list[str] = []

    def try_one(self, path: Path, kind: str) -> None:
        """Read a bundle and open its model, as listen does; only a refusal in a sentence counts."""
        self.counts[kind] += 1
        try:
            open_model(read_bundle(path))
        except EdgepruneError as error:
            assert error.status == 2, error  # noqa: PT017
            return
        self.accepted.append(f"{kind} {path.name}")

    def try_all(self, path: Path, file: Path, spoilt: Iterator[Spoilt]) -> None:
        """Put each content in a file's place, try the bundle, and put the file back."""
        whole = file.read_bytes()
        with file.open("r+b") as opened:
            for kind, data in spoilt:
                assert data != whole
                opened.seek(0)
                opened.write(data)
                opened.truncate(len(data))
                opened.flush()
                self.try_one(path, kind)
            opened.seek(0)
            opened.write(whole)
            opened.truncate(len(whole))


@contextmanager
def no_parser() -> Iterator[None]:
    """Have every runtime fail the test if it is given a byte."""
    import ai_edge_litert.interpreter
    import onnxruntime

    def parse(*_: object, **__: object) -> None:
        raise AssertionError("a parser saw it")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnxruntime, "InferenceSession", parse)
        patch.setattr(ai_edge_litert.interpreter, "Interpreter", parse)
        yield


STRANGE: tuple[Any, ...] = (None, [], {}, "x", -1, 0, 1.5, True, "\u0000", [[]], {"x": 1}, 10**400,
                            float("nan"), float("inf"), ...)  # fmt: skip


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to every entry of a manifest, however deep."""
    keys = (
        value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    )
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def strange_manifests(manifest: dict[str, Any], under: tuple[str, ...] = ()) -> Iterator[Any]:
    """Yield the manifest with one entry (below ``under``) taken out, or of another kind or size."""
    for *way, last in places(manifest):
        if tuple(way[: len(under)]) != under:
            continue
        for value in STRANGE:
            changed = copy.deepcopy(manifest)
            held: Any = changed
            for key in way:
                held = held[key]
            if value is ...:
                del held[last]
            else:
                held[last] = value
            yield changed


def entry(
    name: bytes, data: bytes = b"x", *, flags: int = 0, method: int = 0, mode: int = 0o100644,
    crc: int | None = None, size: int | None = None, packed: int | None = None, extra: bytes = b"",
    local_name: bytes | None = None, version: int = 20, content: bytes | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Describe a member of a zip, truly unless told otherwise; ``content`` is what is stored."""
    if content is None:
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        content = packer.compress(data) + packer.flush() if method == 8 else data
    return {
        "name": name, "local": name if local_name is None else local_name, "content": content,
        "flags": flags, "method": method, "mode": mode, "extra": extra, "version": version,
        "crc": zlib.crc32(data) if crc is None else crc, "size": len(data) if size is None else size,
        "packed": len(content) if packed is None else packed,
    }  # fmt: skip


def zip_of(
    entries: list[dict[str, Any]], *, between: bytes = b"", before: bytes = b"", after: bytes = b"",
    comment: bytes = b"", change: Callable[[list[int]], None] = lambda offsets: None,
) -> bytes:  # fmt: skip
    """Lay out a zip by hand, lies and all; ``change`` may move where members are said to begin."""
    body, offsets = bytearray(before), []
    for e in entries:
        offsets.append(len(body))
        shared = (e["version"], e["flags"], e["method"], 0, 0x21, e["crc"], e["packed"], e["size"])
        body += b"PK\x03\x04" + struct.pack("<5H3I2H", *shared, len(e["local"]), len(e["extra"]))
        body += e["local"] + e["extra"] + e["content"] + between
    change(offsets)
    directory = bytearray()
    for e, offset in zip(entries, offsets, strict=True):
        shared = (e["version"], e["flags"], e["method"], 0, 0x21, e["crc"], e["packed"], e["size"])
        directory += b"PK\x01\x02" + struct.pack(
            "<6H3I5H2I", 3 << 8 | 20, *shared, len(e["name"]), len(e["extra"]), 0, 0, 0,
            e["mode"] << 16, offset,
        ) + e["name"] + e["extra"]  # fmt: skip
    end = (0, 0, len(entries), len(entries), len(directory), len(body), len(comment))
    return bytes(body + directory + b"PK\x05\x06" + struct.pack("<4H2IH", *end) + comment + after)
