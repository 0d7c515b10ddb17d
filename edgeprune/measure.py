"""Measure the cuts of a model without retraining: ablation, Euclidean convexity, and every rule.

What is chosen is chosen on the validation clips; what is reported is counted on the test clips.
Each part is written when it is done, so that an interrupted measurement goes on from there.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from edgeprune import models
from edgeprune.ablation import Bench, all_spans, greedy_removal, measure_cuts
from edgeprune.audio import Windows, load_windows
from edgeprune.console import Ui, points
from edgeprune.euclidean import euclidean_convexity
from edgeprune.fit_bridges import fit_bridges
from edgeprune.picks import RULES, Evidence
from edgeprune.probe import fit_probe
from edgeprune.settings import Measure
from edgeprune.stack import Bridges, Cut, Stack
from edgeprune.states import one_point_a_clip
from edgeprune.statistics import bootstrap_interval

RANDOM = "random"


def measure(
    model: str | Path, clips: Path, scores: Path, accelerator: str, tolerance: float,
    *, out: Path, settings: Measure, ui: Ui,
) -> None:  # fmt: skip
    """Write ``measured.json``, and ``right.safetensors``: each cut's right and wrong test clips.

    Parameters
    ----------
    model : Path or str
    clips, scores : Path
        Folders of the ``clips`` and ``score`` stages.
    accelerator : str
    tolerance : float
        Of ``convexity-plateau``, as a share of the peak.

    """
    known = json.loads((scores / "scores.json").read_text("utf-8"))
    seconds: dict[str, float] = {}
    valid, test, train, head = open_benches(model, clips, accelerator, settings, ui)
    fixed = valid.stack.family.keep
    layers = len(valid.stack)
    ablation = _part(out, "ablation", seconds, lambda: _ablate(valid, fixed, head))
    euclid = _part(
        out, "euclidean", seconds,
        lambda: euclidean_convexity(valid, settings.euclidean_pairs)
        if settings.euclidean_pairs else None,
    )  # fmt: skip
    bridges = _bridges(out, valid, train, seconds, ui) if settings.bridge_clips else None
    removal = _part(out, "removal", seconds, lambda: _removals(valid, bridges, fixed))
    evidence = gather_evidence(known, tolerance)
    table = _part(
        out, "keeps", {}, lambda: keeps_of(evidence, removal, settings.random_orders, fixed)
    )
    cuts = list(dict.fromkeys(tuple(k) for depths in table.values() for k in depths.values()))
    right = _rights(out, (valid, test), cuts, bridges, seconds)
    groups = groups_of_clips(test.windows)
    whole = valid.whole
    facts = {
        "ablation": ablation, "euclidean": euclid, "removal": removal, "keeps": table,
        "cuts": {cut_name(cut): _row(cut, right, groups) for cut in cuts},
        "measured_on": {
            "split": "test", "clips": len(right["test", whole]), "head": head,
            "baseline": float(right["test", whole].mean()),
            "interval": list(bootstrap_interval(right["test", whole], groups)),
        },
        "seconds": seconds, "layers": layers,
    }  # fmt: skip
    (out / "measured.json").write_text(json.dumps(facts, indent=1), "utf-8")
    save_arrays({cut_name(cut): right["test", cut] for cut in cuts}, out / "right.safetensors")


def open_benches(
    model: str | Path, clips: Path, accelerator: str, settings: Measure, ui: Ui
) -> tuple[Bench, Bench, Windows, str]:
    """Load a model with a head that knows the labels: its own, or else a linear probe.

    Returns
    -------
    valid, test : Bench
    train : Windows
        Calibration clips for the bridges.
    head : str
        ``own`` or ``linear probe``.

    """
    windows = load_windows(clips)
    device = models.choose_device(accelerator)
    own = models.own_labels(str(model))
    knows = set(windows.labels) <= set(own)
    labels = own if knows else windows.labels
    loaded = models.load_classifier(str(model), None if knows else labels).to(device)
    stack = Stack(loaded)
    if not knows:
        stack.head = fit_probe(stack, windows.split("train"), labels, device, ui)
    valid, test = (
        Bench(stack, some_clips(windows, split, settings.clips), labels, device, ui)
        for split in ("valid", "test")
    )
    train = some_clips(windows, "train", settings.bridge_clips)
    return valid, test, train, "own" if knows else "linear probe"


def some_clips(windows: Windows, split: str, most: int) -> Windows:
    """Return all windows of at most ``most`` clips of a split, spread evenly over the classes."""
    chosen = windows.clip[one_point_a_clip(windows, windows.where(split), most)]
    return windows.take(np.flatnonzero(np.isin(windows.clip, chosen)))


def gather_evidence(known: Mapping[str, Any], tolerance: float, curve: str = "teacher") -> Evidence:
    """Return what the rules may look at, from ``scores.json``."""
    curves = known["curves"]
    task = curves.get(curve, curves["teacher"])[known["task"]]
    return Evidence(
        layers=known["layers"], convexity=[layer["mean_of_classes"] for layer in task],
        block_influence=known["block_influence"], angles=np.array(known["angular"]),
        similarity=np.array(known["similarity"]["cka"]), tolerance=tolerance,
    )  # fmt: skip


def keeps_of(
    evidence: Evidence, removal: Mapping[str, Sequence[int]], orders: int, fixed: Sequence[int]
) -> dict[str, dict[str, list[int]]]:
    """Return rule -> depth -> layers to keep; the random control once for every order."""
    found = {}
    least = max(1, len(fixed))
    for name, rule in RULES.items():
        if rule.measured and rule.measured not in removal:
            continue
        for seed in range(orders if name == RANDOM else 1):
            given = replace(evidence, removal=removal.get(rule.measured, ()), seed=seed)
            depths = range(least, evidence.layers + 1)
            keeps = {str(depth): list(rule.keep(given, depth)) for depth in depths}
            found[f"{name} {seed}" if name == RANDOM else name] = keeps
    return found


def _ablate(bench: Bench, fixed: Sequence[int], head: str) -> dict[str, Any]:
    """Remove every layer and every span of neighbours from the whole model."""
    layers = len(bench.stack)
    spans = all_spans(layers, fixed)
    right = measure_cuts(bench, [bench.whole, *spans.values()], title="every layer and span")
    table: list[list[float | None]] = [[None] * (layers + 1) for _ in range(layers + 1)]
    for (i, j), cut in spans.items():
        table[i][j] = float(right[cut].mean())
    whole = right[bench.whole]
    bench.ui.say(f"  {points(float(whole.mean()))} of {len(whole)} validation clips with all "
                 f"{layers} layers ({head} head)")  # fmt: skip
    return {
        "split": "valid", "clips": len(whole), "head": head, "baseline": float(whole.mean()),
        "interval": list(bootstrap_interval(whole, groups_of_clips(bench.windows))),
        "single": [table[i][i + 1] for i in range(layers)], "spans": table,
    }  # fmt: skip


def _removals(bench: Bench, bridges: Bridges | None, fixed: Sequence[int]) -> dict[str, list[int]]:
    """Find the orders of greedy removal, without and with bridges."""
    layers = len(bench.stack)
    ways: dict[str, tuple[Bridges | None, Sequence[int]]] = {"plain": (None, fixed)}
    if bridges is not None:
        ways["bridged"] = (bridges, (0,))
    found = {}
    for name, (given, stay) in ways.items():
        measure = partial(measure_cuts, bench, bridges=given, title="greedy removal")
        found[name] = greedy_removal(measure, layers, stay)
    return found


def _bridges(
    out: Path, bench: Bench, train: Windows, seconds: dict[str, float], ui: Ui
) -> dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]]:
    """Fit the bridges, or read those fitted before an interruption."""
    path = out / "bridges.safetensors"

    def fit() -> None:
        fitted = fit_bridges(bench.stack, train, bench.device, ui)
        flat = {f"{i}.{j}.{part}": tensor for (i, j), pair in fitted.items()
                for part, tensor in zip(("weight", "bias"), pair, strict=True)}  # fmt: skip
        save_file(flat, path.with_suffix(".partial"))
        path.with_suffix(".partial").rename(path)

    _part(out, "bridges", seconds, fit)
    return load_bridge_table(path, bench.device)


def load_bridge_table(
    path: Path, device: torch.device
) -> dict[tuple[int, int], tuple[torch.Tensor, torch.Tensor]]:
    """Read the bridges of every span that ``measure`` fitted."""
    flat = load_file(path, device=str(device))
    spans = {tuple(int(part) for part in key.split(".")[:2]) for key in flat}
    return {(i, j): (flat[f"{i}.{j}.weight"], flat[f"{i}.{j}.bias"]) for i, j in spans}


def _rights(
    out: Path, benches: Iterable[Bench], cuts: Sequence[Cut], bridges: Bridges | None,
    seconds: dict[str, float],
) -> dict[Any, NDArray[np.bool_]]:  # fmt: skip
    """Count every rule's cuts on validation and test clips, without and with bridges."""
    found: dict[Any, NDArray[np.bool_]] = {}
    for split, bench in zip(("valid", "test"), benches, strict=True):
        for name, given in ((split, None), (f"{split} bridged", bridges)):
            if given is None and "bridged" in name:
                continue
            path = out / f"{name.replace(' ', '-')}.safetensors"
            start = time.monotonic()
            if not path.exists():
                right = measure_cuts(bench, cuts, given, f"cuts on {name} clips")
                save_arrays({cut_name(cut): value for cut, value in right.items()}, path)
            stored = load_arrays(path)
            found |= {(name, cut): stored[cut_name(cut)] for cut in cuts}
            seconds["picks"] = seconds.get("picks", 0.0) + time.monotonic() - start
    return found


