"""The stage ``states``: every layer's representation of every point, in one pass over the audio.

A point is a clip (its first window if it has several), or a labelled segment of a longer file. Its
representation at a layer is the layer's hidden state averaged over the frames of its sound. Hidden
state 0 is the first block's input, hidden state i the output of block i - 1. Windows are read when
needed; the result is one vector per layer and point, and the mean cosine and angle between every
two layers' flattened hidden states.

``states.safetensors``: ``states`` (states, points, hidden), ``cosines`` and ``angles`` (states,
states). ``states.json``: which points, of which split, and how long the pass took.
"""

from __future__ import annotations

import time
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file
from torch import Tensor

from edgeprune.core import distributed
from edgeprune.core.console import Ui
from edgeprune.core.files import read_json, write_json
from edgeprune.core.settings import Score
from edgeprune.data.clip_subsets import one_point_per_clip, scored_classes
from edgeprune.data.windows import Windows, load_windows
from edgeprune.models import loading
from edgeprune_device.errors import EdgepruneError

BATCH = 32
BATCH_SAMPLES = 2**21  # 32 windows of four seconds; batches of longer windows are smaller
EVERY_SPLIT = "all"


@dataclass(frozen=True)
class HiddenStates:
    """Result of one pass."""

    states: NDArray[np.float32]
    """(states, points, hidden): hidden states averaged over the frames of each point."""
    cosines: NDArray[np.float64]
    """(states, states): mean over windows of the cosine between flattened hidden states."""
    angles: NDArray[np.float64]
    """(states, states): mean over windows of their angle, as a share of half a turn."""
    points: NDArray[np.int64]
    """(points,): indices into the points of the data (``Windows``)."""
    split: str
    """Split of the points."""
    seconds: float
    """Duration of the pass in seconds."""


def states(
    model: str | Path, clips: Path, accelerator: str, *, out: Path, settings: Score, ui: Ui
) -> None:
    """Run a model on the points to score, and write their hidden states."""
    windows = load_windows(clips)
    split, chosen = choose_points(windows, settings)
    if windows.task == "tags":
        ui.say(f"  scoring the {len(chosen)} {split} clips with exactly one tag")
    if split != settings.split:
        ui.say(
            f"  the {settings.split} split has too few clips for a graph: scoring {split} instead"
        )
    device = distributed.choose_device(accelerator)
    loaded = loading.load_model(str(model), window_samples=windows.window_samples)
    start = time.monotonic()
    found, cosines, angles = layer_states(loaded, windows, chosen, device, ui)
    seconds = time.monotonic() - start
    save_file({"states": found, "cosines": cosines, "angles": angles}, out / "states.safetensors")
    facts = {"split": split, "points": [int(i) for i in chosen], "seconds": seconds}
    write_json(out / "states.json", facts, indent=None)


def points_of(settings: Score) -> Score:
    """Return the settings that affect the hidden states; a change of others reuses them."""
    chosen = {name: getattr(settings, name) for name in ("split", "max_clips", "neighbours")}
    return replace(Score(), **chosen)


def load_states(folder: Path) -> HiddenStates:
    """Load the result of the stage ``states``."""
    facts = read_json(folder / "states.json")
    arrays = load_file(folder / "states.safetensors")
    return HiddenStates(arrays["states"], arrays["cosines"], arrays["angles"],
                        np.asarray(facts["points"], dtype=np.int64), facts["split"],
                        facts["seconds"])  # fmt: skip


def choose_points(windows: Windows, settings: Score) -> tuple[str, NDArray[np.int64]]:
    """Return the split to score, and one point per clip of it; no samples are read.

    The split is ``settings.split``, or the training split if that has too few clips for the graph.
    Transcripts need no graph, so any number of clips suffices.

    Raises
    ------
    EdgepruneError
        There are too few clips for the graph's neighbours, a single label, or no label with two
        clips.

    """
    labels = scored_classes(windows)
    fallback = () if settings.split in (EVERY_SPLIT, "train") else ("train",)
    sizes = []
    for split in (settings.split, *fallback):
        among = np.arange(len(windows.clip)) if split == EVERY_SPLIT else windows.where(split)
        if windows.task == "ctc":
            return split, one_point_per_clip(windows, among, settings.max_clips)
        among = among[labels[among] != ""]
        chosen = one_point_per_clip(windows, among, settings.max_clips)
        counts = Counter(labels[chosen])
        if len(chosen) > settings.neighbours and len(counts) > 1 and max(counts.values()) > 1:
            return split, chosen
        sizes.append(f"{len(chosen)} clips ({split}, {len(counts)} labels)")
    raise EdgepruneError(
        f"Too few clips to score: {' and '.join(sizes)}. A graph with {settings.neighbours} "
        "neighbours needs more clips than that, two labels, and one label with two clips.",
        "Add clips, or lower score.neighbours in a recipe.",
    )


