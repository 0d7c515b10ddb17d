"""Table of the models that `graphs.py` measures, and of the clips to test them on.

Trained models come from ``../shared``; the shapes of wav2vec2-base and AST-base have seeded random
weights, because file size and latency do not depend on the weights (and the agreement of such a
model shows how far rounding shifts its scores, not the accuracy loss).
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from base_shape import make as make_mimic
from numpy.typing import NDArray

from edgeprune.core.settings import Mimic
from edgeprune.models import loading
from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.manifest import Clip
from edgeprune_device.audio.sound_files import read_clip, windows_of

SHARED = Path(__file__).resolve().parents[2] / "shared"
RATE, LABELS = 16000, 20
CALIBRATION_CLIPS = 64


@dataclass(frozen=True)
class Subject:
    """A model, and the clips to test it on."""

    load: Callable[[int], Any]
    """Window in samples -> classifier."""
    data: str
    """A row of `DATA`."""
    seconds: tuple[int, ...] = (1, 5)
    """Windows in seconds at which it is measured."""
    trained: int = 0
    """Window in seconds for which it was trained; 0: it has random weights."""
    small: bool = False
    """Whether counting its instructions under emulation takes seconds instead of minutes."""


@dataclass(frozen=True)
class Sounds:
    """Real recordings: for calibration, for tests, and the largest number of the latter.

    Both are a manifest below ``../shared/data`` and a split of it.
    """

    calibrate: tuple[str, str]
    ask: tuple[str, str]
    most: int
    clips: bool
    """Whether a recording is one short clip; otherwise a window is cut out of it."""


ARABIC = "arabic_speech_commands_20"
DATA = {
    "arabic": Sounds((ARABIC, "train"), (ARABIC, "test"), 720, clips=True),
    "speech": Sounds(("timit_sample", "train"), ("librispeech_237", "test"), 40, clips=False),
}
CUT_SECONDS = 0.5  # into a recording


def base_shape(layers: int) -> Callable[[int], Any]:
    """Return a function that makes a wav2vec2-base with random weights and so many layers."""

    def load(_window: int) -> Any:
        from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

        config = Wav2Vec2Config(num_hidden_layers=layers, num_labels=LABELS)
        return drawn(Wav2Vec2ForSequenceClassification, config, 0)

    return load


def ast_shape(window: int) -> Any:
    """Make an AST-base with random weights, fitted to the window."""
    from transformers import ASTConfig, ASTForAudioClassification

    return drawn(ASTForAudioClassification, ASTConfig(num_labels=LABELS), window)


def drawn(kind: Any, config: Any, window: int) -> Any:
    """Save a model with random weights and load it as a user's model would be."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        kind(config).save_pretrained(folder)
        return loading.load_model(folder, window_samples=window)


def trained(name: str) -> Callable[[int], Any]:
    """Return a function that loads a model of ``../shared/models``."""
    return lambda _window: loading.load_model(str(SHARED / "models" / name))


SUBJECTS = {
    "w2v2-words": Subject(trained("w2v2_arabic_words"), "arabic", trained=1, small=True),
    "kwt-1": Subject(trained("kwt1_speech_commands"), "arabic", seconds=(1,), small=True),
    "base-12": Subject(base_shape(12), "speech"),
    "base-8": Subject(base_shape(8), "speech"),
    "base-4": Subject(base_shape(4), "speech"),
    "base-mimic": Subject(lambda _window: make_mimic(Mimic(), None), "speech"),
    "ast-base": Subject(ast_shape, "speech"),
}  # fmt: skip


def calibration(subject: Subject, seconds: int) -> NDArray[np.float32]:
    """Return real windows (n, samples) for calibration, at most 64."""
    sounds = DATA[subject.data]
    windows: list[NDArray[np.float32]] = []
    for clip in spread(of_split(*sounds.calibrate), CALIBRATION_CLIPS):
        sound = read_clip(clip.path, RATE, clip.start_seconds, clip.end_seconds)
        windows += list(windows_of(sound, seconds * RATE, seconds * RATE))[:2]
    return np.stack(spread(windows, CALIBRATION_CLIPS)).astype(np.float32)


def questions(subject: Subject, seconds: int, labels: Sequence[str]) -> list[Clip]:
    """Return the clips to test a model's files on.

    If a model does not know the labels, every clip gets the first label it knows: then only
    agreement is meaningful. Of long recordings, one window.
    """
    sounds = DATA[subject.data]
    clips = spread(of_split(*sounds.ask), sounds.most)
    if subject.trained:
        return list(clips)
    part = {} if sounds.clips else {
        "start_seconds": CUT_SECONDS, "end_seconds": CUT_SECONDS + seconds,
    }  # fmt: skip
    return [replace(clip, label=labels[0], **part) for clip in clips]


def of_split(data: str, split: str) -> list[Clip]:
    """Return the clips of a split as the manifest names it."""
    found = read_data(SHARED / "data" / data / "labels.csv", segments=True)
    return [clip for clip in found.clips if clip.split == split]


def spread(things: Sequence[Any], most: int) -> list[Any]:
    """Return at most so many items of a sequence, evenly spaced, in order."""
    if len(things) <= most:
        return list(things)
    return [things[int(place)] for place in np.linspace(0, len(things) - 1, most)]
