"""Making a bundle of a third-party ONNX or TFLite model and its labels.

    inspect the file -> its input's name, shape and type -> adapter (if it needs one)
    -> golden outputs -> bundle -> read back and compared

The file becomes part of the bundle unchanged. What it needs beyond samples (another shape,
integers, a spectrogram, a state) is declared in the manifest; see
``edgeprune_device.bundle.adapters``. A kind of ``KINDS`` states what the file itself does not.
"""

from __future__ import annotations

import io
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune import __version__
from edgeprune.deployment.known_models import KINDS, Kind
from edgeprune.deployment.model_io import Tensor, tensors_of
from edgeprune_device.audio.sound_files import read_clip, windows_of
from edgeprune_device.bundle.npy import to_npy
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.bundle.writer import golden_files, write_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import Scorer, check_golden, open_model, runtime_name

Array = NDArray[np.float32]
GOLDEN_WINDOWS = 3
FLOAT_TOLERANCE, INT8_TOLERANCE = 1e-3, 2e-2
"""Largest difference of a score on another processor; int8 kernels round differently."""
SURE = 0.02  # scores whose sum is this close to one are those of a softmax
FORMATS = {".onnx": "onnx", ".tflite": "tflite"}


@dataclass(frozen=True)
class Wrap:
    """Settings for wrapping a model; values that are empty or 0 come from its kind or its file."""

    kind: str = ""
    """A row of ``KINDS``; empty: samples in, scores out."""
    labels: tuple[str, ...] = ()
    """Labels in the order of the scores."""
    sample_rate: int = 0
    """Sample rate in Hz; default: 16,000."""
    window_seconds: float = 0.0
    """Length of a window in seconds; only if the file leaves it open."""
    hop_seconds: float = 0.0
    """Time between windows in seconds; default: half a window."""
    activation: str = ""
    """``softmax`` or ``sigmoid``; empty: softmax if the scores of every golden input sum to 1."""
    logits: bool = False
    """Whether the file's outputs are logits."""
    threshold: float = 0.5
    """Threshold of all labels."""
    ignore: tuple[str, ...] = ()
    """Background labels, which are not reported."""
    speech: tuple[str, ...] = ()
    """Labels of speech; sound in which they are detected is private."""
    name: str = ""
    """Name of the bundle; empty: that of the file."""
    licence: str = ""
    golden: Path | None = None
    """Recording whose windows are the golden inputs; None: tones and noise."""


def wrap(
    model: str | Path, out: str | Path, settings: Wrap | None = None, **declared: Any
) -> dict[str, Any]:
    """Make a bundle of a third-party model.

    Parameters
    ----------
    model : str or Path
        ``.onnx`` or ``.tflite`` file without external data.
    out : str or Path
        Folder of the bundle.
    settings : Wrap, optional
        Properties that the file does not state.
    **declared
        Fields of ``Wrap``, such as ``labels`` or ``sample_rate``.

    Returns
    -------
    dict
        Properties of the bundle and its predictions for the golden inputs; ``text``: the same as a
        sentence.

    Raises
    ------
    EdgepruneError
        The file is not a sound classifier, needs inputs that cannot be declared, or a required
        property is missing.

    """
    model, out = Path(model), Path(out)
    settings = _declared(settings or Wrap(), declared)
    if settings.kind not in KINDS:
        raise EdgepruneError(
            f"kind = {settings.kind!r} is not known.", f"Known: {', '.join(filter(None, KINDS))}."
        )
    kind, format = KINDS[settings.kind], FORMATS.get(model.suffix.lower(), "")
    if not format or not model.is_file():
        raise EdgepruneError(
            f"{model} is not a .onnx or .tflite file."
            if model.exists()
            else f"There is no {model}."
        )
    data = model.read_bytes()
    inputs, outputs = tensors_of(format, data, str(model))
    sound, scores = _one(inputs, kind.sound, "input"), _one(outputs, kind.scores, "output")
    rate = kind.sample_rate or settings.sample_rate or 16000
    sound = sound.closed(_length(sound, kind, settings, rate))
    window = kind.window_samples or math.prod(sound.sizes)
    scores = scores.closed(1)
    labels = settings.labels or kind.labels or _own_labels(data, scores)
    _check(model, sound, scores, labels, kind, inputs)
    adapter = _adapter(kind, sound, scores, inputs, settings)
    manifest = _manifest(model, format, kind, settings, (sound, scores), labels, window, rate)
    arrays = {name: np.asarray(array) for name, array in kind.arrays.items()}
    clips = golden_windows_of(window, rate, settings.golden)

    def opened(activation: str) -> tuple[dict[str, Any], Scorer]:
        then = {"then": activation} if settings.logits else {}
        held = {**adapter, **then} if adapter or then else None
        if then and not adapter:
            held = {"input": sound.entry(), "output": scores.entry(), **then}
        made = {**manifest, "activation": activation}
        if held:
            made["model"] = {**manifest["model"], "adapter": held}
        return made, open_model(Bundle(out, made, data, (), "", arrays=arrays))

    made, run = opened(settings.activation or kind.activation or "softmax")
    answers = [run(clip) for clip in clips]
    sums = [abs(float(answer.sum()) - 1) for answer in answers]
    if not (settings.activation or kind.activation or settings.logits) and max(sums) > SURE:
        made, run = opened("sigmoid")
    _check_scores(model, answers)
    tolerance = FLOAT_TOLERANCE if sound.dtype == scores.dtype == "float32" else INT8_TOLERANCE
    files, entries = golden_files(clips, answers, tolerance)
    files |= {name: to_npy(array) for name, array in kind.arrays.items()}
    write_bundle(out, {**made, "golden": entries}, {made["model"]["file"]: data, **files})
    return _done(out, answers)