def layer_states(
    model: Any, windows: Windows, chosen: NDArray[np.int64], device: torch.device, ui: Ui
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return every layer's representation of the points.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model to run.
    windows : Windows
        Windows, read batch by batch.
    chosen : array (points,)
        Indices of the points.

    Returns
    -------
    states : array (states, points, hidden)
    cosines, angles : array (states, states)
        See ``HiddenStates``.

    """
    model.eval().to(device)
    heard = np.unique(windows.window[chosen])
    by_window = np.argsort(windows.window[chosen], kind="stable")
    window_of = windows.window[chosen][by_window]
    pooled: NDArray[np.float32] | None = None
    cosines: NDArray[np.float64] = np.zeros(0)
    angles: NDArray[np.float64] = np.zeros(0)
    size = max(1, min(BATCH, BATCH_SAMPLES // windows.window_samples))
    starts = range(0, len(heard), size)
    with torch.inference_mode():
        for start in ui.track(starts, "states", len(starts)):
            these = heard[start : start + size]
            batch = torch.from_numpy(np.array(windows.samples[these])).to(device)
            whole = torch.stack(loading.logits_and_states(model, batch)[1])
            first, last = np.searchsorted(window_of, [these[0], these[-1] + 1])
            rows = by_window[first:last]
            frames = sound_frames(
                windows.sound[chosen[rows]], windows.window_samples, whole.shape[2]
            )
            place = np.searchsorted(these, window_of[first:last])
            if pooled is None:
                pooled = np.empty((len(whole), len(chosen), whole.shape[3]), dtype=np.float32)
                cosines, angles = np.zeros((2, len(whole), len(whole)))
            pooled[:, rows] = _means(whole, frames, place)
            near, apart = _alike(whole, frames, place)
            cosines, angles = cosines + near, angles + apart
    if pooled is None:
        raise ValueError("chosen is empty")
    return pooled, cosines / len(heard), angles / len(heard)


def _means(
    whole: Tensor, frames: NDArray[np.float32], place: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Average hidden states (states, windows, frames, hidden) over each point's frames."""
    share = torch.from_numpy(frames / frames.sum(axis=1, keepdims=True)).to(whole.device)
    parts = [share[place == w] @ whole[:, w] for w in range(whole.shape[1])]
    order = np.argsort(np.concatenate([np.flatnonzero(place == w) for w in range(whole.shape[1])]))
    return np.asarray(torch.cat(parts, dim=1).cpu().numpy()[:, order])


def _alike(
    whole: Tensor, frames: NDArray[np.float32], place: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum over windows the cosines and angles between hidden states, flattened over their sound."""
    heard = np.zeros((whole.shape[1], whole.shape[2]), dtype=np.float32)
    np.maximum.at(heard, place, frames)
    masked = whole * torch.from_numpy(heard).to(whole.device)[None, :, :, None]
    products = torch.einsum("iwth,jwth->wij", masked, masked).cpu().double().numpy()
    norms = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
    scale = np.maximum(norms[:, :, None] * norms[:, None, :], np.finfo(float).tiny)
    cosines = np.clip(products / scale, -1.0, 1.0)
    return cosines.sum(axis=0), (np.arccos(cosines) / np.pi).sum(axis=0)


def sound_frames(sound: NDArray[np.int64], window_samples: int, frames: int) -> NDArray[np.float32]:
    """Mark the frames whose centre lies in the sound, not in the padding.

    Parameters
    ----------
    sound : array (n, 2)
        First sample of the sound, and its end (exclusive).
    window_samples, frames : int
        Length of the window in samples, and its number of frames.

    Returns
    -------
    array (n, frames)
        1 or 0; a sound shorter than a frame marks the frame nearest to its centre.

    """
    middle = (np.arange(frames) + 0.5) * window_samples / frames
    inside = (middle >= sound[:, :1]) & (middle < sound[:, 1:])
    nearest = np.abs(middle[None, :] - sound.mean(axis=1, keepdims=True)).argmin(axis=1)
    empty = ~inside.any(axis=1)
    inside[empty, nearest[empty]] = True
    return np.asarray(inside, dtype=np.float32)
