"""The stage ``clips``: labelled clips, split and cut into windows at the model's sample rate."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeprune.core.console import Ui
from edgeprune.core.files import write_json
from edgeprune.core.settings import Clips
from edgeprune.data.chunking import (
    pieces_of,
    window_samples,
    windows_of_clips,
    windows_of_files,
    write_windows,
)
from edgeprune.data.windows import SPLITS
from edgeprune.models.checkpoints import read_checkpoint
from edgeprune.models.input_length import check_window
from edgeprune_calibration.dataset import MOST_BAD, Dataset, check_audio, read_data
from edgeprune_calibration.labels import vocabulary
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.splits import split_clips
from edgeprune_device.audio.sound_files import seconds_of
from edgeprune_device.errors import EdgepruneError


def clips(
    model: str | Path, data: Path, digest: str, *, out: Path, settings: Clips, ui: Ui
) -> None:
    """Read the data as the model needs it; the first stage.

    Writes ``samples.npy`` and ``clips.json``.

    Parameters
    ----------
    model : str or Path
        Model, for its sample rate and its fixed window, if any.
    data : Path
        Folder of class folders, or manifest.
    digest : str
        Digest of the data from ``read_data``, so that changed clips are read again.

    Raises
    ------
    EdgepruneError
        The data has an error, or the model cannot take the window.

    """
    checkpoint = read_checkpoint(str(model))
    rate = checkpoint.sample_rate
    in_files = settings.context == "file"
    dataset = read_data(
        data, settings.label, settings.group or None, segments=in_files, task=settings.task,
        tokens=settings.tokens,
    )  # fmt: skip
    dataset, bad = check_audio(dataset, ui.track, whole_files=in_files)
    for line in bad:
        ui.say(f"left out: {line}")
    for name in dataset.crossing:
        ui.say(f"  warning: a {name} occurs in more than one split of the data, so the accuracy "
               f"holds for a {name} of the training clips")  # fmt: skip
    parts = _parts(dataset, settings, in_files)
    labels = dataset.labels
    if settings.task == "ctc":
        parts, long = fitting(parts, settings, rate, ui)
        labels, bad = known_tokens(dataset, parts["train"], ui), [*bad, *long]
    ordered = [clip for name in SPLITS for clip in parts[name]]
    pieces = pieces_of(ordered, in_files)
    window = window_samples(
        settings, checkpoint.window_samples, rate, [piece for piece, _ in pieces]
    )
    check_window(checkpoint.config, window)
    progress = ui.track(pieces, "reading files" if in_files else "reading clips", len(pieces))
    cut = windows_of_files if in_files else windows_of_clips
    points = write_windows(out / "samples.npy", window, cut(progress, ordered, rate, window))
    described = {
        "task": settings.task, "tokens": settings.tokens,
        "sample_rate": rate, "window_samples": window, "labels": list(labels),
        "label_column": settings.label, "group_column": dataset.group_column, "left_out": bad,
        "digest": digest, "source": str(data),
        "rows": [_row(clip, name) for name in SPLITS for clip in parts[name]],
        "points": points, "unit": "stretches" if in_files else "clips",
    }  # fmt: skip
    write_json(out / "clips.json", described, indent=None)
    counts = ", ".join(f"{name} {len(parts[name])}" for name in SPLITS)
    found = f"segments of {len(pieces)} files" if in_files else f"clips ({counts})"
    ui.say(f"  {len(ordered)} {found}, {len(labels)} labels, "
           f"windows of {window / rate:g} s at {rate} Hz")  # fmt: skip


def _parts(dataset: Dataset, settings: Clips, in_files: bool) -> dict[str, tuple[Clip, ...]]:
    if in_files:  # nothing is trained on segments, so no splits are needed
        return {"train": (), "valid": dataset.clips, "test": ()}
    return split_clips(
        dataset, settings.split_seed, settings.fractions, settings.test_fold or None
    )  # fmt: skip


def known_tokens(dataset: Dataset, trained: Sequence[Clip], ui: Ui) -> tuple[str, ...]:
    """Return the vocabulary of the training clips' transcripts, and report missing tokens."""
    labels = vocabulary([clip.label for clip in trained], dataset.tokens)
    if unheard := sorted(set(dataset.labels) - set(labels)):
        ui.say(f"  warning: {len(unheard)} tokens are in no training clip and count as errors: "
               + " ".join(unheard[:8]))  # fmt: skip
    return labels


def fitting(
    parts: Mapping[str, tuple[Clip, ...]], settings: Clips, rate: int, ui: Ui
) -> tuple[dict[str, tuple[Clip, ...]], list[str]]:
    """Leave out transcribed clips that are longer than the window.

    Returns
    -------
    parts : dict
        Split -> its clips.
    long : list of str
        One sentence per clip left out.

    Raises
    ------
    EdgepruneError
        They are more than 1 % of the clips.

    """
    if not settings.window_seconds:
        return dict(parts), []
    ordered = [clip for name in SPLITS for clip in parts[name]]
    window = round(settings.window_seconds * rate)
    seconds = {id(c): seconds_of(c.path, c.start_seconds, c.end_seconds) for c in ordered}
    fits = {key: math.floor(length * rate + 0.5) <= window for key, length in seconds.items()}
    long = [f"{clip.path} lasts {seconds[id(clip)]:.2f} s, longer than the window"
            for clip in ordered if not fits[id(clip)]]  # fmt: skip
    if len(long) > MOST_BAD * len(ordered):
        raise EdgepruneError(
            f"{len(long)} of {len(ordered)} transcribed clips are longer than the window of "
            f"{settings.window_seconds:g} s (allowed: at most {100 * MOST_BAD:g} %); the longest "
            f"has {max(seconds.values()):.2f} s.",
            "Leave out --window (the default is the longest clip), or shorten the clips.",
        )
    for line in long:
        ui.say(f"left out: {line}")
    kept = {part: tuple(c for c in clips if fits[id(c)]) for part, clips in parts.items()}
    if empty := [part for part, clips in kept.items() if not clips]:
        raise EdgepruneError(
            f"No clip of the {empty[0]} split fits the window.", "Increase --window."
        )
    return kept, long


def _row(clip: Clip, split: str) -> dict[str, Any]:
    return {"path": str(clip.path), "label": clip.label, "split": split,
            "group": clip.group or "", "columns": dict(clip.columns),
            "start": clip.start_seconds, "end": clip.end_seconds}  # fmt: skip
