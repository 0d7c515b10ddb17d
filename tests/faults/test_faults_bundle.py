"""F15 and F16: bundles that contradict themselves, and hostile zips and folders."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
import struct
import threading
import tracemalloc
import unicodedata
import zlib
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from faults_table import Tally
from spoiled import entry, no_parser, strange_manifests, zip_of

from edgeprune_device.bundle import reader as module
from edgeprune_device.bundle.manifest import sealed
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.strict_zip import pack
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import check_golden, open_model


@pytest.fixture
def folder(tiny_bundle: Path, tmp_path: Path) -> Path:
    shutil.copytree(tiny_bundle, tmp_path / "bundle")
    return tmp_path / "bundle"


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes()
            for path in sorted(folder.rglob("*")) if path.is_file()}  # fmt: skip


def edit(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a manifest as its maker could have: sealed, so that only its sense is wrong."""
    manifest = json.loads((folder / "bundle.json").read_text("utf-8"))
    change(manifest)
    (folder / "bundle.json").write_bytes(sealed(manifest))


def window(m: dict[str, Any], samples: int, seconds: float) -> None:
    m["model"]["input"]["shape"] = [1, samples]
    m["audio"]["window_seconds"] = seconds


def labels(m: dict[str, Any], names: list[str], shape: list[int] | None = None) -> None:
    m["model"]["output"]["shape"] = shape or m["model"]["output"]["shape"]
    m["labels"] = names
    m["decision"]["thresholds"] = dict.fromkeys(names, 0.5)


CONTRADICTIONS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("a label too few", lambda m: labels(m, m["labels"][:-1])),
    ("a label too many", lambda m: labels(m, [*m["labels"], "owl"])),
    ("as many labels and outputs, and another file",
     lambda m: labels(m, [*m["labels"], "owl"], [1, 4])),
    ("a window of other samples", lambda m: window(m, 1601, 0.1)),
    ("a longer window, said twice", lambda m: window(m, 3200, 0.2)),
    ("a window of other seconds", lambda m: m["audio"].update(window_seconds=0.2)),
    ("another rate", lambda m: m["audio"].update(sample_rate=48000)),
    ("a rate of nothing", lambda m: m["audio"].update(sample_rate=0)),
    ("a rate in words", lambda m: m["audio"].update(sample_rate="fast")),
    ("no hop", lambda m: m["audio"].update(hop_seconds=0)),
    ("a hop backwards", lambda m: m["audio"].update(hop_seconds=-1)),
    ("a threshold over one", lambda m: m["decision"]["thresholds"].update(low=1.5)),
    ("a threshold of nobody", lambda m: m["decision"]["thresholds"].update(owl=0.5)),
    ("another format than the file", lambda m: m["model"].update(format="tflite")),
    ("a text where a table is", lambda m: m.update(audio="loud")),
    ("a list where a text is", lambda m: m["model"].update(file=["model.onnx"])),
    ("a manifest in the list", lambda m: m["files"].update({"bundle.json": m["files"]["model.onnx"]})),
    ("a signature in the list",
     lambda m: m["files"].update({"bundle.json.sig": m["files"]["model.onnx"]})),
    ("a name in two cases", lambda m: m["files"].update({"MODEL.onnx": m["files"]["model.onnx"]})),
    ("a device's name", lambda m: m["files"].update({"aux.npy": m["files"]["model.onnx"]})),
    ("a name with a dot at its end",
     lambda m: m["files"].update({"model.": m["files"]["model.onnx"]})),
    ("a name that is a folder's", lambda m: m["files"].update({"golden": m["files"]["model.onnx"]})),
    ("two terabytes",
     lambda m: m["files"]["model.onnx"].update(bytes=2 << 40)),
    ("files of three gigabytes",
     lambda m: [entry.update(bytes=1 << 30) for entry in list(m["files"].values())[:3]]),
    ("an adapter from the future", lambda m: m["model"].update(adapter={"teleport": 1})),
    ("a version from the future", lambda m: m.update(schema_version=3)),
    ("a version that is true", lambda m: m.update(schema_version=True)),
    ("a label that clears the screen",
     lambda m: labels(m, ["low", "mid", "\x1b[2J"])),
    ("a label of a megabyte", lambda m: labels(m, ["low", "mid", "x" * 1_000_000])),
    ("a name of two lines", lambda m: m.update(name="tiny\nerror: all is well")),
    ("another input name", lambda m: m["model"]["input"].update(name="sound")),
]  # fmt: skip


