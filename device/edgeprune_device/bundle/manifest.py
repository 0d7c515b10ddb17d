"""Checks ``bundle.json`` before any file that it lists is read.

Pure functions from a manifest to a sentence. A bundle may hold the same model in two files:
``model`` with ``golden``, ``alternative`` with ``alternative_golden``; both follow the same rules.
The manifest begins with its own digest, so that a change in it is noticed as well.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edgeprune_device.bundle.adapters import adapter_files, adapter_problem
from edgeprune_device.bundle.frame_overlap import files_of, problem_of_incremental

MANIFEST = "bundle.json"
SIGNATURE = "bundle.json.sig"
"""The only file that a bundle may have besides those that the manifest lists."""
SCHEMA_VERSION, UNSEALED_VERSION = 2, 1
"""Schema version that is written, and the one from before manifests had a digest of themselves."""
SEAL = b'{\n "digest": "'
NO_DIGEST = b"0" * 64
FORMATS = ("onnx", "tflite")
ACTIVATIONS = ("softmax", "sigmoid", "ctc")
LOWEST_TEMPERATURE, HIGHEST_TEMPERATURE = 0.05, 20.0
MOST_BYTES = 2 << 30  # of all files together; a hostile zip may claim anything
SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9][A-Za-z0-9._-]*)?")
RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # on Windows
MOST_FILES = 1000
LONGEST_LABEL = 300
MOST_SMOOTHED = 10_000  # windows, as in settings
SHA256 = re.compile(r"[0-9a-f]{64}")
MODELS = (("model", "golden"), ("alternative", "alternative_golden"))
"""Entries of a model and its golden inputs and outputs; the second pair is optional."""


def sealed(manifest: Mapping[str, Any]) -> bytes:
    """Return the bytes of ``bundle.json``: the digest first, then the rest.

    The digest is the SHA-256 of these bytes with 64 zeros in its own place.
    """
    body = {key: value for key, value in manifest.items() if key != "digest"}
    text = json.dumps({"digest": NO_DIGEST.decode(), **body}, indent=1, ensure_ascii=False) + "\n"
    raw = text.encode()
    return raw.replace(NO_DIGEST, hashlib.sha256(raw).hexdigest().encode(), 1)


def seal_problem(raw: bytes) -> str:
    """Return the problem of the digest at the start of ``bundle.json``; empty if there is none.

    A manifest without digest is left to ``version_problem``.
    """
    if not raw.startswith(SEAL):
        return ""
    end = len(SEAL) + len(NO_DIGEST)
    blank = SEAL + NO_DIGEST + raw[end:]
    if raw[len(SEAL) : end] != hashlib.sha256(blank).hexdigest().encode():
        return f"{MANIFEST} was changed (its digest differs)"
    return ""


def version_problem(manifest: Any, raw: bytes) -> str | None:
    """Return the problem of the schema version; None if this edgeprune cannot read it."""
    version = manifest["schema_version"]
    if version == UNSEALED_VERSION and not isinstance(version, bool):
        return ""
    if version != SCHEMA_VERSION:
        return None
    return "" if raw.startswith(SEAL) else f"{MANIFEST} does not begin with its digest"


def problem_of(manifest: dict[str, Any]) -> str:
    """Return the first problem of a manifest; empty if there is none.

    Raises
    ------
    KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError
        An entry is missing or has the wrong type.

    """
    both = "alternative" in manifest
    if not both and "alternative_golden" in manifest:
        return "it has alternative_golden, but no alternative"
    held = [(manifest[model], manifest[golden]) for model, golden in MODELS[: 1 + both]]
    if problem := _files_problem(manifest["files"], held):
        return problem
    for model, golden in held:
        if problem := _model_problem(model, golden, manifest):
            return problem
    if both:
        for side in ("input", "output"):
            first, other = (list(model[side]["shape"]) for model, _ in held)
            if first != other:
                return f"the {side}s of its two models have the shapes {first} and {other}"
    return _rule_problem(manifest)


def _files_problem(
    files: dict[str, dict[str, Any]], held: Sequence[tuple[dict[str, Any], list[dict[str, Any]]]]
) -> str:
    if len(files) > MOST_FILES:
        return f"it lists over {MOST_FILES} files"
    folded: set[str] = set()
    for name, entry in files.items():
        parts = name.split("/")
        if (not SAFE_NAME.fullmatch(name) or name in (MANIFEST, SIGNATURE)
                or any(RESERVED.fullmatch(part) or part.endswith(".") for part in parts)):  # fmt: skip
            return f"the file name {name!r} is not allowed"
        if name.lower() in folded or name.lower() in (MANIFEST, SIGNATURE):
            return f"the file name {name!r} differs from another one only in case"
        folded.add(name.lower())
        size = entry["bytes"]
        if (not SHA256.fullmatch(entry["sha256"]) or not isinstance(size, int)
                or not 0 <= size <= MOST_BYTES):  # fmt: skip
            return f"the entry of {name} has no valid SHA-256 or size"
    if sum(entry["bytes"] for entry in files.values()) > MOST_BYTES:
        return f"its files are larger than {MOST_BYTES >> 30} GiB"
    if clash := sorted(name for name in folded if any(o.startswith(f"{name}/") for o in folded)):
        return f"{clash[0]!r} is both a file and a folder"
    if not all(golden for _, golden in held):
        return "it has no reference inputs (golden) to check this machine with"
    models = [name for model, _ in held for name in (model["file"], *files_of(model))]
    if twice := [name for name in models if models.count(name) > 1]:
        return f"its two models are the same file, {twice[0]}"
    used = models + [g[k] for _, golden in held for g in golden for k in ("input", "output")]
    used += [name for model, _ in held for name in adapter_files(model)]
    if missing := [name for name in used if name not in files]:
        return f"{missing[0]} is used but not listed"
    if unused := sorted(set(files) - set(used)):
        return f"{unused[0]} is listed but not used"
    return ""


def _model_problem(
    model: dict[str, Any], golden: list[dict[str, Any]], manifest: dict[str, Any]
) -> str:
    audio, labels = manifest["audio"], manifest["labels"]
    if model["format"] not in FORMATS or manifest["activation"] not in ACTIVATIONS:
        return f"format {model['format']!r} or activation {manifest['activation']!r} is not known"
    if (not isinstance(labels, list) or len(set(labels)) != len(labels)
            or not all(isinstance(x, str) and x for x in labels)):  # fmt: skip
        return "its labels are not distinct names"
    texts = manifest["activation"] == "ctc"
    if not texts and not all(x.isprintable() and len(x) <= LONGEST_LABEL for x in labels):
        return "one of its labels is not printable"  # it may contain terminal control codes
    shape = list(model["output"]["shape"])
    frames = shape[1:2] if texts and len(shape) == 3 and 0 < int(shape[1]) < 2**31 else []
    if shape != [1, *frames, len(labels)] or len(frames) != texts:
        return f"it has {len(labels)} labels and scores of shape {shape}"
    if texts and manifest["tokens"] not in CTC_KINDS:
        return f"its tokens {manifest['tokens']!r} are not known (allowed: characters, words)"
    if not all(isinstance(model[side]["name"], str) for side in ("input", "output")):
        return "its model's input or output has no name"
    one, window = model["input"]["shape"]
    if one != 1 or not 0 < int(window) < 2**31 or model["input"]["dtype"] != "float32":
        return (
            f"its input is {model['input']['dtype']} of shape {model['input']['shape']} "
            "(allowed: float32 of shape [1, samples])"
        )
    rate = int(audio["sample_rate"])
    if not 1000 <= rate <= 768_000 or not 0 < float(audio["hop_seconds"]) < 86_400:
        return (
            f"its rate {rate} Hz or hop {audio['hop_seconds']} s is out of range "
            "(allowed: 1000 to 768000 Hz, over 0 s)"
        )
    if not abs(float(audio["window_seconds"]) * rate - window) <= 1:
        return f"its window of {audio['window_seconds']} s does not match {window} samples"
    if not all(0 <= float(entry["tolerance"]) <= 1 for entry in golden):
        return "a golden tolerance is out of range (allowed: 0 to 1)"
    if not isinstance(model.get("requirements", {}), dict):
        return "the requirements of a model are not a table"
    if texts and "adapter" in model:
        return "a ctc model cannot have an adapter"
    return problem_of_incremental(model) or adapter_problem(model, int(window), len(labels))


def _rule_problem(manifest: dict[str, Any]) -> str:
    texts, labels, decision = (
        manifest["activation"] == "ctc",
        manifest["labels"],
        manifest["decision"],
    )
    thresholds = decision["thresholds"]
    if set(thresholds) != set(() if texts else labels) or not all(
        0 <= float(t) <= 1 for t in thresholds.values()
    ):
        return "its thresholds do not cover its labels with values from 0 to 1"
    if (not 1 <= int(decision["smoothing_windows"]) <= MOST_SMOOTHED
            or not 0 <= float(decision["refractory_seconds"]) < 86_400
            or not all(isinstance(label, str) for label in decision["ignore"])):  # fmt: skip
        return "its decision rule has a value out of range"
    temperature = float(decision.get("temperature", 1.0))
    if not LOWEST_TEMPERATURE <= temperature <= HIGHEST_TEMPERATURE or (texts and temperature != 1):
        return f"its temperature {temperature:g} is out of range (allowed: 0.05 to 20; ctc: 1)"
    speech = manifest.get("privacy", {"labels": []})["labels"]  # optional: labels that mean speech
    if not isinstance(speech, list) or not set(speech) <= set(() if texts else labels):
        return "its privacy entry names unknown labels"
    name = manifest["name"]
    if not isinstance(name, str) or not name.isprintable() or len(name) > LONGEST_LABEL:
        return "its name is not printable"
    if not name or not isinstance(manifest.get("requirements", {}), dict):
        return "it has no name or its requirements are not a table"
    return ""


CTC_KINDS = ("characters", "words")
"""What a token is: one character of the transcript, or one word."""
