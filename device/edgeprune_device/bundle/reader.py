"""Reads and checks a bundle, the only thing that passes from the workstation to the recorder.

A bundle is a folder, or the same as one .zip: ``bundle.json``, the model file (or two files of one
model, of which the recorder uses the faster), ``golden/``. It is read completely and hashed, and
the runtime gets the very bytes that were hashed: no parser reads a byte before the SHA-256 of its
file has been compared, nothing in it is executable, and a file that ``bundle.json`` does not list
is rejected, except ``bundle.json.sig`` (see ``signature``). ``bundle.json`` begins with its own
digest.

    signature -> digest -> JSON -> schema -> names -> all files' SHA-256 -> external data -> golden
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.adapters import adapter_files, frontend_problem
from edgeprune_device.bundle.external_data import external_problem
from edgeprune_device.bundle.files import Files, bad, opened
from edgeprune_device.bundle.frame_overlap import files_of
from edgeprune_device.bundle.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    SIGNATURE,
    problem_of,
    seal_problem,
    version_problem,
)
from edgeprune_device.bundle.npy import from_npy
from edgeprune_device.bundle.signature import MOST_SIGNATURE_BYTES, check_signature
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Security

OWN = ("runtime", "requirements")
"""Entries of a manifest that an alternative has in its own entry."""
MOST_MANIFEST_BYTES = 4 << 20


@dataclass(frozen=True)
class Golden:
    """A reference input (golden) and the scores of the model on the workstation."""

    samples: NDArray[np.float32]
    """Array (window_samples,), in [-1, 1]."""
    scores: NDArray[np.float32]
    """Array (labels,); of a ctc model (frames, labels)."""
    tolerance: float
    """Largest difference of a score allowed on another processor."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read completely and matches its manifest."""

    path: Path
    manifest: Mapping[str, Any]
    model_bytes: bytes
    golden: tuple[Golden, ...]
    digest: str
    """SHA-256 of ``bundle.json``, which lists the hashes of all other files."""
    alternative: Bundle | None = None
    """The same bundle with its other model file as the model, if it has two. Audio, labels and
    decision are those of the first: its thresholds were set on the scores of the first."""
    incremental_files: Mapping[str, bytes] = field(default_factory=dict)
    """Name -> content of the two files of an incremental model; empty if it has none."""
    arrays: Mapping[str, NDArray[np.float32]] = field(default_factory=dict)
    """Arrays of a front end that the recorder computes, by their names in the bundle."""
    signed_by: str = ""
    """Identity of the trusted key that signed it (see ``signature``); empty: none was required."""

    @property
    def variants(self) -> tuple[Bundle, ...]:
        """One bundle per model file: the first, and the alternative if there is one."""
        first = replace(self, alternative=None)
        return (first, self.alternative) if self.alternative else (first,)

    @property
    def file(self) -> str:
        """Name of the model file in the bundle."""
        return str(self.manifest["model"]["file"])

    @property
    def name(self) -> str:
        """Name of the bundle."""
        return str(self.manifest["name"])

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels in the order of the scores."""
        return tuple(self.manifest["labels"])

    @property
    def activation(self) -> str:
        """``softmax`` (one label per window), ``sigmoid`` (tags), or ``ctc`` (transcripts)."""
        return str(self.manifest["activation"])

    @property
    def tokens(self) -> str:
        """Tokens of a transcript: ``characters`` or ``words``; empty for other bundles."""
        return str(self.manifest.get("tokens", ""))

    @property
    def temperature(self) -> float:
        """Temperature that logits are divided by before thresholds apply; 1 if none was fitted."""
        return float(self.manifest["decision"].get("temperature", 1.0))

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of the scores of one window: (labels,); of a ctc model (frames, labels)."""
        return tuple(int(size) for size in self.manifest["model"]["output"]["shape"][1:])

    @property
    def sample_rate(self) -> int:
        """Sample rate of the model's input in Hz."""
        return int(self.manifest["audio"]["sample_rate"])

    @property
    def window_samples(self) -> int:
        """Length of the model's input window in samples."""
        return int(self.manifest["model"]["input"]["shape"][1])

    @property
    def hop_samples(self) -> int:
        """Samples from the start of one window to the start of the next."""
        return max(1, round(float(self.manifest["audio"]["hop_seconds"]) * self.sample_rate))

    @property
    def format(self) -> str:
        """``onnx`` or ``tflite``."""
        return str(self.manifest["model"]["format"])


def read_bundle(path: Path, security: Security | None = None) -> Bundle:
    """Read a bundle completely and check it.

    Parameters
    ----------
    path : Path
        A folder, or a .zip of the folder's content.
    security : Security or None
        Trusted keys, and whether a signature is required; None: no keys, no signature required.

    Returns
    -------
    Bundle

    Raises
    ------
    EdgepruneError
        There is no bundle; a file is missing, added, changed or of the wrong size; the manifest
        contradicts itself; the model has external data; or a signature is missing or invalid.

    """
    inner = path / "bundle"  # a run has its bundle in a folder of this name
    if (inner / MANIFEST).is_file() and not (path / MANIFEST).exists():
        raise EdgepruneError(f"{path} is not a bundle, but contains one.", f"Use {inner}")
    with opened(path) as files:
        return _read(files, path, security or Security())


