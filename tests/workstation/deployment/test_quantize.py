"""The deployed file: int8 that agrees, and thresholds set on what it answers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from tiny_models import make_model
from tiny_recordings import RATE
from tiny_windows import LABELS, tone_windows

from edgeprune.core.console import Silent
from edgeprune.core.deployment_settings import Quantize
from edgeprune.deployment.quantize import decision, empty_windows
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading


def test_thresholds_cover_every_label_and_the_rule_is_the_recipes(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "kwt", LABELS)))
    rule = decision(
        onnx_runner(to_onnx(model, RATE, 18)), tone_windows(seconds=1.0), LABELS,
        Quantize(smoothing_windows=3, refractory_seconds=2.0), Silent(),
    )  # fmt: skip
    assert set(rule["thresholds"]) == set(LABELS)
    assert (rule["smoothing_windows"], rule["refractory_seconds"]) == (3, 2.0)


def test_where_no_label_means_nothing_no_threshold_is_low(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path, "kwt", LABELS)))
    run = onnx_runner(to_onnx(model, RATE, 18))
    unaware = decision(run, tone_windows(seconds=1.0), LABELS, Quantize(), Silent())
    assert unaware["ignore"] == []
    assert min(unaware["thresholds"].values()) >= 0.8
    aware = decision(run, tone_windows(seconds=1.0), LABELS, Quantize(ignore=LABELS[:1]), Silent())
    assert aware["ignore"] == list(LABELS[:1])
    assert min(aware["thresholds"].values()) < 0.8


def test_windows_without_a_label_are_no_louder_than_the_clips_and_hold_no_whole_sound() -> None:
    clips = tone_windows()
    empty = empty_windows(clips)
    assert empty.shape == clips.samples.shape
    level = np.sqrt(np.mean(empty**2, axis=1) / np.mean(clips.samples**2, axis=1))
    assert 0 < level.min() < level.max() < 1.01
    for one, other in zip(empty, clips.samples, strict=True):
        likeness = np.abs(np.corrcoef(one, other)[0, 1])
        assert likeness < 0.9
