"""Tiny models with heads for tags and transcripts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from edgeprune.models import loading

TAGS = ("dog", "rain")
LETTERS = ("<pad>", "a", "b", "|")
CTC_FAMILIES = ("wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio", "sew",
                "wav2vec2-conformer", "wav2vec2-bert")  # fmt: skip


def load_with_head(folder: Path, task: str, head: str, labels: tuple[str, ...]) -> Any:
    torch.manual_seed(0)
    return loading.load_model(str(folder), labels, task=task, head=head)
