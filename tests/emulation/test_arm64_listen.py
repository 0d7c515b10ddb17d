"""The bare wheel under emulation: what a Raspberry Pi's processor hears is what is heard here."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from repository import ROOT, shared
from tiny_recordings import RATE, TONES, tone

from edgeprune.deployment.wrap import Wrap, wrap

SCRIPT = ROOT / "benchmarks/arm64_listen.py"


@pytest.mark.slow
@pytest.mark.emulation
def test_the_bare_wheel_hears_on_arm64_what_is_heard_here(
    tiny_bundle: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    """An ONNX bundle and a TFLite one, golden outputs checked, every detection compared."""
    sound = np.concatenate([tone(pitch, 1.0, seed) for seed, pitch in enumerate(TONES.values())])
    soundfile.write(tmp_path / "tones.wav", sound, RATE)
    wrap(
        shared("models/mlperf_tiny/kws_ref_model.tflite", pytestconfig), tmp_path / "kws",
        Wrap(kind="mlperf-keywords"),
    )  # fmt: skip
    wav, speech = tmp_path / "tones.wav", shared("models/yamnet/speech.wav", pytestconfig)
    subprocess.run(
        [sys.executable, str(SCRIPT), f"{tiny_bundle}={wav}", f"{tmp_path / 'kws'}={speech}",
         "-o", str(tmp_path / "arm64.json")],
        check=True,
    )  # fmt: skip
    done = json.loads((tmp_path / "arm64.json").read_text("utf-8"))
    assert done["machine"] == "aarch64"
    assert done["should_be_absent"] == []
    assert [row["format"] for row in done["bundles"]] == ["onnx", "tflite"]
    assert all(row["same"] and row["detections_here"] for row in done["bundles"])
