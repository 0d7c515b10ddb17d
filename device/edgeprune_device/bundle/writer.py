"""Writes a bundle atomically: all files, their hashes and a sealed manifest."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.manifest import (
    MANIFEST,
    SCHEMA_VERSION,
    sealed,
)
from edgeprune_device.bundle.npy import to_npy
from edgeprune_device.bundle.reader import OWN, Bundle, parse_manifest, read_bundle
from edgeprune_device.errors import EdgepruneError


def write_bundle(folder: Path, manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> None:
    """Write a bundle atomically, and read it back as a recorder would.

    Parameters
    ----------
    folder : Path
        Target; an existing bundle is replaced, anything else is left alone.
    manifest : mapping
        Content of ``bundle.json`` except ``digest``, ``schema_version`` and ``files``, which are
        set here, and ``created``, which is kept if given.
    files : mapping
        Name in the bundle -> content: the model (or both) and the golden files.

    Raises
    ------
    EdgepruneError
        The folder holds something that is not a bundle, or the bundle would not be accepted.

    """
    if folder.exists() and not (folder / MANIFEST).is_file():
        raise EdgepruneError(
            f"{folder} exists and is not a bundle.", "Name a folder that does not exist yet."
        )
    listing = {
        name: {"sha256": hashlib.sha256(data).hexdigest(), "bytes": len(data)}
        for name, data in sorted(files.items())
    }
    created = {"created": datetime.now(UTC).isoformat(timespec="seconds")}
    given = {key: value for key, value in manifest.items() if key != "schema_version"}
    text = sealed({"schema_version": SCHEMA_VERSION, **created, **given, "files": listing})
    parse_manifest(text, folder)  # before a name in it becomes a path
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
        Reference inputs (golden).
    outputs : sequence of array (labels,) or (frames, labels)
        Scores of the bundle's own model file on the machine that created it.
    tolerance : float
        Largest difference of a score allowed on another machine, 0 to 1.

    Returns
    -------
    files : dict
        Name in the bundle -> content.
    entries : list of dict
        Entries of ``golden`` in the manifest.

    """
    files, entries = {}, []
    for index, (samples, scores) in enumerate(zip(inputs, outputs, strict=True)):
        entry = {"input": f"golden/{index}.input.npy", "output": f"golden/{index}.output.npy",
                 "tolerance": tolerance}  # fmt: skip
        files[str(entry["input"])] = to_npy(samples)
        files[str(entry["output"])] = to_npy(scores)
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
        The same model in another file; its own ``decision`` is not copied.

    Raises
    ------
    EdgepruneError
        Both bundles use the same name for their model file.

    """
    added = {other.file: other.model_bytes, **other.incremental_files}
    whole, entries = {**files, **added}, []
    if both := sorted(set(added) & set(files)):
        raise EdgepruneError(
            f"Both models of bundle {manifest['name']} have the file name {both[0]}."
        )
    for index, golden in enumerate(other.golden):
        samples = to_npy(golden.samples)
        shared = [
            entry["input"] for entry in manifest["golden"] if files[entry["input"]] == samples
        ]
        source = shared[0] if shared else f"golden/{index}.alternative.input.npy"
        target = f"golden/{index}.alternative.output.npy"
        whole[source], whole[target] = samples, to_npy(golden.scores)
        entries.append({"input": source, "output": target, "tolerance": golden.tolerance})
    own = {key: other.manifest[key] for key in OWN if key in other.manifest}
    model = {**other.manifest["model"], **own}
    return {**manifest, "alternative": model, "alternative_golden": entries}, whole
