"""The bundle: the only thing that passes from the workstation to the recorder.

A folder, or the same as one .zip: ``bundle.json``, the model file (or two files of one model, of
which the board picks the faster), ``golden/``. It is read whole and hashed, and the bytes that were
hashed are the bytes the runtime gets: no parser sees a byte before its file's SHA-256 has been
compared, nothing in it is executable, and a file that ``bundle.json`` does not list is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.manifest import MANIFEST, problem_of
from edgeprune_device.overlap import files_of

SCHEMA_VERSION = 1
OWN = ("runtime", "requirements")
"""Entries of a manifest that an alternative has for itself, inside its own entry."""
MOST_MANIFEST_BYTES = 4 << 20
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError)


@dataclass(frozen=True)
class Golden:
    """One input and what the model answered on the workstation."""

    samples: NDArray[np.float32]
    """(window_samples,)."""
    scores: NDArray[np.float32]
    """(labels,), of transcripts (frames, labels)."""
    tolerance: float
    """Largest difference of a score allowed on another processor."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read whole and found to be what its manifest says."""

    path: Path
    manifest: Mapping[str, Any]
    model_bytes: bytes
    golden: tuple[Golden, ...]
    digest: str
    """SHA-256 of ``bundle.json``, which lists every other file's."""
    alternative: Bundle | None = None
    """The same with its other model file as the model, where it has two. Audio, labels and
    decision are those of the first: thresholds were set on what the first answers."""
    halves: Mapping[str, bytes] = field(default_factory=dict)
    """Name to content of the model cut in two (``incremental``); empty where it is not."""

    @property
    def variants(self) -> tuple[Bundle, ...]:
        """Each with one model file: the first, and the alternative if there is one."""
        first = replace(self, alternative=None)
        return (first, self.alternative) if self.alternative else (first,)

    @property
    def file(self) -> str:
        """Name of the model's file in the bundle."""
        return str(self.manifest["model"]["file"])

    @property
    def name(self) -> str:
        """Name given by its maker."""
        return str(self.manifest["name"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the scores."""
        return tuple(self.manifest["labels"])

    @property
    def activation(self) -> str:
        """``softmax`` (one label a window), ``sigmoid`` (tags), or ``ctc`` (transcripts)."""
        return str(self.manifest["activation"])

    @property
    def tokens(self) -> str:
        """What a transcript is made of: ``characters`` or ``words``; empty for other bundles."""
        return str(self.manifest.get("tokens", ""))

    @property
    def temperature(self) -> float:
        """What logits are divided by before thresholds are asked; 1 where none was fitted."""
        return float(self.manifest["decision"].get("temperature", 1.0))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Of the scores of one window: (labels,), of transcripts (frames, labels)."""
        return tuple(int(size) for size in self.manifest["model"]["output"]["shape"][1:])

    @property
    def sample_rate(self) -> int:
        """Hz."""
        return int(self.manifest["audio"]["sample_rate"])

    @property
    def window_samples(self) -> int:
        """Length of the window the model takes, in samples."""
        return int(self.manifest["model"]["input"]["shape"][1])

    @property
    def hop_samples(self) -> int:
        """Samples from one window to the next."""
        return max(1, round(float(self.manifest["audio"]["hop_seconds"]) * self.sample_rate))

    @property
    def format(self) -> str:
        """``onnx`` or ``tflite``."""
        return str(self.manifest["model"]["format"])


def read_bundle(path: Path) -> Bundle:
    """Read a bundle whole and check it.

    Parameters
    ----------
    path : Path
        A folder, or a .zip of the folder's content.

    Returns
    -------
    Bundle

    Raises
    ------
    EdgepruneError
        There is none, a file is missing, added, changed or of the wrong size, or the manifest
        contradicts itself.

    """
    if not path.exists():
        raise EdgepruneError(f"There is no bundle at {path}.", "edgeprune compress makes one.")
    source = _Zip(path) if path.is_file() else _Folder(path)
    raw = source.read(MANIFEST, MOST_MANIFEST_BYTES)
    manifest = _parse(raw, path)
    listed: dict[str, dict[str, Any]] = manifest["files"]
    for name in sorted(source.names() - {MANIFEST} - set(listed)):
        raise _bad(path, f"it holds {name!r}, which {MANIFEST} does not list")
    contents = {}
    for name, entry in listed.items():
        data = source.read(name, entry["bytes"])
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise _bad(path, f"{name} is not the file that {MANIFEST} describes (SHA-256 differs)")
        contents[name] = data
    digest = hashlib.sha256(raw).hexdigest()
    first = _opened(manifest, contents, path, digest)
    if "alternative" not in manifest:
        return first
    return replace(first, alternative=_opened(_other_manifest(manifest), contents, path, digest))


def write_bundle(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a bundle whole or not at all, and read it back as a recorder would.

    Parameters
    ----------
    folder : Path
        Where to; an earlier bundle there is replaced, anything else is left alone.
    manifest : mapping
        All of ``bundle.json`` but ``schema_version``, ``created`` (kept if given) and ``files``.
    files : mapping
        Name in the bundle to content: the model (or both) and the golden files.

    Raises
    ------
    EdgepruneError
        The folder holds something that is not a bundle, or the bundle would not be accepted.

    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise EdgepruneError(
            f"{folder} exists and is not a bundle.", "Name a folder that is not there yet."
        )
    listing = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in sorted(files.items())
    }
    created = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
    whole = {"schema_version": SCHEMA_VERSION, **created, **manifest, "files": listing}
    text = (json.dumps(whole, indent=1, ensure_ascii=False) + "\n").encode()
    _parse(text, folder)  # before a name in it becomes a path
    partial = folder.with_name(folder.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        for name, data in {**files, MANIFEST: text}.items():
            (partial / name).parent.mkdir(parents=True, exist_ok=True)
            (partial / name).write_bytes(data)
        read_bundle(partial)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    if folder.exists():
        old = folder.with_name(folder.name + ".old")
        shutil.rmtree(old, ignore_errors=True)
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)


def golden_files(
    inputs: Sequence[NDArray[np.float32]], outputs: Sequence[NDArray[np.float32]], tolerance: float
) -> tuple[dict[str, bytes], list[dict[str, Any]]]:
    """Return golden files by name and their entries in the manifest.

    Parameters
    ----------
    inputs : sequence of array (window_samples,)
    outputs : sequence of array (labels,) or (frames, labels)
        What the bundle's own file answers on the machine that made it.
    tolerance : float

    """
    files, entries = {}, []
    for index, (samples, scores) in enumerate(zip(inputs, outputs, strict=True)):
        entry = {"input": f"golden/{index}.input.npy", "output": f"golden/{index}.output.npy",
                 "tolerance": tolerance}  # fmt: skip
        files[str(entry["input"])] = _to_npy(samples)
        files[str(entry["output"])] = _to_npy(scores)
        entries.append(entry)
    return files, entries


def with_alternative(
    manifest: Mapping[str, Any], files: Mapping[str, bytes], other: Bundle
) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return a bundle's manifest and files with another bundle's model as its alternative.

    Golden inputs that both have are stored once.

    Parameters
    ----------
    manifest, files : mapping
        As for ``write_bundle``, which also checks the result.
    other : Bundle
        The same model in another file; its own ``decision`` is not taken along.

    """
    added = {other.file: other.model_bytes, **other.halves}
    whole, entries = {**files, **added}, []
    if both := sorted(set(added) & set(files)):
        raise EdgepruneError(f"Both models of bundle {manifest['name']} are called {both[0]}.")
    for index, golden in enumerate(other.golden):
        samples = _to_npy(golden.samples)
        shared = [
            entry["input"] for entry in manifest["golden"] if files[entry["input"]] == samples
        ]
        source = shared[0] if shared else f"golden/{index}.alternative.input.npy"
        target = f"golden/{index}.alternative.output.npy"
        whole[source], whole[target] = samples, _to_npy(golden.scores)
        entries.append({"input": source, "output": target, "tolerance": golden.tolerance})
    own = {key: other.manifest[key] for key in OWN if key in other.manifest}
    model = {**other.manifest["model"], **own}
    return {**manifest, "alternative": model, "alternative_golden": entries}, whole


class _Folder:
    """Reads a folder's files without following links out of it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def names(self) -> set[str]:
        return {
            p.relative_to(self.path).as_posix()
            for p in self.path.rglob("*") if p.is_symlink() or not p.is_dir()
        }  # fmt: skip

    def read(self, name: str, most: int) -> bytes:
        file = self.path / name
        if not file.is_file() or file.is_symlink():
            raise _bad(self.path, f"it has no file {name}")
        with file.open("rb") as opened:
            return opened.read(most + 1)


class _Zip:
    """Reads a zip's members: stored or deflated, never more bytes than the manifest allows."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.zip = zipfile.ZipFile(io.BytesIO(path.read_bytes()))
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise _bad(path, f"it is neither a folder nor a zip ({error})") from None
        members = [info for info in self.zip.infolist() if not info.is_dir()]
        if len({info.filename for info in members}) != len(members):
            raise _bad(path, "the zip names a file twice")
        if any(info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
               for info in members):  # fmt: skip
            raise _bad(path, "the zip is neither stored nor deflated")

    def names(self) -> set[str]:
        return {info.filename for info in self.zip.infolist() if not info.is_dir()}

    def read(self, name: str, most: int) -> bytes:
        try:
            with self.zip.open(name) as opened:
                return opened.read(most + 1)
        except KeyError:
            raise _bad(self.path, f"it has no file {name}") from None
        except BROKEN_ZIP as error:
            raise _bad(self.path, f"{name} cannot be unpacked ({error})") from None


def _parse(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse ``bundle.json`` and check every entry the recorder relies on."""
    if len(raw) > MOST_MANIFEST_BYTES:
        raise _bad(path, f"{MANIFEST} is larger than {MOST_MANIFEST_BYTES >> 20} MB")
    try:
        manifest = json.loads(raw)
        version = manifest["schema_version"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise _bad(path, f"{MANIFEST} is not a bundle's manifest") from None
    if version != SCHEMA_VERSION:
        raise EdgepruneError(
            f"The bundle {path} has schema version {version}; {SCHEMA_VERSION} can be read here.",
            "Install the edgeprune that made it, or make the bundle again.",
        )
    try:
        problem = problem_of(manifest)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        problem = f"{MANIFEST} lacks or mistypes an entry ({type(error).__name__}: {error})"
    if problem:
        raise _bad(path, problem)
    checked: dict[str, Any] = manifest
    return checked


def _other_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of the alternative alone."""
    left = {k: v for k, v in manifest.items() if k not in ("alternative", "alternative_golden")}
    model = {k: v for k, v in manifest["alternative"].items() if k not in OWN}
    own = {key: manifest["alternative"].get(key, {}) for key in OWN}
    return {**left, **own, "model": model, "golden": manifest["alternative_golden"]}


def _opened(
    manifest: dict[str, Any], contents: Mapping[str, bytes], path: Path, digest: str
) -> Bundle:
    """Return the bundle of one model file."""
    golden = tuple(_golden(entry, contents, manifest, path) for entry in manifest["golden"])
    halves = {name: contents[name] for name in files_of(manifest["model"])}
    model = contents[manifest["model"]["file"]]
    return Bundle(path, manifest, model, golden, digest, halves=halves)


def _golden(
    entry: dict[str, Any], contents: Mapping[str, bytes], manifest: dict[str, Any], path: Path
) -> Golden:
    samples, scores = (_from_npy(contents[entry[key]], path) for key in ("input", "output"))
    model = manifest["model"]
    expected = (model["input"]["shape"][1:], model["output"]["shape"][1:])
    if [list(samples.shape), list(scores.shape)] != list(expected):
        raise _bad(path, f"{entry['input']} or its output has another shape than the model")
    return Golden(samples, scores, float(entry["tolerance"]))


def _to_npy(array: NDArray[np.float32]) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(array, dtype=np.float32), allow_pickle=False)
    return buffer.getvalue()


def _from_npy(data: bytes, path: Path) -> NDArray[np.float32]:
    try:
        array = np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)
    except Exception as error:  # a hostile header makes numpy raise almost anything
        raise _bad(path, f"a golden file is no array ({error})") from None
    if array.dtype != np.float32 or not np.isfinite(array).all():
        raise _bad(path, "a golden file is not finite float32")
    return np.asarray(array)


def _bad(path: Path, what: str) -> EdgepruneError:
    return EdgepruneError(
        f"The bundle {path} cannot be trusted: {what}.", "Copy it again from the workstation."
    )
