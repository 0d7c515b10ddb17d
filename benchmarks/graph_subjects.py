"""The models `graphs.py` measures, and the clips it asks them about: one literal table.

Trained models come from ``../shared``; the shapes of wav2vec2-base and AST-base have seeded random
weights, since bytes and latency do not depend on what a model has learnt (and agreement of such a
model says how far rounding drifts, not what it costs).
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
    """A model, and what it is asked about."""

    load: Callable[[int], Any]
    """Window in samples -> classifier."""
    data: str
    """A row of `DATA`."""
    seconds: tuple[int, ...] = (1, 5)
    """Windows it is measured at."""
    trained: int = 0
    """The window at which its answers are right or wrong, in seconds; 0: it was never trained."""
    small: bool = False
    """Whether counting its instructions under emulation takes seconds, not minutes."""


@dataclass(frozen=True)
class Sounds:
    """Real recordings: which to calibrate on, which to ask about, and how many of these at most.

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
    """Return what makes a wav2vec2-base of random weights with this many layers."""

    def load(_window: int) -> Any:
        from transformers import Wav2Vec2Config, Wav2Vec2ForSequenceClassification

        config = Wav2Vec2Config(num_hidden_layers=layers, num_labels=LABELS)
        return drawn(Wav2Vec2ForSequenceClassification, config, 0)

    return load


def ast_shape(window: int) -> Any:
    """Make an AST-base of random weights, fitted to the window."""
    from transformers import ASTConfig, ASTForAudioClassification

    return drawn(ASTForAudioClassification, ASTConfig(num_labels=LABELS), window)


def drawn(kind: Any, config: Any, window: int) -> Any:
    """Save a model of random weights and load it as a user's would be."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        kind(config).save_pretrained(folder)
        return loading.load_model(folder, window_samples=window)


def trained(name: str) -> Callable[[int], Any]:
    """Return what loads a model of ``../shared/models``."""
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
    """Return real windows (n, samples) to calibrate on, no more than 64."""
    sounds = DATA[subject.data]
    windows: list[NDArray[np.float32]] = []
    for clip in spread(of_split(*sounds.calibrate), CALIBRATION_CLIPS):
        sound = read_clip(clip.path, RATE, clip.start_seconds, clip.end_seconds)
        windows += list(windows_of(sound, seconds * RATE, seconds * RATE))[:2]
    return np.stack(spread(windows, CALIBRATION_CLIPS)).astype(np.float32)


def questions(subject: Subject, seconds: int, labels: Sequence[str]) -> list[Clip]:
    """Return the clips a model's files are asked about.

    Where a model does not know the labels, every clip gets the first label it knows: then only
    agreement means something. Of long recordings, one window.
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
    found = read_data(SHARED / "data" / data / "labels.csv", stretches=True)
    return [clip for clip in found.clips if clip.split == split]


def spread(things: Sequence[Any], most: int) -> list[Any]:
    """Return no more than so many of a sequence, evenly spread, in order."""
    if len(things) <= most:
        return list(things)
    return [things[int(place)] for place in np.linspace(0, len(things) - 1, most)]