@pytest.mark.fault("F15")
def test_a_bundle_that_contradicts_itself_is_refused_when_it_is_opened(
    folder: Path, tally: Tally
) -> None:
    """31 manifests with a digest that fits and sense that does not, one after another."""
    before = (folder / "bundle.json").read_bytes()
    for name, change in CONTRADICTIONS:
        edit(folder, change)
        with pytest.raises(EdgepruneError) as error:
            open_model(read_bundle(folder))
        assert error.value.status == 2, name
        (folder / "bundle.json").write_bytes(before)
    assert read_bundle(folder).labels
    tally(len(CONTRADICTIONS), 0, "all refused")


@pytest.mark.fault("F15")
def test_every_entry_of_a_manifest_may_be_anything_and_none_makes_a_traceback(
    folder: Path, tally: Tally
) -> None:
    """Each entry in turn is taken out, or is one of 14 strange values; the digest fits. Refused in a
    sentence, or of no account: then what the recorder asks of a bundle has an answer, as before."""
    tried = refused = 0
    manifest = json.loads((folder / "bundle.json").read_text("utf-8"))
    for changed in strange_manifests(manifest):
        (folder / "bundle.json").write_bytes(sealed(changed))
        tried += 1
        try:
            bundle = read_bundle(folder)
            check_golden(bundle, open_model(bundle))
        except EdgepruneError:
            refused += 1
            continue
        assert bundle.hop_samples > 0 < bundle.temperature
        assert all([bundle.name, bundle.file, bundle.labels, bundle.output_shape])
        assert bundle.tokens == ""
        decision = bundle.manifest["decision"]
        assert deque(maxlen=int(decision["smoothing_windows"])).maxlen  # as the decider makes it
        assert float(decision["refractory_seconds"]) >= 0 <= min(decision["thresholds"].values())
    assert refused > tried / 2
    tally(tried, 0, f"any entry anything: {refused:,} refused, the others of no account")


def test_a_manifest_that_says_a_thing_twice_or_is_no_utf8_is_refused(folder: Path) -> None:
    raw = (folder / "bundle.json").read_bytes()
    for changed in (
        raw.replace(b'"name"', b'"name": "other", "name"', 1), raw.replace(b"tiny", b"t\xffny", 1),
        raw.decode().encode("utf-16"), b"\xef\xbb\xbf" + raw, raw + raw,
    ):  # fmt: skip
        fitting = resealed(changed)
        (folder / "bundle.json").write_bytes(fitting)
        with pytest.raises(EdgepruneError, match="is not a bundle's manifest"):
            read_bundle(folder)


def resealed(raw: bytes) -> bytes:
    start = b'{\n "digest": "'
    if not raw.startswith(start):
        return raw
    blank = start + b"0" * 64 + raw[len(start) + 64 :]
    return start + hashlib.sha256(blank).hexdigest().encode() + raw[len(start) + 64 :]


def test_a_bundle_from_before_manifests_had_a_digest_is_still_read(folder: Path) -> None:
    manifest = json.loads((folder / "bundle.json").read_text("utf-8"))
    old = {key: value for key, value in manifest.items() if key != "digest"} | {"schema_version": 1}
    (folder / "bundle.json").write_text(json.dumps(old, indent=1) + "\n", "utf-8")
    assert read_bundle(folder).name == manifest["name"]
    without = {**old, "schema_version": 2}
    (folder / "bundle.json").write_text(json.dumps(without, indent=1) + "\n", "utf-8")
    with pytest.raises(EdgepruneError, match="does not begin with its digest"):
        read_bundle(folder)