def _read(files: Files, path: Path, security: Security) -> Bundle:
    raw = files.read(MANIFEST, MOST_MANIFEST_BYTES)
    names = files.names()
    signature = files.read(SIGNATURE, MOST_SIGNATURE_BYTES) if SIGNATURE in names else None
    signed_by = check_signature(path, raw, signature, security)
    manifest = parse_manifest(raw, path)
    listed: dict[str, dict[str, Any]] = manifest["files"]
    for name in sorted(names - {MANIFEST, SIGNATURE} - set(listed)):
        raise bad(path, f"it contains {name!r}, which {MANIFEST} does not list")
    for name in sorted(
        files.folders() - {name.partition("/")[0] for name in listed if "/" in name}
    ):
        raise bad(path, f"it contains the folder {name!r}, in which {MANIFEST} lists no file")
    contents = {}
    for name, entry in listed.items():
        data = files.read(name, entry["bytes"])
        if len(data) != entry["bytes"] or hashlib.sha256(data).hexdigest() != entry["sha256"]:
            raise bad(path, f"{name} is not the file listed in {MANIFEST} (SHA-256 differs)")
        contents[name] = data
    digest = hashlib.sha256(raw).hexdigest()
    first = replace(_opened(manifest, contents, path, digest), signed_by=signed_by)
    if "alternative" not in manifest:
        return first
    other = _opened(_other_manifest(manifest), contents, path, digest)
    return replace(first, alternative=replace(other, signed_by=signed_by))


def parse_manifest(raw: bytes, path: Path) -> dict[str, Any]:
    """Parse ``bundle.json`` and check every entry the recorder relies on.

    Raises
    ------
    EdgepruneError
        It is not a manifest, has an unsupported schema version, or contradicts itself.

    """
    if len(raw) > MOST_MANIFEST_BYTES:
        raise bad(path, f"{MANIFEST} is larger than {MOST_MANIFEST_BYTES >> 20} MB")
    if problem := seal_problem(raw):
        raise bad(path, problem)
    try:
        manifest = json.loads(raw.decode("utf-8"), object_pairs_hook=_distinct)
        version = version_problem(manifest, raw)
    except (ValueError, TypeError, KeyError, RecursionError):
        raise bad(path, f"{MANIFEST} is not a bundle's manifest") from None
    if version is None:
        raise EdgepruneError(
            f"The bundle {path} has schema version {str(manifest['schema_version'])[:20]}, "
            f"but this edgeprune reads version {SCHEMA_VERSION}.",
            "Install the version of edgeprune that created it, or create the bundle again.",
        )
    if version:
        raise bad(path, version)
    try:
        problem = problem_of(manifest)
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
        problem = f"an entry of {MANIFEST} is missing or has the wrong type ({type(error).__name__}: {error})"
    if problem:
        raise bad(path, problem)
    checked: dict[str, Any] = manifest
    return checked


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return a JSON object as a dict; a duplicate key is an error."""
    table = dict(pairs)
    if len(table) < len(pairs):
        raise ValueError
    return table


def _other_manifest(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return the manifest of the alternative alone."""
    left = {k: v for k, v in manifest.items() if k not in ("alternative", "alternative_golden")}
    model = {k: v for k, v in manifest["alternative"].items() if k not in OWN}
    own = {key: manifest["alternative"].get(key, {}) for key in OWN}
    return {**left, **own, "model": model, "golden": manifest["alternative_golden"]}


def _opened(
    manifest: dict[str, Any], contents: Mapping[str, bytes], path: Path, digest: str
) -> Bundle:
    """Return the bundle with one model file."""
    model = manifest["model"]
    if problem := external_problem(model["format"], contents[model["file"]]):
        raise bad(path, problem)
    arrays = {name: _array(contents[name], path) for name in adapter_files(model)}
    window = int(model["input"]["shape"][1])
    if problem := frontend_problem(model, arrays, window):
        raise bad(path, problem)
    golden = tuple(_golden(entry, contents, manifest, path) for entry in manifest["golden"])
    halves = {name: contents[name] for name in files_of(model)}
    for half in halves.values():
        if problem := external_problem(model["format"], half):
            raise bad(path, problem)
    whole = contents[model["file"]]
    return Bundle(path, manifest, whole, golden, digest, arrays=arrays, incremental_files=halves)


def _golden(
    entry: dict[str, Any], contents: Mapping[str, bytes], manifest: dict[str, Any], path: Path
) -> Golden:
    samples, scores = (_array(contents[entry[key]], path) for key in ("input", "output"))
    model = manifest["model"]
    expected = (model["input"]["shape"][1:], model["output"]["shape"][1:])
    if [list(samples.shape), list(scores.shape)] != list(expected):
        raise bad(path, f"{entry['input']} or its output does not have the shape of the model")
    return Golden(samples, scores, float(entry["tolerance"]))


def _array(data: bytes, path: Path) -> NDArray[np.float32]:
    try:
        return from_npy(data)
    except ValueError as error:
        raise bad(path, f"a golden file or an array of its front end {error}") from None
