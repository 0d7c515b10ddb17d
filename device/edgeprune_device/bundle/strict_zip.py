"""Reads zips of bundles strictly, from memory, and writes sealed ones.

A zip stores most facts twice, and programs differ in which of the two they believe. Here the
central directory and each member's local header must agree; members follow one another from the
first byte to the directory with nothing between, before or after; a member is stored or deflated,
not encrypted, not streamed, not a link, not Zip64. Nothing is ever written to disk.

``pack`` also writes the SHA-256 of everything before it as the zip's comment, so that a sealed zip
with any changed byte is rejected; in other zips, a byte that changes no member (a date, a
permission) does not change the bundle. After PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.4.
"""

from __future__ import annotations

import hashlib
import stat
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass

LOCAL, CENTRAL, END = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
LOCAL_REST = struct.Struct("<5H3I2H")  # after the signature
CENTRAL_REST = struct.Struct("<6H3I5H2I")
END_REST = struct.Struct("<4H2IH")
SEAL = b"edgeprune sha256 "
SEAL_BYTES = len(SEAL) + 64
STORED, DEFLATED = 0, 8
ENCRYPTED, STREAMED, HARMLESS = (
    0x0041,
    0x0008,
    0x0806,
)  # HARMLESS: UTF-8 names, deflate's compression level
REFUSED_EXTRAS = {0x0001: "Zip64", 0x7075: "a second name", 0x9901: "encrypted"}
MOST_ENTRIES = 2000
MOST_RATIO, SMALL = 200, 1 << 20  # model weights shrink by half; small files may be all zeros
NOON = (0, 0x21)  # DOS time and date of 1980-01-01: fixed, so that zips are reproducible


class BadZipError(ValueError):
    """A problem of a zip; the message is the end of a sentence."""


@dataclass(frozen=True)
class Member:
    """A compressed file in a zip."""

    name: str
    method: int
    crc: int
    size: int
    """Claimed size in bytes after unpacking."""
    packed: memoryview
    """Bytes in the zip."""


def members_of(data: bytes) -> tuple[dict[str, Member], set[str]]:
    """Return a zip's files by name, and the names of its folders.

    Raises
    ------
    BadZipError
        It is not a zip, or not of the plain kind that this module describes.

    """
    directory, end, count = _end_of(data)
    files: dict[str, Member] = {}
    folders: set[str] = set()
    spans: list[tuple[int, int]] = []
    place = directory
    for _ in range(count):
        member, place, span = _member(data, place, end)
        if member.name in files or member.name in folders:
            raise BadZipError(f"the zip contains {member.name!r} twice")
        spans.append(span)
        if member.name.endswith("/"):
            folders.add(member.name)
        else:
            files[member.name] = member
    if place != end:
        raise BadZipError("the zip's directory is longer than its entries")
    expected = 0
    for first, last in sorted(spans):
        if first != expected:
            raise BadZipError("the zip's members overlap, or have bytes between them")
        expected = last
    if expected != directory:
        raise BadZipError("the zip has bytes that belong to no member")
    return files, {name.rstrip("/") for name in folders}


