"""Tiny models with a mimic, and tiny students of every kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tiny_models import load_tiny
from tiny_recordings import RATE, TONES

from edgeprune.nn.stems import cnn_frames
from edgeprune.nn.student import StudentConfig, StudentForAudioClassification
from edgeprune.replacement.mimic_placement import (
    drop_positions,
    put_mimic,
    span_of,
)


def make_mimic_model(folder: Path, family: str, span: tuple[int, ...], **spec: Any) -> Any:
    model = load_tiny(folder, family)
    torch.manual_seed(1)
    first, stop = span_of(model, span)
    put_mimic(model, first, stop, torch.zeros(1, RATE), hidden=8, **spec)
    if not span:
        drop_positions(model)
    return model.eval()


SMALL = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_mel_bins": 12,
         "num_mfcc": 8, "stem_channels": 2}  # fmt: skip
STUDENT_KINDS: dict[str, dict[str, Any]] = {
    "conv": {}, "transformer": {"block": "transformer"}, "frame": {"block": "frame"},
    "plain stem": {"stem_channels": 0}, "mfcc": {"front_end": "mfcc"},
    "waveform": {"front_end": "waveform"}, "mean-max": {"pooling": "mean-max"},
    "attentive": {"pooling": "attentive"}, "no block": {"num_hidden_layers": 0},
    "cnn": {"front_end": "cnn", "hidden_size": 32, "num_hidden_layers": 0, "pooling": "flatten",
            "pooled_frames": cnn_frames(RATE)},
}  # fmt: skip


def make_student_model(kind: str) -> Any:
    torch.manual_seed(0)
    config = StudentConfig(**{**SMALL, **STUDENT_KINDS[kind]})
    config.id2label = dict(enumerate(TONES))
    config.label2id = {label: index for index, label in enumerate(TONES)}
    config.edgeprune_normalize = False
    model = StudentForAudioClassification(config)
    model.train()
    for _ in range(3):  # batch norms that have seen something
        model(torch.randn(4, RATE) * 0.1)
    with torch.no_grad():
        model.head.linear.weight.mul_(0.1)  # random weights have steeper opinions than trained ones
    return model.eval()
