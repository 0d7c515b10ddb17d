"""The stage ``score``: convexity of every label column, and similarity of every two layers.

The audio has been processed once (``states``); everything here is computed from its result.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.core.console import Ui
from edgeprune.core.files import write_json
from edgeprune.core.settings import Score
from edgeprune.data.clip_subsets import scored_classes
from edgeprune.data.windows import Windows, load_windows, read_description
from edgeprune.depth_pruning.states import load_states
from edgeprune.metrics.convexity import convexities, first_within
from edgeprune.metrics.similarity import block_influence, find_blocks, layer_similarity
from edgeprune.metrics.statistics import LEAST_GROUPS
from edgeprune_device.errors import EdgepruneError

USUAL_LABELINGS = ("label", "speaker", "individual")


def score(
    clips: Path, teacher: Path, untouched: Path | str, *, out: Path, settings: Score, ui: Ui
) -> None:
    """Write ``layers.json``: the scores of every layer and every pair of layers.

    Parameters
    ----------
    clips, teacher : Path
        Folders of the stage ``clips``, and of the hidden states of the model whose layers are to be
        chosen.
    untouched : Path or str
        Hidden states of the model before fine-tuning; empty if there is none. Similarities are
        those of the teacher.

    """
    kept = load_states(teacher)
    windows = load_windows(clips)
    described = read_description(clips)
    task, group = described["label_column"], described["group_column"]
    labelings = choose_labelings(windows, kept.points, task, group, settings.labelings)
    groups = {name: drawn for name, labels in labelings.items()
              if (drawn := groups_of(windows, kept.points, labels, group))}  # fmt: skip
    seconds = {"forward": kept.seconds}
    start = time.monotonic()
    curves = {"teacher": score_states(kept.states, labelings, groups, settings, ui)}
    if untouched:
        before = load_states(Path(untouched))
        curves["untouched"] = score_states(before.states, labelings, groups, settings, ui)
    seconds["convexity"] = time.monotonic() - start
    start = time.monotonic()
    similarity = {"cosine_flattened": kept.cosines, **layer_similarity(list(kept.states))}
    blocks = {name: find_blocks(matrix) for name, matrix in similarity.items()}
    seconds["similarity"] = time.monotonic() - start
    peaks = {
        name: first_within([layer["mean_of_classes"] for layer in curve[task]], 0.01)
        for name, curve in curves.items() if task in curve
    }  # fmt: skip
    found = ", ".join(f"{peak} layer{'s' * (peak != 1)} ({name})" for name, peak in peaks.items())
    ui.say(f"  convexity of {task!r} first comes within 1 % of its peak after {found}" if peaks else
           f"  {task!r} holds transcripts, which have no convexity: similarity only")  # fmt: skip
    facts = {
        "task": task if peaks else "", "unit": described["unit"], "split": kept.split,
        "clips": len(kept.points),
        "layers": len(kept.states) - 1, "hidden": int(kept.states.shape[2]),
        "neighbours": settings.neighbours, "permutations": settings.permutations,
        "labelings": {
            name: {"classes": len(set(labels)), "points": len(labels),
                   "interval_over": group if name in groups else described["unit"]}
            for name, labels in labelings.items()
        },
        "curves": curves, "first_within_1_percent": peaks,
        "similarity": {name: _rounded(matrix) for name, matrix in similarity.items()},
        "blocks": blocks, "block_influence": _rounded(block_influence(kept.cosines)),
        "angular": _rounded(kept.angles), "seconds": seconds,
    }  # fmt: skip
    write_json(out / "layers.json", facts)


def choose_labelings(
    windows: Windows, points: NDArray[np.int64], task: str, group: str, wanted: tuple[str, ...]
) -> dict[str, list[str]]:
    """Return the label columns to score: the task's first, then the others.

    With transcripts, which are no classes, nothing is scored.

    Raises
    ------
    EdgepruneError
        A requested column does not exist, or has fewer than two classes.

    """
    labels = scored_classes(windows)
    if windows.task == "ctc":
        return {}
    found = {task: [str(labels[i]) for i in points]}
    for name in wanted or (*USUAL_LABELINGS, group):
        if not name or name in found:
            continue
        rows = [windows.rows[windows.clip[i]] for i in points]
        values = [str(row["columns"].get(name, "")) for row in rows]
        counts = Counter(values)
        usable = "" not in counts and len(counts) > 1 and max(counts.values()) > 1
        if wanted and not usable:
            split = rows[0]["split"] if len({row["split"] for row in rows}) == 1 else "all"
            raise EdgepruneError(
                f"The column {name!r} cannot be scored on these {len(rows)} clips ({split}): it "
                "needs at least two classes, one of them with two clips, and no empty value.",
                "Score another split (score.split in a recipe: train, test, all), or other "
                f"columns with --label; the data has: {', '.join(rows[0]['columns'])}.",
            )
        if usable and (wanted or min(counts.values()) > 1):
            found[name] = values
    return found


def groups_of(
    windows: Windows, points: NDArray[np.int64], labels: Sequence[str], column: str
) -> list[str] | None:
    """Return the points' groups to resample for an interval; None if clips are resampled.

    If every class lies within one group (speakers as classes and as groups), only clips can be
    resampled within a class; and few groups say little about others.
    """
    if not column:
        return None
    values = windows.column("group")
    groups = [values[i] for i in points]
    single = len(set(zip(labels, groups, strict=True))) == len(set(labels))
    few = len(set(groups)) < LEAST_GROUPS
    return None if single or few or "" in groups else groups


def score_states(
    states: NDArray[np.float32], labelings: Mapping[str, Sequence[str]],
    groups: Mapping[str, Sequence[str]], settings: Score, ui: Ui,
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """Score every label column in every layer; one set of shortest paths per layer serves all."""
    curves: dict[str, list[dict[str, Any]]] = {name: [] for name in labelings}
    if not labelings:
        return curves
    for points in ui.track(states, "convexity", len(states)):
        found = convexities(
            points, labelings, k=settings.neighbours, permutations=settings.permutations,
            draws=settings.draws, groups=groups, reference=settings.reference,
        )  # fmt: skip
        for name, value in found.items():
            curves[name].append(asdict(value))
    return curves


def _rounded(values: NDArray[np.float64]) -> Any:
    return np.round(values, 6).tolist()
