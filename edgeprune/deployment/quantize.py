"""The stage ``quantize``: make candidate files, choose one per format, and write its bundle.

Thresholds are set after quantization, from the deployed file's own scores.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune.core.console import Ui, format_percent
from edgeprune.core.deployment_settings import Quantize
from edgeprune.core.files import write_json
from edgeprune.data.augment import background_windows
from edgeprune.data.clip_subsets import spread
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import Windows, load_windows
from edgeprune.deployment.candidates import AUTO, Candidate, choose, scores_of_file, try_files
from edgeprune.deployment.streaming import add_halves
from edgeprune.export.bundle_writer import describe, golden_inputs, write
from edgeprune.export.export import RUNNERS, Runner, bundle_name
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.quantization.methods import method_of
from edgeprune.quantization.module_scopes import scopes_of
from edgeprune_calibration.thresholds import (
    LOWEST,
    LOWEST_TAG,
    LOWEST_WITHOUT_BACKGROUND,
    NO_LABEL,
    choose_thresholds,
)
from edgeprune_device.bundle.reader import Bundle, read_bundle


def quantize(
    student: Path, exported: Path, clips: Path, name: str, licence: str, formats: list[str],
    decided: dict[str, str], *, out: Path, settings: Quantize, ui: Ui,
) -> None:  # fmt: skip
    """Write each format's deployed bundle (``bundle_name``) and ``quantize.json``.

    Parameters
    ----------
    student : Path
        The student's model folder.
    exported : Path
        Folder of the stage ``export``.
    clips : Path
        Folder of the stage ``clips``.
    name, licence : str
        Name and licence of the bundle.
    formats : list of str
        ``onnx``, ``tflite``.
    decided : dict
        Format -> method, and ``first`` -> format, as decided for another seed; empty: decide here.

    """
    classifier = loading.load_model(str(student))
    labels = loading.labels_of(classifier)
    family = family_of(classifier.config.model_type)
    windows = load_windows(clips)
    floats = {format: read_bundle(exported / bundle_name(format)) for format in formats}
    scopes = scopes_of(family)
    some = np.array(spread(windows.split("train"), settings.calibration_clips).samples)
    valid = windows.split("valid")
    wanted = [(format, method) for format in formats
              for method in methods_of(settings.method, decided.get(format, ""))]  # fmt: skip
    files = []
    for format, method in dict.fromkeys([(formats[0], "none"), *wanted]):  # the float file first
        ui.say(f"  {format}: {method}")
        make = method_of(format, method, settings.calibrate)
        files.append((format, method, make(floats[format].model_bytes, scopes, some)))
    tried = try_files(files, spread(valid, settings.try_clips), labels, ui)
    tried = [variant for variant in tried if (variant.format, variant.method) in wanted]
    chosen, why = {}, {}
    for format in formats:
        own = [variant for variant in tried if variant.format == format]
        chosen[format], why[format] = choose(own, settings.target, settings.max_loss)
    first, first_why = choose(list(chosen.values()), settings.target, settings.max_loss)
    if "first" in decided:
        first, first_why = chosen[decided["first"]], "same as for the first seed"
    for format, variant in chosen.items():
        deliver(variant, floats[format], classifier, valid, some, name, licence,
                out / bundle_name(format), settings, ui)  # fmt: skip
    facts = {
        "float_bytes": {format: len(source.model_bytes) for format, source in floats.items()},
        "tried": [{**variant.facts(), "chosen": variant is chosen[variant.format],
                   "why": why[variant.format] if variant is chosen[variant.format] else ""}
                  for variant in tried],
        "first": first.format, "first_why": first_why, "target": settings.target,
        "decided": {"first": first.format, **{f: v.method for f, v in chosen.items()}},
    }  # fmt: skip
    write_json(out / "quantize.json", facts)
    for variant in tried:
        kept = "  <- delivered" if variant is first else ""
        ui.say(f"  {variant.format:<7} {variant.method:<8} {len(variant.data) / 1e6:7.2f} MB "
               f"{variant.milliseconds:7.2f} ms  score {format_percent(variant.score)}, "
               f"agreement with float32 {format_percent(variant.agreement)}{kept}")  # fmt: skip


def methods_of(asked: str, decided: str) -> tuple[str, ...]:
    """Return the methods to try: that of another seed, the requested one, or several."""
    if decided:
        return (decided,)
    return AUTO if asked == "auto" else (asked,)


def deliver(
    variant: Candidate, source: Bundle, classifier: Any, valid: Windows,
    some: NDArray[np.float32], name: str, licence: str, folder: Path, settings: Quantize, ui: Ui,
) -> None:  # fmt: skip
    """Write a chosen file's bundle, with a decision rule from its own scores.

    ``some`` are its calibration windows. If the model allows it, the bundle also contains the
    file's two halves (``streaming``).
    """
    manifest = describe(
        name, classifier, valid, quantization=variant.method, licence=licence,
        opset=source.manifest["model"]["opset"], format=variant.format,
        hop_seconds=settings.hop_seconds,
    )  # fmt: skip
    run = RUNNERS[variant.format](variant.data)
    manifest["decision"] = decision(run, valid, loading.labels_of(classifier), settings, ui)
    manifest, halves = add_halves(
        manifest, variant.data, classifier, valid, some, settings.incremental,
        own_hop=not settings.hop_seconds, calibrate=settings.calibrate, run=run,
    )  # fmt: skip
    if halves:
        ui.say(f"  {said_of(manifest)}")
    write(folder, manifest, variant.data, golden_inputs(valid), halves)


def said_of(manifest: dict[str, Any]) -> str:
    """Describe the time that a bundle's halves save."""
    measured = manifest["model"]["incremental"]["measured"]
    hop, own, whole = (measured[name] for name in ("hop_samples", "milliseconds", "whole"))
    return (f"overlapping windows share frames: {own:.2f} ms per window at a hop of {hop} samples "
            f"instead of {whole:.2f} ms")  # fmt: skip