def unpack(member: Member, most: int) -> bytes:
    """Return a member's content, or its first ``most`` + 1 bytes if it is longer.

    Raises
    ------
    BadZipError
        It cannot be unpacked, does not have the claimed size, or its checksum differs.

    """
    if member.size > SMALL and member.size > MOST_RATIO * len(member.packed):
        raise BadZipError(
            f"the claimed size of {member.name} is over {MOST_RATIO} times its packed size"
        )
    if member.size > most:
        return _inflated(member, most + 1) if member.method else bytes(member.packed[: most + 1])
    data = _inflated(member, member.size + 1) if member.method else bytes(member.packed)
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise BadZipError(f"{member.name} differs from the zip's directory in size or checksum")
    return data


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a sealed zip of files; the same files give the same bytes.

    Parameters
    ----------
    files : mapping
        Name (ASCII) -> content of less than 2 GiB.

    """
    body, directory = bytearray(), bytearray()
    for name, content in sorted(files.items()):
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        packed = packer.compress(content) + packer.flush()
        method = DEFLATED if len(packed) < len(content) else STORED
        packed = packed if method else content
        encoded = name.encode("ascii")
        shared = (20, 0, method, *NOON, zlib.crc32(content), len(packed), len(content),
                  len(encoded), 0)  # fmt: skip
        directory += CENTRAL + CENTRAL_REST.pack(
            3 << 8 | 20, *shared, 0, 0, 0, (stat.S_IFREG | 0o644) << 16, len(body)
        ) + encoded  # fmt: skip
        body += LOCAL + LOCAL_REST.pack(*shared) + encoded + packed
    sizes = (0, 0, len(files), len(files), len(directory), len(body), SEAL_BYTES)
    whole = bytes(body + directory + END + END_REST.pack(*sizes))
    return whole + SEAL + hashlib.sha256(whole).hexdigest().encode()


def _end_of(data: bytes) -> tuple[int, int, int]:
    """Return where the directory begins and ends, and how many entries it has."""
    for comment in (0, SEAL_BYTES):
        end = len(data) - len(END) - END_REST.size - comment
        if end >= 0 and data.startswith(END, end):
            break
    else:
        raise BadZipError("it is neither a folder nor a complete zip")
    disk, first_disk, here, count, size, directory, length = END_REST.unpack_from(data, end + 4)
    if (disk, first_disk, here, length) != (0, 0, count, comment) or count > MOST_ENTRIES:
        raise BadZipError("the zip's end record is damaged")
    if directory + size != end:
        raise BadZipError("the zip has extra bytes before or after it, or is Zip64")
    if comment and data[-comment:] != SEAL + hashlib.sha256(data[:-comment]).hexdigest().encode():
        raise BadZipError("the zip was changed after it was sealed (SHA-256 differs)")
    return directory, end, count


def _member(data: bytes, place: int, end: int) -> tuple[Member, int, tuple[int, int]]:
    """Return the member of a directory entry, the offset of the next entry, the member's span."""
    head = place + 4 + CENTRAL_REST.size
    if head > end or not data.startswith(CENTRAL, place):
        raise BadZipError("the zip's directory is damaged")
    entry = CENTRAL_REST.unpack_from(data, place + 4)
    _maker, *shared = entry[:9]
    named, extra, comment, disk, _, mode, offset = entry[9:]
    encoded, after = data[head : head + named], head + named + extra
    if after > end or comment or disk:
        raise BadZipError("the zip's directory is damaged, or has comments")
    _check_extra(data[head + named : after])
    own = offset + 4 + LOCAL_REST.size
    if own > place or not data.startswith(LOCAL, offset):
        raise BadZipError("the zip's directory points to no member")
    *theirs, own_named, own_extra = LOCAL_REST.unpack_from(data, offset + 4)
    start = own + own_named + own_extra
    if theirs != shared or data[own : own + own_named] != encoded:
        raise BadZipError("the zip's directory contradicts the header of a member")
    _check_extra(data[own + own_named : start])
    name = _name(encoded)
    version, flags, method, _, _, crc, packed, size = shared
    _check_kind(name, version, flags, method, mode)
    if start + packed > place or (method == STORED and packed != size):
        raise BadZipError(f"{name} differs from the zip's directory in size")
    if name.endswith("/") and (packed or size):
        raise BadZipError(f"{name} is a folder with content")
    content = memoryview(data)[start : start + packed]
    return Member(name, method, crc, size, content), after, (offset, start + packed)


def _name(encoded: bytes) -> str:
    try:
        return encoded.decode("utf-8")
    except UnicodeDecodeError:
        raise BadZipError("the zip has a name that is not UTF-8") from None


def _check_kind(name: str, version: int, flags: int, method: int, mode: int) -> None:
    if flags & ENCRYPTED:
        raise BadZipError(f"the zip is encrypted ({name})")
    if flags & STREAMED:
        raise BadZipError(
            f"the zip was written as a stream ({name}); edgeprune pack writes a valid one"
        )
    if method not in (STORED, DEFLATED):
        raise BadZipError(f"the zip's compression is neither stored nor deflated ({name})")
    if flags & ~HARMLESS or version & 0xFF > 20:
        raise BadZipError(f"the zip uses features that are not supported ({name})")
    kind = stat.S_IFMT(mode >> 16)
    if kind not in (0, stat.S_IFDIR if name.endswith("/") else stat.S_IFREG):
        raise BadZipError(f"{name} is a link or a special file in the zip")


def _check_extra(extra: bytes) -> None:
    place = 0
    while place < len(extra):
        if place + 4 > len(extra):
            raise BadZipError("the zip has a damaged extra field")
        kind, length = struct.unpack_from("<2H", extra, place)
        if kind in REFUSED_EXTRAS:
            raise BadZipError(
                f"the zip uses a feature that is not supported: {REFUSED_EXTRAS[kind]}"
            )
        place += 4 + length
    if place != len(extra):
        raise BadZipError("the zip has a damaged extra field")


def _inflated(member: Member, most: int) -> bytes:
    """Return at most ``most`` bytes; a complete stream must end with the packed bytes."""
    unpacker = zlib.decompressobj(-15)
    try:
        data = unpacker.decompress(member.packed, most)
    except zlib.error as error:
        raise BadZipError(f"{member.name} cannot be unpacked ({error})") from None
    if len(data) < most and (not unpacker.eof or unpacker.unused_data):
        raise BadZipError(
            f"{member.name} cannot be unpacked: its compressed data end too early or too late"
        )
    return data
