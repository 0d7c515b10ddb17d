"""The stage ``measure``: accuracy of layer subsets without retraining, for every selection rule.

Also measures the ablation of every layer and span, and Euclidean convexity. Layers are chosen on
validation clips, accuracies are reported on test clips. Each part is saved when it is done, so that
an interrupted measurement resumes there.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file as load_arrays
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import load_file, save_file

from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import read_json, write_json
from edgeprune.core.settings import Measure
from edgeprune.data.clip_subsets import groups_of_clips
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.ablation import all_spans, greedy_removal, measure_subsets
from edgeprune.depth_pruning.euclidean_convexity import euclidean_convexity
from edgeprune.depth_pruning.evaluator import Evaluator, open_evaluators
from edgeprune.depth_pruning.fit_bridges import fit_bridges
from edgeprune.depth_pruning.layer_stack import Bridges, LayerSubset
from edgeprune.depth_pruning.selection_rules import RANDOM, RULES, Evidence, to_evidence
from edgeprune.metrics.statistics import bootstrap_interval
from edgeprune.models.families import fixed_layers_of


def measure(
    model: str | Path, clips: Path, known: dict[str, Any], accelerator: str,
    *, out: Path, settings: Measure, ui: Ui,
) -> None:  # fmt: skip
    """Write ``measured.json``, and ``right.safetensors``: the correct test clips per layer subset.

    Parameters
    ----------
    model : Path or str
        Model folder or hub id.
    clips : Path
        Folder of the stage ``clips``.
    known : dict
        Input of the rules, from ``selection_rules.evidence_of``. Further label columns or intervals
        of the scores do not affect it, and so do not make this stage run again.
    accelerator : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.

    """
    seconds: dict[str, float] = {}
    valid, test, train, head = open_evaluators(model, clips, accelerator, settings, ui)
    fixed = fixed_layers_of(valid.stack.model.config)
    layers = len(valid.stack)
    ablation = _part(out, "ablation", seconds, lambda: _ablate(valid, fixed, head))
    euclid = _part(
        out, "euclidean", seconds,
        lambda: euclidean_convexity(valid, settings.euclidean_pairs)
        if settings.euclidean_pairs else None,
    )  # fmt: skip
    bridged = settings.bridge_clips and valid.stack.family.bridges
    bridges = _bridges(out, valid, train, seconds, ui) if bridged else None
    removal = _part(out, "removal", seconds, lambda: _removals(valid, bridges, fixed))
    table = keeps_of(to_evidence(known), removal, settings.random_orders, fixed)
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
    write_json(out / "measured.json", facts)
    save_arrays({cut_name(cut): right["test", cut] for cut in cuts}, out / "right.safetensors")


def keeps_of(
    evidence: Evidence, removal: Mapping[str, Sequence[int]], orders: int, fixed: Sequence[int]
) -> dict[str, dict[str, list[int]]]:
    """Return rule -> depth -> layers to keep; the rule ``random`` once per order."""
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


def _ablate(bench: Evaluator, fixed: Sequence[int], head: str) -> dict[str, Any]:
    """Remove every layer and every span of neighbouring layers from the whole model."""
    layers = len(bench.stack)
    spans = all_spans(layers, fixed)
    right = measure_subsets(bench, [bench.whole, *spans.values()], title="every layer and span")
    table: list[list[float | None]] = [[None] * (layers + 1) for _ in range(layers + 1)]
    for (i, j), cut in spans.items():
        table[i][j] = float(right[cut].mean())
    whole = right[bench.whole]
    bench.ui.say(f"  {format_percent(float(whole.mean()))} of {len(whole)} validation clips with all "
                 f"{layers} layers ({head} head)")  # fmt: skip
    return {
        "split": "valid", "clips": len(whole), "head": head, "baseline": float(whole.mean()),
        "interval": list(bootstrap_interval(whole, groups_of_clips(bench.windows))),
        "single": [table[i][i + 1] for i in range(layers)], "spans": table,
    }  # fmt: skip


def _removals(
    bench: Evaluator, bridges: Bridges | None, fixed: Sequence[int]
) -> dict[str, list[int]]:
    """Find the orders of greedy removal, without and with bridges."""
    layers = len(bench.stack)
    ways: dict[str, tuple[Bridges | None, Sequence[int]]] = {"plain": (None, fixed)}
    if bridges is not None:
        ways["bridged"] = (bridges, (0,))
    found = {}
    for name, (given, stay) in ways.items():
        measure = partial(measure_subsets, bench, bridges=given, title="greedy removal")
        found[name] = greedy_removal(measure, layers, stay)
    return found


def _bridges(
    out: Path, bench: Evaluator, train: Windows, seconds: dict[str, float], ui: Ui
) -> Bridges:
    """Fit the bridges, or read those fitted before an interruption."""
    path = out / "bridges.safetensors"

    def fit() -> None:
        fitted = fit_bridges(bench.stack, train, bench.device, ui)
        flat = {f"{i}.{j}.{part}": tensor for (i, j), pair in fitted.items()
                for part, tensor in zip(("weight", "bias"), pair, strict=True)}  # fmt: skip
        save_file(flat, path)

    _part(out, "bridges", seconds, fit)
    flat = load_file(path, device=str(bench.device))
    spans = {tuple(int(part) for part in key.split(".")[:2]) for key in flat}
    return {(i, j): (flat[f"{i}.{j}.weight"], flat[f"{i}.{j}.bias"]) for i, j in spans}


def _rights(
    out: Path, benches: Iterable[Evaluator], cuts: Sequence[LayerSubset], bridges: Bridges | None,
    seconds: dict[str, float],
) -> dict[Any, NDArray[np.bool_]]:  # fmt: skip
    """Evaluate every rule's layer subsets on validation and test clips, also with bridges."""
    found: dict[Any, NDArray[np.bool_]] = {}
    for split, bench in zip(("valid", "test"), benches, strict=True):
        for name, given in ((split, None), (f"{split} bridged", bridges)):
            if given is None and "bridged" in name:
                continue
            path = out / f"{name.replace(' ', '-')}.safetensors"
            spent: dict[str, float] = {}
            _part(out, path.stem, spent, partial(_count, bench, cuts, given, path))
            stored = load_arrays(path)
            found |= {(name, cut): stored[cut_name(cut)] for cut in cuts}
            seconds["picks"] = seconds.get("picks", 0.0) + spent[path.stem]
    return found