Entries = list[dict[str, Any]]


def hostile(files: dict[str, bytes]) -> list[tuple[str, bytes]]:
    """Return zips that hold the whole bundle and something that must not be there."""
    good = [entry(name.encode(), data, method=8) for name, data in files.items()]
    model = next(i for i, e in enumerate(good) if e["name"] == b"model.onnx")
    data = files["model.onnx"]

    def other(**given: Any) -> Entries:
        changed = entry(b"model.onnx", data, **{"method": 8, **given})
        return [*good[:model], changed, *good[model + 1 :]]

    def moved(to: int, of: int) -> Callable[[list[int]], None]:
        return lambda offsets: offsets.__setitem__(of, offsets[to])

    names = (
        b"../evil.py", b"/etc/evil.py", b"golden/../../evil.py", b"C:\\evil.py", b"C:evil.py",
        b"..\\evil.py", b"golden\\evil.npy", b"evil.py\x00.npy", b"model.onnx\x00", b"", b".", b"..",
        b"./model.onnx", b"golden//0.input.npy", b"a/b/c/d.npy", b"golden/more/0.npy", b"MODEL.ONNX",
        b"Bundle.json", b"bundle.json/", b"model.onnx/", "mod\u00e9l.onnx".encode(),
        b"mod\xe9l.onnx", "\uff4dodel.onnx".encode(), b"con", b"__MACOSX/._bundle.json", b"empty/",
        b"a" * 60_000,
    )  # fmt: skip
    zip64 = struct.pack("<2HQQ", 1, 16, len(data), len(data))
    nested = zip_of(good)
    plain = zip_of(good)
    locator = b"PK\x06\x07" + bytes(16)
    return [
        *((f"another file {name[:30]!r}", zip_of([*good, entry(name)])) for name in names),
        *((f"a {kind} for the model", zip_of(other(mode=mode))) for kind, mode in (
            ("link", 0o120777), ("pipe", 0o010644), ("device", 0o020644), ("socket", 0o140644),
            ("folder", 0o040755))),
        ("a file twice", zip_of([*good, good[model]])),
        ("two entries of one member", zip_of([*good, good[0]], change=moved(0, len(good)))),
        ("overlapping members", zip_of(good, change=lambda o: o.__setitem__(1, o[0] + 10))),
        ("members within one another", zip_of([*good, entry(b"x", nested)])),
        ("a wrong checksum", zip_of(other(crc=1))),
        ("a size too small", zip_of(other(size=len(data) - 1))),
        ("a size too large", zip_of(other(size=len(data) + 1))),
        ("a packed size too small", zip_of(other(packed=10))),
        ("a packed size past the end", zip_of(other(packed=1 << 30))),
        ("a size of 4 GiB", zip_of(other(size=0xFFFFFFFF, packed=0xFFFFFFFF, extra=zip64))),
        ("Zip64", zip_of(other(extra=zip64))),
        ("Zip64's locator", plain[:-22] + locator + plain[-22:]),
        ("a second name", zip_of(other(extra=struct.pack("<2H", 0x7075, 5) + bytes(5)))),
        ("an extra field without an end", zip_of(other(extra=struct.pack("<2H", 0x5455, 500)))),
        ("an extra field of three bytes", zip_of(other(extra=b"abc"))),
        ("encrypted", zip_of(other(flags=1))),
        ("strongly encrypted", zip_of(other(flags=0x41))),
        ("an encrypted directory", zip_of(other(flags=0x2000))),
        ("streamed", zip_of(other(flags=8))),
        *((f"method {m}", zip_of(other(method=m, content=data))) for m in (1, 6, 9, 12, 14, 93, 99)),
        ("stored with two sizes", zip_of(other(method=0, size=5))),
        ("bytes after the packed data",
         zip_of(other(content=deflated(data) + b"more"))),
        ("packed data without an end", zip_of(other(content=deflated(data)[:-5]))),
        ("packed data that is none", zip_of(other(content=b"\xff" * 1000))),
        ("another name in its own header", zip_of(other(local_name=b"other.onnx"))),
        ("a later version", zip_of(other(version=63))),
        ("bytes before it", zip_of(good, before=b"#!/bin/sh\n")),
        ("bytes after it", zip_of(good, after=b"more")),
        ("bytes between members", zip_of(good, between=b"more")),
        ("a comment", zip_of(good, comment=b"hello")),
        ("a comment like a seal", zip_of(good, comment=b"edgeprune sha256 " + b"0" * 64)),
        ("a zip in its comment", zip_of(good, comment=zip_of([entry(b"evil")]))),
        ("two zips", plain + zip_of([entry(b"evil")])),
        ("too many entries", zip_of([*good, *(entry(b"%d" % i) for i in range(3000))])),
        ("nothing", zip_of([])),
        ("its end alone", plain[-22:]),
        ("a directory of its own", zip_of([entry(b"bundle/" + e["name"], b"x") for e in good])),
        ("no zip", b"hello"),
        ("an empty file", b""),
    ]  # fmt: skip


