"""The teacher: fitted to the clips' window, with a head of any kind, and everything after builds on it."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from slow_cases import families
from tiny_models import make_model
from tiny_recordings import TONES, make_recordings

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.core.settings import Augment, Clips, Teach
from edgeprune.data.windows import Windows, load_windows
from edgeprune.models import loading
from edgeprune.models.checkpoints import read_config
from edgeprune.pipeline.clips import clips
from edgeprune.pipeline.compress import compress
from edgeprune.training.step_records import count_macs, read_step
from edgeprune.training.teach import _check_frames, teach
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError

FITTED = ("audio-spectrogram-transformer", "whisper", "clap_audio_model")


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("few"), speakers=4, each=2)


def taught(folder: Path, family: str, few: Path, settings: Teach) -> tuple[Any, Any, int]:
    """Teach a tiny model; returns it as it came, as it was left, and the window in samples."""
    source = make_model(folder / "m", family, ("x", "y", "z"))
    heard, made = folder / "clips", folder / "teach"
    heard.mkdir()
    made.mkdir()
    clips(source, few, "", out=heard, settings=Clips(group="speaker"), ui=Silent())
    teach(source, heard, 0, "cpu", asdict(Augment()), out=made, settings=settings, ui=Silent())
    window = load_windows(heard).window_samples
    assert read_step(made)["macs"] == count_macs(loading.load_model(str(made / "model")), window)
    return (
        loading.load_model(str(source)),
        loading.load_model(str(made / "model")),
        window,
    )


@pytest.mark.parametrize("when", ["auto", "always"])
@pytest.mark.parametrize("family", families(FITTED))
def test_a_teacher_hears_the_clips_window_and_no_silence_behind_it(
    family: str, when: str, few: Path, tmp_path: Path
) -> None:
    given, left, window = taught(tmp_path, family, few, Teach(when=when, epochs=1, batch_size=16))
    assert read_config(str(tmp_path / "teach" / "model")).edgeprune_window == window
    assert count_macs(left, window) < count_macs(given, window)
    assert loading.labels_of(left) == tuple(sorted(TONES))


def test_labels_of_the_model_that_no_clip_has_are_named(few: Path, tmp_path: Path) -> None:
    source = make_model(tmp_path / "m", "whisper", (*sorted(TONES), "crane", "rail"))
    heard, made = tmp_path / "clips", tmp_path / "teach"
    heard.mkdir()
    made.mkdir()
    said: list[str] = []
    ui = Silent()
    ui.say = said.append  # type: ignore[method-assign, assignment]
    clips(source, few, "", out=heard, settings=Clips(group="speaker"), ui=Silent())
    teach(source, heard, 0, "cpu", asdict(Augment()), out=made, settings=Teach(), ui=ui)
    found = next(line for line in said if "warning: the model knows" in line)
    assert f"knows {len(TONES) + 2} labels and keeps all of them, but 2 are on no clip" in found
    assert "(crane, rail)" in found


@pytest.mark.slow
def test_a_whisper_with_an_mlp_head_loses_layers_and_is_deployed(few: Path, tmp_path: Path) -> None:
    recipe: dict[str, Any] = {
        "seeds": 1, "max_drop": 0.9, "clips": {"group": "speaker"},
        "teach": {"head": "mlp", "epochs": 1}, "score": {"neighbours": 3, "permutations": 5},
        "prune": {"recovery_epochs": 1, "keep": 2}, "distill": {"epochs": 1, "label_epochs": 0},
        "bench": {"seconds": 0.05, "threads": [1], "rounds": 3},
    }  # fmt: skip
    source = make_model(tmp_path / "m", "whisper", ("x", "y", "z"))
    compress(str(source), few, tmp_path / "run", build_settings(recipe), ui=Silent())
    student = tmp_path / "run" / "seed-0" / "distill" / "model"
    made = json.loads((student / "config.json").read_text("utf-8"))
    assert made["encoder_layers"] == 2
    assert made["edgeprune_parts"]["classifier"]["part"] == "mlp"
    bundle = read_bundle(tmp_path / "run" / "seed-0" / "quantize" / "bundle")
    assert bundle.labels == tuple(sorted(TONES))


def test_a_transcript_with_more_tokens_than_frames_is_an_error(backbone: Path) -> None:
    from edgeprune.models import loading

    rows = tuple({"label": label, "split": "train", "columns": {}} for label in ("ab", "a" * 9))
    labels = ("<pad>", "a", "b")
    windows = Windows(np.zeros((2, 4000), np.float32), np.tile([0, 4000], (2, 1)), np.arange(2),
                      rows, labels, 16000, task="ctc")  # fmt: skip
    model = loading.load_model(str(backbone), labels, task="ctc")
    with pytest.raises(EdgepruneError, match="1 of 2 transcripts have more tokens"):
        _check_frames(model, windows, labels)  # nine times a: eight blanks between, 17 of 12 frames
