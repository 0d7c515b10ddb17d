"""Make the deployed file: int8 where it is fast and safe, and the thresholds that go with it.

Thresholds are set after quantization, on what the deployed file itself answers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune import models
from edgeprune.audio import Windows, load_windows
from edgeprune.augment import nothing
from edgeprune.bundles import describe, golden_inputs, operators, write
from edgeprune.console import Ui
from edgeprune.dynamic_int8 import to_int8
from edgeprune.export_onnx import onnx_runner
from edgeprune.families import family_of
from edgeprune.settings import Quantize
from edgeprune.store_int8 import store_int8
from edgeprune.tasks import task_of
from edgeprune_calibration.thresholds import (
    LOWEST,
    LOWEST_TAG,
    LOWEST_UNTAUGHT,
    NO_LABEL,
    choose_thresholds,
)
from edgeprune_device.bundle import read_bundle


def quantize(
    student: Path, exported: Path, clips: Path, name: str, licence: str, *, out: Path,
    settings: Quantize, ui: Ui,
) -> None:  # fmt: skip
    """Write the deployed bundle to ``bundle/``, and ``quantize.json``.

    Parameters
    ----------
    student : Path
        The student's model folder.
    exported : Path
        Its float32 bundle.
    clips : Path
        The ``clips`` stage's folder.
    name, licence : str
        Of the bundle.

    """
    source = read_bundle(exported)
    classifier = models.load_classifier(str(student))
    data = source.model_bytes
    if settings.method != "none":
        make = METHODS[settings.method]
        data = make(data, family_of(classifier.config.model_type).float_scopes)
    valid = load_windows(clips).split("valid")
    manifest = describe(
        name, classifier, valid, quantization=settings.method,
        opset=source.manifest["model"]["opset"], licence=licence, hop_seconds=settings.hop_seconds,
    )  # fmt: skip
    manifest["decision"] = decision(data, valid, models.labels_of(classifier), settings, ui)
    write(out / "bundle", manifest, data, golden_inputs(valid))
    facts = {"bytes": len(data), "float_bytes": len(source.model_bytes), "method": settings.method,
             "operators": operators(data)}  # fmt: skip
    (out / "quantize.json").write_text(json.dumps(facts, indent=1), "utf-8")
    ui.say(f"  {len(source.model_bytes) / 1e6:.1f} MB -> {len(data) / 1e6:.1f} MB")


METHODS = {"dynamic": to_int8, "weights": store_int8}
"""How the file is made from the float one: (its bytes, modules that stay in float) -> bytes."""


def decision(
    data: bytes, valid: Windows, labels: tuple[str, ...], settings: Quantize, ui: Ui
) -> dict[str, Any]:
    """Set each label's threshold on validation clips, as the deployed file scores them.

    Of classes where none means "nothing", windows of nothing are added and no threshold is low. A
    tag's threshold is its own affair: the clips without it are its nothing. A transcript has none.
    """
    task = task_of(valid.task)
    if task.activation == "ctc":
        return {"thresholds": {}, "smoothing_windows": 1, "refractory_seconds": 0.0, "ignore": []}
    ignore = [label for label in labels if label in settings.ignore]
    sounds, truth = valid.samples, task.targets(valid, labels).numpy()
    lowest = LOWEST_TAG if task.activation == "sigmoid" else LOWEST
    if task.silence is not None and not ignore:
        empty = empty_windows(valid)
        sounds, lowest = np.concatenate([sounds, empty]), LOWEST_UNTAUGHT
        truth = np.concatenate([truth, np.full(len(empty), NO_LABEL)])
    scores = score_all(data, sounds, ui)
    thresholds = choose_thresholds(scores, truth, labels, settings.precision, lowest)
    return {"thresholds": thresholds, "smoothing_windows": settings.smoothing_windows,
            "refractory_seconds": settings.refractory_seconds, "ignore": ignore}  # fmt: skip


def empty_windows(valid: Windows, seed: int = 0) -> NDArray[np.float32]:
    """Make as many windows without a label as there are with one, up to 20 dB quieter.

    Noise, scraps and edges of the validation clips' sounds, as in ``augment.nothing``.
    """
    generator = torch.Generator().manual_seed(seed)
    empty = nothing(torch.from_numpy(np.array(valid.samples)), generator).numpy()
    quieter = 10 ** (-np.random.default_rng(seed).uniform(0, 20, len(empty)) / 20)
    return np.asarray(empty * quieter[:, None], dtype=np.float32).clip(-1, 1)


def score_all(data: bytes, sounds: NDArray[np.float32], ui: Ui) -> NDArray[np.float32]:
    """Return the scores (n, labels) a file gives windows (n, samples)."""
    run = onnx_runner(data)
    return np.concatenate([run(x[None]) for x in ui.track(sounds, "thresholds", len(sounds))])