def _declared(settings: Wrap, declared: Mapping[str, Any]) -> Wrap:
    known = [item.name for item in fields(Wrap)]
    if unknown := sorted(set(declared) - set(known)):
        raise EdgepruneError(f"wrap has no setting {unknown[0]}.", f"Known: {', '.join(known)}.")
    given: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in declared.items()}
    if given.get("golden") is not None:
        given["golden"] = Path(given["golden"])
    return replace(settings, **given)


def read_labels(path: Path) -> tuple[str, ...]:
    """Read labels, one per line; raises EdgepruneError."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise EdgepruneError(f"The labels {path} cannot be read: {error}.") from None
    return tuple(line.strip() for line in lines if line.strip())


def golden_windows_of(window: int, rate: int, recording: Path | None) -> list[Array]:
    """Return golden inputs: windows of a recording, evenly spaced, or tones in noise.

    Raises
    ------
    EdgepruneError
        The recording cannot be read.

    """
    if recording is not None:
        windows = windows_of(read_clip(recording, rate), window, window)
        places = np.linspace(0, len(windows) - 1, GOLDEN_WINDOWS).round().astype(int)
        return [windows[place].astype(np.float32) for place in dict.fromkeys(places.tolist())]
    generator, time = np.random.default_rng(0), np.arange(window) / rate
    made = []
    for index in range(GOLDEN_WINDOWS):
        tone = np.sin(2 * np.pi * (300 + 400 * index) * time * (1 + 0.1 * time))
        noise = generator.standard_normal(window)
        made.append((0.1 * (tone + 0.3 * noise)).clip(-1, 1).astype(np.float32))
    return made


def _one(tensors: Sequence[Tensor], name: str, side: str) -> Tensor:
    found = [tensor for tensor in tensors if tensor.name == name] if name else list(tensors)
    if len(found) != 1:
        names = ", ".join(tensor.name for tensor in tensors)
        raise EdgepruneError(
            f"The model has the {side}s {names}" + (f", but not {name}." if name else "."),
            f"Use a kind that says which one to use: {', '.join(filter(None, KINDS))}.",
        )
    return found[0]


def _length(sound: Tensor, kind: Kind, settings: Wrap, rate: int) -> int:
    """Return the size of the file's open dimension: the samples it takes at a time."""
    if None not in sound.shape[1:]:
        return 1
    frames = kind.extras.get("frames")
    if frames:
        return int(frames["samples"]) + int(frames["context"])
    if not settings.window_seconds > 0:
        raise EdgepruneError(
            "The model takes windows of any length.", "Choose one with --window SECONDS."
        )
    return round(settings.window_seconds * rate)


def _check(
    model: Path, sound: Tensor, scores: Tensor, labels: tuple[str, ...], kind: Kind,
    inputs: Sequence[Tensor],
) -> None:  # fmt: skip
    """Raise if the file cannot be a sound classifier with these labels."""
    taken, given = math.prod(sound.sizes), math.prod(scores.sizes)
    known = f"Kinds with a front end: {', '.join(n for n, k in KINDS.items() if k.arrays)}."
    if given == taken and given != len(labels):
        raise EdgepruneError(
            f"{model} has as many outputs as inputs ({taken}), so it is not a classifier.",
            "An autoencoder's error would have to be converted into a score first.",
        )
    if not kind.extras and sum(size > 1 for size in sound.sizes) > 1:
        shape = " x ".join(str(size) for size in sound.sizes)
        raise EdgepruneError(f"{model} takes an array of {shape}, not samples.", known)
    if not labels:
        raise EdgepruneError(
            f"{model} has {given} scores without names.", "Give the names with --labels FILE."
        )
    if len(labels) != given:
        raise EdgepruneError(f"There are {len(labels)} labels, but {model} has {given} scores.")
    held = {x["name"] for x in kind.extras.get("constants", [])}
    held |= {sound.name} | {x["input"] for x in kind.extras.get("state", [])}
    if over := sorted({tensor.name for tensor in inputs} - held):
        raise EdgepruneError(
            f"{model} also needs {', '.join(over)}.", "No kind declares that input."
        )