def decision(
    run: Runner, valid: Windows, labels: tuple[str, ...], settings: Quantize, ui: Ui
) -> dict[str, Any]:
    """Set each label's threshold on validation clips, by the deployed file's scores.

    For classes without a background label, background windows are added and thresholds have a
    higher minimum. For a tag, the clips without it are the negatives. Transcripts have none.
    """
    task = task_of(valid.task)
    if task.activation == "ctc":
        return {"thresholds": {}, "smoothing_windows": 1, "refractory_seconds": 0.0, "ignore": []}
    ignore = [label for label in labels if label in settings.ignore]
    sounds, truth = valid.samples, task.targets(valid, labels).numpy()
    lowest = LOWEST_TAG if task.activation == "sigmoid" else LOWEST
    if task.background_target is not None and not ignore:
        empty = empty_windows(valid)
        sounds, lowest = np.concatenate([sounds, empty]), LOWEST_WITHOUT_BACKGROUND
        truth = np.concatenate([truth, np.full(len(empty), NO_LABEL)])
    scores = scores_of_file(run, sounds, ui, "thresholds")
    thresholds = choose_thresholds(scores, truth, labels, settings.precision, lowest)
    return {"thresholds": thresholds, "smoothing_windows": settings.smoothing_windows,
            "refractory_seconds": settings.refractory_seconds, "ignore": ignore}  # fmt: skip


def empty_windows(valid: Windows, seed: int = 0) -> NDArray[np.float32]:
    """Make as many windows without labels as there are with labels, up to 20 dB quieter.

    Noise, scrambled sound and edges of the validation clips' sounds, as in ``augment.background_windows``.
    """
    generator = torch.Generator().manual_seed(seed)
    empty = background_windows(torch.from_numpy(np.array(valid.samples)), generator).numpy()
    quieter = 10 ** (-np.random.default_rng(seed).uniform(0, 20, len(empty)) / 20)
    return np.asarray(empty * quieter[:, None], dtype=np.float32).clip(-1, 1)
