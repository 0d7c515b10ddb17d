"""Score the layers: how convex each labelling's classes are in every layer's space.

A clip's representation at a layer is the mean of the layer's states over the frames that hold
sound. Index 0 is the input of the first block, index i the output of block i.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from edgeprune import models
from edgeprune.audio import Windows, load_windows, read_description
from edgeprune.console import Ui
from edgeprune.convexity import convexity_of, first_within, neighbour_graph, shortest_path_trees
from edgeprune.settings import Score
from edgeprune_device.errors import EdgepruneError

BATCH = 32
USUAL_LABELINGS = ("label", "speaker", "individual")


def score(
    teacher: str | Path, source: str | Path, clips: Path, accelerator: str, *, out: Path,
    settings: Score, ui: Ui,
) -> None:  # fmt: skip
    """Score the teacher, and the model as it came; writes ``scores.json``.

    Parameters
    ----------
    teacher : Path or str
        The model whose layers are to be chosen.
    source : Path or str
        The model before it was taught; the same as ``teacher`` if there is no other.
    clips : Path
        The ``clips`` stage's folder.

    """
    windows = load_windows(clips)
    split, chosen = choose_windows(windows, settings)
    windows = windows.take(chosen)
    if split != settings.split:
        ui.say(f"  the {settings.split} split is too small for a graph: scored on {split}")
    described = read_description(clips)
    task = described["label_column"]
    labelings = choose_labelings(windows, task, described["group_column"], settings.labelings)
    device = models.choose_device(accelerator)
    curves = {}
    for name, model in {"teacher": str(teacher), "untouched": str(source)}.items():
        if name == "untouched" and str(source) == str(teacher):
            break
        states = layer_states(models.load_classifier(model), windows, device, ui)
        curves[name] = score_states(states, labelings, settings, ui)
    peaks = {
        name: first_within([layer["mean_of_classes"] for layer in curve[task]], 0.01)
        for name, curve in curves.items()
    }
    found = ", ".join(f"{peak} ({name})" for name, peak in peaks.items())
    ui.say(f"  convexity of {task!r} is within 1 % of its peak from layer {found} on")
    facts = {"task": task, "split": split, "clips": len(windows.samples),
             "neighbours": settings.neighbours, "permutations": settings.permutations,
             "curves": curves, "first_within_1_percent": peaks}  # fmt: skip
    (out / "scores.json").write_text(json.dumps(facts, indent=1), "utf-8")


def choose_windows(windows: Windows, settings: Score) -> tuple[str, NDArray[np.int64]]:
    """Return the split to score, and which window of each of its clips; no sample is read.

    The split is ``settings.split``, or the training split where the graph has no room in it.

    Raises
    ------
    EdgepruneError
        Both have too few clips for the graph's neighbours, or no label with two.

    """
    labels = np.asarray(windows.column("label"))
    for split in (settings.split, "train"):
        chosen = one_window_a_clip(windows, windows.where(split), settings.max_clips)
        most = max(Counter(labels[chosen]).values(), default=0)
        if len(chosen) > settings.neighbours and most > 1:
            return split, chosen
    raise EdgepruneError(
        f"The training split has {len(chosen)} clips; a graph of {settings.neighbours} "
        "neighbours needs more.",
        "Add clips, or lower score.neighbours in a recipe.",
    )


def choose_labelings(
    windows: Windows, task: str, group: str, wanted: tuple[str, ...]
) -> dict[str, list[str]]:
    """Return the labellings to score by column name: the task's first, then the others.

    Raises
    ------
    EdgepruneError
        A wanted column is not there, or names fewer than two classes.

    """
    found = {task: windows.column("label")}
    for name in wanted or (*USUAL_LABELINGS, group):
        if not name or name in found:
            continue
        values = _column(windows, name)
        counts = Counter(values)
        usable = "" not in counts and len(counts) > 1 and min(counts.values()) > 1
        if usable:
            found[name] = values
        elif wanted:
            raise EdgepruneError(
                f"The column {name!r} cannot be scored: it needs at least two classes with two "
                "clips each, and no empty value.",
                "Name other columns in score.labelings.",
            )
    return found


def _column(windows: Windows, name: str) -> list[str]:
    """Return a manifest column, even where ``label`` is not the task's."""
    rows = [windows.rows[index] for index in windows.clip]
    return [str(row["columns"].get(name, "")) for row in rows]


def one_window_a_clip(windows: Windows, among: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """Return the first window of each clip, at most ``most``, spread evenly over the classes."""
    _, first = np.unique(windows.clip[among], return_index=True)
    first = among[first]
    if len(first) <= most:
        return np.sort(first)
    labels = np.asarray(windows.column("label"))[first]
    rank = np.zeros(len(first))
    generator = np.random.default_rng(0)
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        rank[generator.permutation(members)] = (np.arange(len(members)) + 0.5) / len(members)
    return np.sort(first[np.argsort(rank, kind="stable")[:most]])


def layer_states(
    model: Any, windows: Windows, device: torch.device, ui: Ui
) -> list[NDArray[np.float32]]:
    """Return every layer's representation of the windows.

    Returns
    -------
    list of array (n, hidden)
        One for the first block's input and one for each block's output.

    """
    model.eval().to(device)
    parts: list[list[NDArray[np.float32]]] = []
    starts = range(0, len(windows.samples), BATCH)
    with torch.inference_mode():
        for start in ui.track(starts, "states", len(starts)):
            batch = torch.from_numpy(np.array(windows.samples[start : start + BATCH])).to(device)
            _, states = models.logits_and_states(model, batch)
            sound = windows.sound[start : start + BATCH]
            weights = sound_frames(sound, windows.window_samples, states[0].shape[1])
            weight = torch.from_numpy(weights).to(device)[:, :, None]
            parts.append([((s * weight).sum(1) / weight.sum(1)).cpu().numpy() for s in states])
    return [np.concatenate(layer) for layer in zip(*parts, strict=True)]


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


def score_states(
    states: list[NDArray[np.float32]], labelings: dict[str, list[str]], settings: Score, ui: Ui
) -> dict[str, list[dict[str, Any]]]:
    """Score every labelling in every layer; one set of shortest paths a layer serves them all."""
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in labelings}
    for points in ui.track(states, "convexity", len(states)):
        before = shortest_path_trees(neighbour_graph(points, settings.neighbours))
        for name, labels in labelings.items():
            curves[name].append(asdict(convexity_of(before, labels, settings.permutations)))
    return curves
