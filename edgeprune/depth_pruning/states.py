"""One pass over the audio: every layer's representation of every point, kept on disk.

A point is a clip (its first window, where it has several), or a labelled stretch of a longer file.
Its representation at a layer is the mean of the layer's states over the frames of its sound. State
0 is the first block's input, state i the output of block i - 1. Windows are read as they are
needed; what stays is one vector a layer and point, and the mean cosine and angle between any two
layers' whole (flattened) states.

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
from edgeprune.data.clip_subsets import one_point_a_clip, scored_classes
from edgeprune.data.windows import Windows, load_windows
from edgeprune.models import loading
from edgeprune_device.errors import EdgepruneError

BATCH = 32
BATCH_SAMPLES = 2**21  # four seconds for each of the 32; longer windows come fewer at a time
EVERY_SPLIT = "all"


@dataclass(frozen=True)
class HiddenStates:
    """What one pass leaves."""

    states: NDArray[np.float32]
    """(states, points, hidden), mean over the frames of each point."""
    cosines: NDArray[np.float64]
    """(states, states): mean over windows of the cosine between flattened states."""
    angles: NDArray[np.float64]
    """(states, states): mean over windows of their angle, as a share of half a turn."""
    points: NDArray[np.int64]
    """(points,): which of the data's windows or stretches they are."""
    split: str
    """Where the points are from."""
    seconds: float
    """Time the pass took."""


def states(
    model: str | Path, clips: Path, accelerator: str, *, out: Path, settings: Score, ui: Ui
) -> None:
    """Run a model over the points to score, and write their states."""
    windows = load_windows(clips)
    split, chosen = choose_points(windows, settings)
    if windows.task == "tags":
        ui.say(f"  scored on the {len(chosen)} {split} clips that have exactly one tag")
    if split != settings.split:
        ui.say(f"  the {settings.split} split is too small for a graph: scored on {split}")
    device = distributed.choose_device(accelerator)
    loaded = loading.load_model(str(model), window_samples=windows.window_samples)
    start = time.monotonic()
    found, cosines, angles = layer_states(loaded, windows, chosen, device, ui)
    seconds = time.monotonic() - start
    save_file({"states": found, "cosines": cosines, "angles": angles}, out / "states.safetensors")
    facts = {"split": split, "points": [int(i) for i in chosen], "seconds": seconds}
    write_json(out / "states.json", facts, indent=None)


def points_of(settings: Score) -> Score:
    """Return what decides which states are kept: the rest of the settings does not hear again."""
    chosen = {name: getattr(settings, name) for name in ("split", "max_clips", "neighbours")}
    return replace(Score(), **chosen)


def load_states(folder: Path) -> HiddenStates:
    """Load what ``states`` wrote."""
    facts = read_json(folder / "states.json")
    arrays = load_file(folder / "states.safetensors")
    return HiddenStates(arrays["states"], arrays["cosines"], arrays["angles"],
                        np.asarray(facts["points"], dtype=np.int64), facts["split"],
                        facts["seconds"])  # fmt: skip


def choose_points(windows: Windows, settings: Score) -> tuple[str, NDArray[np.int64]]:
    """Return the split to score, and one point of each of its clips; no sample is read.

    The split is ``settings.split``, or the training split where the graph has no room in it.
    Transcripts need no graph of their own: any clips serve.

    Raises
    ------
    EdgepruneError
        Too few clips for the graph's neighbours, a single label, or no label with two.

    """
    labels = scored_classes(windows)
    fallback = () if settings.split in (EVERY_SPLIT, "train") else ("train",)
    sizes = []
    for split in (settings.split, *fallback):
        among = np.arange(len(windows.clip)) if split == EVERY_SPLIT else windows.where(split)
        if windows.task == "ctc":
            return split, one_point_a_clip(windows, among, settings.max_clips)
        among = among[labels[among] != ""]
        chosen = one_point_a_clip(windows, among, settings.max_clips)
        counts = Counter(labels[chosen])
        if len(chosen) > settings.neighbours and len(counts) > 1 and max(counts.values()) > 1:
            return split, chosen
        sizes.append(f"{len(chosen)} ({split}, of {len(counts)} labels)")
    raise EdgepruneError(
        f"There are {' and '.join(sizes)} to score; a graph of {settings.neighbours} neighbours "
        "needs more, of two labels, one of them twice.",
        "Add clips, or lower score.neighbours in a recipe.",
    )


def layer_states(
    model: Any, windows: Windows, chosen: NDArray[np.int64], device: torch.device, ui: Ui
) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.float64]]:
    """Return every layer's representation of the points.

    Parameters
    ----------
    model : transformers.PreTrainedModel
    windows : Windows
        Samples are read batch by batch.
    chosen : array (points,)
        Which points.

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
        raise ValueError("no point was chosen")
    return pooled, cosines / len(heard), angles / len(heard)


def _means(
    whole: Tensor, frames: NDArray[np.float32], place: NDArray[np.int64]
) -> NDArray[np.float32]:
    """Average states (states, windows, frames, hidden) over each point's frames."""
    share = torch.from_numpy(frames / frames.sum(axis=1, keepdims=True)).to(whole.device)
    parts = [share[place == w] @ whole[:, w] for w in range(whole.shape[1])]
    order = np.argsort(np.concatenate([np.flatnonzero(place == w) for w in range(whole.shape[1])]))
    return np.asarray(torch.cat(parts, dim=1).cpu().numpy()[:, order])


def _alike(
    whole: Tensor, frames: NDArray[np.float32], place: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum, over windows, cosines and angles between any two states, flattened over their sound."""
    heard = np.zeros((whole.shape[1], whole.shape[2]), dtype=np.float32)
    np.maximum.at(heard, place, frames)
    masked = whole * torch.from_numpy(heard).to(whole.device)[None, :, :, None]
    products = torch.einsum("iwth,jwth->wij", masked, masked).cpu().double().numpy()
    norms = np.sqrt(np.diagonal(products, axis1=1, axis2=2))
    scale = np.maximum(norms[:, :, None] * norms[:, None, :], np.finfo(float).tiny)
    cosines = np.clip(products / scale, -1.0, 1.0)
    return cosines.sum(axis=0), (np.arccos(cosines) / np.pi).sum(axis=0)


def sound_frames(sound: NDArray[np.int64], window_samples: int, frames: int) -> NDArray[np.float32]:
    """Mark the frames whose middle lies in the sound, not in the padding.

    Parameters
    ----------
    sound : array (n, 2)
        First sample with sound, and the one after the last.
    window_samples, frames : int
        The window's length, and how many frames the model makes of it.

    Returns
    -------
    array (n, frames)
        1 or 0; a sound shorter than a frame still marks the frame nearest to its middle.

    """
    middle = (np.arange(frames) + 0.5) * window_samples / frames
    inside = (middle >= sound[:, :1]) & (middle < sound[:, 1:])
    nearest = np.abs(middle[None, :] - sound.mean(axis=1, keepdims=True)).argmin(axis=1)
    empty = ~inside.any(axis=1)
    inside[empty, nearest[empty]] = True
    return np.asarray(inside, dtype=np.float32)