def deflated(data: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


@pytest.mark.fault("F16")
def test_hostile_zips_are_refused_and_nothing_is_written(
    folder: Path, tmp_path: Path, tally: Tally
) -> None:
    """Over 80 zips: names that lead out, links, duplicates, overlaps, lies about sizes, Zip64,
    encryption, other methods, bytes before, between and after; each holds the whole bundle, too."""
    files = files_of(folder)
    path = tmp_path / "b.zip"
    path.write_bytes(zip_of([entry(name.encode(), data, method=8) for name, data in files.items()]))
    assert read_bundle(path).digest == read_bundle(folder).digest  # our own zips are good ones
    zips = hostile(files)
    before = sorted(tmp_path.rglob("*"))
    with no_parser():
        for name, data in zips:
            path.write_bytes(data)
            with pytest.raises(EdgepruneError) as error:
                open_model(read_bundle(path))
            assert error.value.status == 2, name
    assert sorted(tmp_path.rglob("*")) == before
    assert len({name for name, _ in zips}) == len(zips) > 75
    tally(len(zips), 0, "all refused, nothing written")


@pytest.mark.fault("F16")
def test_a_bomb_is_refused_before_it_is_unpacked(
    folder: Path, tmp_path: Path, tally: Tally
) -> None:
    """Two: a gigabyte of zeros as the model that the manifest lists, and one as the manifest."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(1024)) + packer.flush()
    size = 1 << 30
    files = files_of(folder)
    for bomb in ("model.onnx", "bundle.json"):
        entries = [
            entry(name.encode(), data, **({"content": packed, "size": size, "crc": 0, "method": 8}
                                          if name == bomb else {"method": 8}))
            for name, data in files.items()
        ]  # fmt: skip
        (tmp_path / "b.zip").write_bytes(zip_of(entries))
        tracemalloc.start()
        try:
            with pytest.raises(EdgepruneError, match="packed size"):
                read_bundle(tmp_path / "b.zip")
            assert tracemalloc.get_traced_memory()[1] < 20e6
        finally:
            tracemalloc.stop()
    tally(2, 0, "under 20 MB of memory")


def strange(folder: Path, name: str) -> None:
    """Put something that is no file in a file's place."""
    path = folder / "model.onnx"
    path.unlink()
    if name == "pipe":
        os.mkfifo(path)
    elif name == "socket":
        held = socket.socket(socket.AF_UNIX)
        held.bind(str(path))
        held.close()
    elif name == "device":
        path.symlink_to("/dev/zero")
    elif name == "link":
        path.symlink_to("bundle.json")
    elif name == "folder":
        path.mkdir()


@pytest.mark.fault("F16")
def test_a_folder_with_anything_but_files_is_refused_at_once(folder: Path, tally: Tally) -> None:
    """A pipe no one writes to, a socket, a link to an endless device, a link to a file, a folder for
    the model; a folder that is a link; and five names that no manifest lists."""
    data = (folder / "model.onnx").read_bytes()
    kinds = ("pipe", "socket", "device", "link", "folder")
    for kind in kinds:
        strange(folder, kind)
        with pytest.raises(EdgepruneError, match=r"model\.onnx"):
            read_bundle(folder)
        if kind == "folder":
            (folder / "model.onnx").rmdir()
        else:
            (folder / "model.onnx").unlink()
        (folder / "model.onnx").write_bytes(data)
    names = ("MODEL.ONNX", "Bundle.json", "mode\u0301l.onnx", unicodedata.normalize("NFC", "mode\u0301l"),
             "golden/more/x.npy", "empty/")  # fmt: skip
    for name in names:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_bytes(b"x")
        with pytest.raises(
            EdgepruneError, match=r"does not list|lists no file|folder inside a folder"
        ):
            read_bundle(folder)
        path.rmdir() if name.endswith("/") else path.unlink()
        if name.count("/") == 2:
            path.parent.rmdir()
    (folder / "golden").rename(folder.parent / "elsewhere")
    (folder / "golden").symlink_to(folder.parent / "elsewhere")
    with pytest.raises(EdgepruneError, match="golden"):
        read_bundle(folder)
    tally(len(kinds) + len(names) + 1, 0, "folders: all refused")


def test_what_is_no_bundle_at_all_is_refused_without_reading_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(EdgepruneError, match="is a device, a pipe or a socket"):
            read_bundle(path)
    for path in (Path("/"), Path("/proc")):  # not walked through
        with pytest.raises(EdgepruneError, match=r"it has no file bundle\.json"):
            read_bundle(path)
    with pytest.raises(EdgepruneError, match="There is no bundle"):
        read_bundle(Path("a\x00b"))


@pytest.mark.fault("F14")
def test_what_runs_is_what_was_hashed_however_the_folder_changes_meanwhile(
    folder: Path, tmp_path: Path, tally: Tally
) -> None:
    """200 reads while another thread exchanges model.onnx, through a hard link, too: each read is
    refused, or its bytes are those of the manifest and answer as they should."""
    good = (folder / "model.onnx").read_bytes()
    evil = good[:-100] + bytes(100)
    os.link(folder / "model.onnx", tmp_path / "other-name")
    stop = threading.Event()

    def exchange() -> None:
        while not stop.is_set():
            for data in (evil, good):
                (tmp_path / "other-name").write_bytes(data)
                (tmp_path / "new").write_bytes(data)
                (tmp_path / "new").replace(folder / "model.onnx")

    thread, refused = threading.Thread(target=exchange), 0
    thread.start()
    try:
        for _ in range(200):
            try:
                assert read_bundle(folder).model_bytes == good
            except EdgepruneError:
                refused += 1
    finally:
        stop.set()
        thread.join()
    (folder / "model.onnx").write_bytes(good)
    bundle = read_bundle(folder)
    (folder / "model.onnx").write_bytes(evil)  # after it was read
    assert check_golden(bundle, open_model(bundle)) < 1e-4
    tally(200, 0, f"changed while it was read: {refused} refused, {200 - refused} right")


def test_a_folder_that_is_swapped_while_it_is_read_is_still_one_bundle(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An update exchanges the link to the installed bundle between two files."""
    shutil.copytree(folder, tmp_path / "next")
    edit(tmp_path / "next", lambda m: m.update(name="next"))
    (tmp_path / "current").symlink_to(folder)
    parse = module.parse_manifest

    def swapping(raw: bytes, path: Path) -> dict[str, Any]:
        (tmp_path / "link").symlink_to(tmp_path / "next")
        (tmp_path / "link").replace(tmp_path / "current")
        shutil.rmtree(tmp_path / "next/golden")
        return parse(raw, path)

    monkeypatch.setattr(module, "parse_manifest", swapping)
    assert read_bundle(tmp_path / "current").name == "tiny"


def test_a_sealed_zip_is_made_the_same_from_the_same_files(folder: Path) -> None:
    files = files_of(folder)
    assert pack(files) == pack(dict(reversed(files.items())))
