"""The bundle: the only thing that passes from the workstation to the recorder.

A folder, or the same as one .zip: ``bundle.json``, the model file, ``golden/``. It is read whole
and hashed, and the bytes that were hashed are the bytes the runtime gets: no parser sees a byte
before its file's SHA-256 has been compared, nothing in it is executable, and a file that
``bundle.json`` does not list is refused.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.ctc import KINDS
from edgeprune_device.errors import EdgepruneError

SCHEMA_VERSION = 1
MANIFEST = "bundle.json"
FORMATS = ("onnx", "tflite")
ACTIVATIONS = ("softmax", "sigmoid", "ctc")
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
MOST_MANIFEST_BYTES = 4 << 20
MOST_BYTES = 4 << 30  # a hostile zip may claim anything
BROKEN_ZIP = (zipfile.BadZipFile, zlib.error, RuntimeError, OSError, EOFError, ValueError)
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
SHA256 = re.compile(r"[0-9a-f]{64}")


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
    golden = tuple(_golden(entry, contents, manifest, path) for entry in manifest["golden"])
    model = contents[manifest["model"]["file"]]
    return Bundle(path, manifest, model, golden, hashlib.sha256(raw).hexdigest())


def write_bundle(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a bundle whole or not at all, and read it back as a recorder would.

    Parameters
    ----------
    folder : Path
        Where to; an earlier bundle there is replaced, anything else is left alone.
    manifest : mapping
        All of ``bundle.json`` but ``schema_version``, ``created`` (kept if given) and ``files``.
    files : mapping
        Name in the bundle to content: the model and the golden files.

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
        problem = _problem(manifest)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        problem = f"{MANIFEST} lacks or mistypes an entry ({type(error).__name__}: {error})"
    if problem:
        raise _bad(path, problem)
    checked: dict[str, Any] = manifest
    return checked


def _problem(manifest: dict[str, Any]) -> str:
    """Return what is wrong with a manifest; empty if nothing is."""
    for name, entry in manifest["files"].items():
        if not SAFE_NAME.fullmatch(name) or name == MANIFEST:
            return f"the file name {name!r} is not allowed"
        size = entry["bytes"]
        if (not SHA256.fullmatch(entry["sha256"]) or not isinstance(size, int)
                or not 0 <= size <= MOST_BYTES):  # fmt: skip
            return f"the entry of {name} has no SHA-256 or no size"
    model, audio, labels = manifest["model"], manifest["audio"], manifest["labels"]
    if not manifest["golden"]:
        return "it has no golden outputs to check this machine by"
    used = [model["file"]] + [g[k] for g in manifest["golden"] for k in ("input", "output")]
    if missing := [name for name in used if name not in manifest["files"]]:
        return f"{missing[0]} is used and not listed"
    if unused := sorted(set(manifest["files"]) - set(used)):
        return f"{unused[0]} is listed and not used"
    if model["format"] not in FORMATS or manifest["activation"] not in ACTIVATIONS:
        return f"format {model['format']!r} or activation {manifest['activation']!r} is unknown"
    if (not isinstance(labels, list) or len(set(labels)) != len(labels)
            or not all(isinstance(x, str) and x for x in labels)):  # fmt: skip
        return "its labels are not distinct names"
    texts = manifest["activation"] == "ctc"
    shape = list(model["output"]["shape"])
    frames = shape[1:2] if texts and len(shape) == 3 and 0 < int(shape[1]) < 2**31 else []
    if shape != [1, *frames, len(labels)] or len(frames) != texts:
        return f"it has {len(labels)} labels and scores of shape {shape}"
    if texts and manifest["tokens"] not in KINDS:
        return f"its transcripts are made of {manifest['tokens']!r}"
    one, window = model["input"]["shape"]
    if one != 1 or not 0 < int(window) < 2**31 or model["input"]["dtype"] != "float32":
        return f"its input is {model['input']['dtype']} of shape {model['input']['shape']}"
    rate = int(audio["sample_rate"])
    if not 1000 <= rate <= 768_000 or not 0 < float(audio["hop_seconds"]) < 86_400:
        return f"its rate {rate} Hz or hop {audio['hop_seconds']} s makes no sense"
    if not abs(float(audio["window_seconds"]) * rate - window) <= 1:
        return f"its window is {audio['window_seconds']} s and {window} samples"
    decision = manifest["decision"]
    thresholds = decision["thresholds"]
    if set(thresholds) != set(() if texts else labels) or not all(
        0 <= float(t) <= 1 for t in thresholds.values()
    ):
        return "its thresholds do not cover its labels with values from 0 to 1"
    if (int(decision["smoothing_windows"]) < 1 or not 0 <= float(decision["refractory_seconds"]) < 86_400
            or not all(isinstance(label, str) for label in decision["ignore"])):  # fmt: skip
        return "its decision rule makes no sense"
    temperature = float(decision.get("temperature", 1.0))
    if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE or (texts and temperature != 1):
        return f"its temperature {temperature:g} makes no sense"
    if not all(0 <= float(golden["tolerance"]) <= 1 for golden in manifest["golden"]):
        return "a golden tolerance is no share of a score"
    if not str(manifest["name"]) or not isinstance(manifest.get("requirements", {}), dict):
        return "it has no name or its requirements are no table"
    return ""


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