def _row(
    cut: Cut, right: Mapping[Any, NDArray[np.bool_]], groups: list[str] | None
) -> dict[str, Any]:
    means = {
        key: float(right[name, cut].mean()) if (name, cut) in right else None
        for key, name in (("valid_accuracy", "valid"), ("accuracy", "test"),
                          ("bridged_valid_accuracy", "valid bridged"),
                          ("bridged_accuracy", "test bridged"))
    }  # fmt: skip
    return {"keep": list(cut), **means,
            "interval": list(bootstrap_interval(right["test", cut], groups))}  # fmt: skip


def groups_of_clips(windows: Windows) -> list[str] | None:
    """Return the group of every clip of some windows, in the clips' order; None without groups."""
    _, first = np.unique(windows.clip, return_index=True)
    groups = windows.column("group")
    found = [groups[i] for i in first]
    return found if all(found) else None


def _part(out: Path, name: str, seconds: dict[str, float], work: Callable[[], Any]) -> Any:
    """Do a part of the measurement, or read it if it was done before an interruption."""
    path = out / f"{name}.json"
    if not path.exists():
        start = time.monotonic()
        found = work()
        record = {"found": found, "seconds": time.monotonic() - start}
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(record), "utf-8")
        partial.rename(path)
    record = json.loads(path.read_text("utf-8"))
    seconds[name] = record["seconds"]
    return record["found"]


def cut_name(cut: Sequence[int]) -> str:
    """Return the layers a cut keeps, as a name for files."""
    return "-".join(map(str, cut))