def _adapter(
    kind: Kind, sound: Tensor, scores: Tensor, inputs: Sequence[Tensor], settings: Wrap
) -> dict[str, Any]:
    """Return what the manifest must declare; empty for a file like edgeprune's own."""
    names = {tensor.name for tensor in inputs}
    extras = {key: value for key, value in kind.extras.items() if key != "constants"}
    if constants := [x for x in kind.extras.get("constants", []) if x["name"] in names]:
        extras["constants"] = constants
    plain = all(
        tensor.dtype == "float32" and len(tensor.sizes) == 2 and tensor.sizes[0] == 1
        and None not in tensor.shape for tensor in (sound, scores)
    )  # fmt: skip
    return {} if plain and not extras else {
        "input": sound.entry(), "output": scores.entry(), **extras,
    }  # fmt: skip


def _manifest(
    model: Path, format: str, kind: Kind, settings: Wrap, tensors: tuple[Tensor, Tensor],
    labels: tuple[str, ...], window: int, rate: int,
) -> dict[str, Any]:  # fmt: skip
    sound, scores = tensors
    runtime, _, version = runtime_name(format).partition(" ")
    whole = {tensor.dtype for tensor in tensors} != {"float32"}
    hop = settings.hop_seconds or (kind.hop_samples or window / 2) / rate
    ignore = [*(settings.ignore or kind.ignore)]
    speech = [*(settings.speech or kind.speech)]
    if unknown := sorted({*ignore, *speech} - set(labels)):
        raise EdgepruneError(f"The model has no label {unknown[0]!r}.")
    return {
        "name": settings.name or model.stem, "edgeprune_version": __version__,
        "runtime": {"name": runtime, "version": version},
        "model": {
            "file": f"model.{format}", "format": format, "opset": None,
            "quantization": "static" if whole else "none", "parameters": None, "layers": None,
            "family": settings.kind or "foreign",
            "input": {"name": sound.name, "shape": [1, window], "dtype": "float32"},
            "output": {"name": scores.name, "shape": [1, len(labels)], "dtype": "float32"},
        },
        "audio": {"sample_rate": rate, "channels": 1, "window_seconds": window / rate,
                  "hop_seconds": hop},
        "labels": list(labels), "activation": "",
        "decision": {"thresholds": dict.fromkeys(labels, settings.threshold),
                     "smoothing_windows": 1, "refractory_seconds": 1.0, "ignore": ignore},
        **({"privacy": {"labels": speech}} if speech else {}),
        "requirements": {"runtime": f"{runtime}>={version}"},
        "provenance": {"wrapped": model.name}, "licence": settings.licence,
    }  # fmt: skip


def _own_labels(data: bytes, scores: Tensor) -> tuple[str, ...]:
    """Return the labels in TFLite metadata, a text file in a zip appended to the model."""
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return ()
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for name in archive.namelist():
            lines = tuple(archive.read(name).decode("utf-8", "replace").split("\n"))
            lines = tuple(line.strip() for line in lines if line.strip())
            if name.endswith(".txt") and len(lines) == math.prod(scores.sizes):
                return lines
    return ()


def _check_scores(model: Path, answers: Sequence[Array]) -> None:
    held = np.concatenate(answers)
    if not np.isfinite(held).all():
        raise EdgepruneError(f"The scores of {model} contain NaN or infinity.")
    if held.min() < -1e-6 or held.max() > 1 + 1e-6:
        raise EdgepruneError(
            f"The scores of {model} are {held.min():.3g} to {held.max():.3g}, not 0 to 1.",
            "If they are logits, use --logits.",
        )


def _done(out: Path, answers: Sequence[Array]) -> dict[str, Any]:
    """Read the bundle as a recorder would, and describe it."""
    bundle = read_bundle(out)
    difference = check_golden(bundle, open_model(bundle))
    heard = [bundle.labels[int(answer.argmax())] for answer in answers]
    seconds = bundle.window_samples / bundle.sample_rate
    facts: Mapping[str, Any] = {
        "bundle": str(out), "name": bundle.name, "format": bundle.format,
        "labels": len(bundle.labels), "activation": bundle.activation,
        "sample_rate": bundle.sample_rate, "window_seconds": seconds,
        "hop_seconds": bundle.hop_samples / bundle.sample_rate,
        "golden": heard, "golden_difference": difference,
    }  # fmt: skip
    text = (
        f"{out}: {bundle.name}, {len(bundle.labels)} labels ({bundle.activation}), windows of "
        f"{seconds:g} s at {bundle.sample_rate} Hz. Predictions for the golden inputs: "
        f"{', '.join(heard)}."
    )
    return {**facts, "text": text}
