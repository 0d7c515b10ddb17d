"""Zips as a bundle may come in: read strictly from memory, and written sealed.

A zip says most things twice, and programs differ in which of the two they believe. Here the
central directory and each member's own header must agree; members follow one another from the
first byte to the directory with nothing between, before or after; a member is stored or deflated,
not encrypted, not streamed, no link, no Zip64. Nothing is ever written to a disk.

``pack`` also writes the SHA-256 of all that stands before it as the zip's comment, so that a
sealed zip with any byte changed is refused; in any other zip, a byte that changes no member (a
date, a permission) changes no bundle. After PKWARE's APPNOTE 6.3.10, sections 4.3 and 4.4.
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
)  # the last: UTF-8 names, how hard deflate tried
REFUSED_EXTRAS = {0x0001: "Zip64", 0x7075: "a second name", 0x9901: "encrypted"}
MOST_ENTRIES = 2000
MOST_RATIO, SMALL = 200, 1 << 20  # model weights shrink by half; what is small may be all zeros
NOON = (0, 0x21)  # DOS time and date of 1980-01-01: the same zip from the same bundle


class BadZipError(ValueError):
    """What is wrong with a zip, as the rest of a sentence."""


@dataclass(frozen=True)
class Member:
    """A file in a zip, packed."""

    name: str
    method: int
    crc: int
    size: int
    """Bytes it has unpacked, as it claims."""
    packed: memoryview
    """As it stands in the zip."""


def members_of(data: bytes) -> tuple[dict[str, Member], set[str]]:
    """Return a zip's files by name, and its folders' names.

    Raises
    ------
    BadZipError
        It is no zip, or not one of the plain kind this module describes.

    """
    directory, end, count = _end_of(data)
    files: dict[str, Member] = {}
    folders: set[str] = set()
    spans: list[tuple[int, int]] = []
    place = directory
    for _ in range(count):
        member, place, span = _member(data, place, end)
        if member.name in files or member.name in folders:
            raise BadZipError(f"the zip names a file twice, {member.name!r}")
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
    """Return a member's content, or its first ``most`` + 1 bytes where it is longer.

    Raises
    ------
    BadZipError
        It cannot be unpacked, is not as long as it claims, or its checksum differs.

    """
    if member.size > SMALL and member.size > MOST_RATIO * len(member.packed):
        raise BadZipError(f"{member.name} claims to be {MOST_RATIO} times its packed size and more")
    if member.size > most:
        return _inflated(member, most + 1) if member.method else bytes(member.packed[: most + 1])
    data = _inflated(member, member.size + 1) if member.method else bytes(member.packed)
    if len(data) != member.size or zlib.crc32(data) != member.crc:
        raise BadZipError(f"{member.name} is not as long as the zip says, or its checksum differs")
    return data


def pack(files: Mapping[str, bytes]) -> bytes:
    """Return a sealed zip of files; the same bytes from the same files.

    Parameters
    ----------
    files : mapping
        Name, of ASCII characters, to content of less than 2 GiB.

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
        raise BadZipError("it is neither a folder nor a zip that ends where it should")
    disk, first_disk, here, count, size, directory, length = END_REST.unpack_from(data, end + 4)
    if (disk, first_disk, here, length) != (0, 0, count, comment) or count > MOST_ENTRIES:
        raise BadZipError("the zip's last record makes no sense")
    if directory + size != end:
        raise BadZipError("the zip has bytes before or after it, or is Zip64")
    if comment and data[-comment:] != SEAL + hashlib.sha256(data[:-comment]).hexdigest().encode():
        raise BadZipError("the zip is not as it was when it was sealed (SHA-256 differs)")
    return directory, end, count


def _member(data: bytes, place: int, end: int) -> tuple[Member, int, tuple[int, int]]:
    """Return the member of a directory entry, the next entry's place, the bytes it takes up."""
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
        raise BadZipError("the zip says two things of one member")
    _check_extra(data[own + own_named : start])
    name = _name(encoded)
    version, flags, method, _, _, crc, packed, size = shared
    _check_kind(name, version, flags, method, mode)
    if start + packed > place or (method == STORED and packed != size):
        raise BadZipError(f"{name} has another size than the zip says")
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
        raise BadZipError(f"the zip was written as a stream ({name}); edgeprune pack makes one")
    if method not in (STORED, DEFLATED):
        raise BadZipError(f"the zip is neither stored nor deflated ({name})")
    if flags & ~HARMLESS or version & 0xFF > 20:
        raise BadZipError(f"the zip asks for more than a plain one does ({name})")
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
            raise BadZipError(f"the zip is not plain: {REFUSED_EXTRAS[kind]}")
        place += 4 + length
    if place != len(extra):
        raise BadZipError("the zip has a damaged extra field")


def _inflated(member: Member, most: int) -> bytes:
    """Return at most so many bytes; where all fit, the packed bytes must end where they do."""
    unpacker = zlib.decompressobj(-15)
    try:
        data = unpacker.decompress(member.packed, most)
    except zlib.error as error:
        raise BadZipError(f"{member.name} cannot be unpacked ({error})") from None
    if len(data) < most and (not unpacker.eof or unpacker.unused_data):
        raise BadZipError(f"{member.name} cannot be unpacked: it ends too early or too late")
    return data
