"""What the tests of steps share: a trained-looking teacher's folder, tiny clips, common settings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from tiny_models import make_model
from tiny_recordings import TONES, make_recordings

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips, Distill
from edgeprune.pipeline.clips import clips
from edgeprune.training.step_records import StepContext

CONTEXT = StepContext(Distill(batch_size=12), seed=1, accelerator="cpu")


def make_inputs(folder: Path, family: str = "wav2vec2") -> tuple[Path, Path]:
    """Make a teacher's folder (random weights, labels of its own) and a ``clips`` stage's."""
    labels = (*TONES, "another")
    make_model(folder / "teach" / "model", family, labels)
    recordings = make_recordings(folder / "recordings")
    (folder / "clips").mkdir()
    clips(folder / "teach" / "model", recordings, "digest", out=folder / "clips",
          settings=Clips(), ui=Silent())  # fmt: skip
    return folder / "teach", folder / "clips"


class StopsAt(Silent):
    """Interrupts after so many batches, as Ctrl-C would."""

    def __init__(self, batches: int) -> None:
        self.batches = batches

    def track(self, items: Iterable[Any], label: str, total: int) -> Iterator[Any]:
        for index, item in enumerate(items):
            if index == self.batches:
                raise KeyboardInterrupt
            yield item