def _count(
    bench: Evaluator, cuts: Sequence[LayerSubset], bridges: Bridges | None, path: Path
) -> None:
    """Evaluate layer subsets on clips and save which clips are correct."""
    right = measure_subsets(bench, cuts, bridges, f"layer subsets, {path.stem} clips")
    save_arrays({cut_name(cut): value for cut, value in right.items()}, path)


def _row(
    cut: LayerSubset, right: Mapping[Any, NDArray[np.bool_]], groups: list[str] | None
) -> dict[str, Any]:
    means = {
        key: float(right[name, cut].mean()) if (name, cut) in right else None
        for key, name in (("valid_accuracy", "valid"), ("accuracy", "test"),
                          ("bridged_valid_accuracy", "valid bridged"),
                          ("bridged_accuracy", "test bridged"))
    }  # fmt: skip
    return {"keep": list(cut), **means,
            "interval": list(bootstrap_interval(right["test", cut], groups))}  # fmt: skip


def _part(out: Path, name: str, seconds: dict[str, float], work: Callable[[], Any]) -> Any:
    """Do a part of the measurement, or read its result if it was done before an interruption."""
    path = out / f"{name}.json"
    if not path.exists():
        start = time.monotonic()
        found = work()
        write_json(path, {"found": found, "seconds": time.monotonic() - start})
    record = read_json(path)
    seconds[name] = record["seconds"]
    return record["found"]


def cut_name(cut: Sequence[int]) -> str:
    """Return a layer subset as a file name."""
    return "-".join(map(str, cut))
