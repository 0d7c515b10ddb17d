"""The report of a ``score`` run: recommended layers, and all scores and measurements.

``scores.json`` holds all numbers; the page, the Markdown, the figures and the terminal's tables are
made from it. Nothing is measured here.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from edgeprune.core.console import duration, format_percent, format_percentage_points, layer_list
from edgeprune.core.files import read_json
from edgeprune.core.tables import Table, table, to_html, to_markdown, to_text
from edgeprune.depth_pruning.rule_comparison import SCHEMA_VERSION
from edgeprune.reports.html import DASH, render
from edgeprune.reports.plots import Plot
from edgeprune.reports.results import ScoreResult, score_result
from edgeprune.reports.score_plots import MEASURES, PROPOSALS, draw
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.files import write_whole

TEMPLATE = "scores.html.j2"
SECTIONS = {
    "convexity": "Convexity of the classes",
    "accuracy": "Accuracy by number of layers",
    "similarity": "Similarity of the layers",
    "influence": "Effect of each layer",
    "against": "Does convexity predict accuracy?",
}
UNITS = {"clips": "a clip (its first window)", "stretches": "a labelled segment"}
TABLES = {  # table -> the section that ends with it
    "curves": "convexity", "picks": "accuracy", "accuracy": "accuracy",
    "bridged_accuracy": "accuracy", "finetuned_accuracy": "accuracy", "classes": "classes",
}  # fmt: skip


def score_report(folder: Path, out: Path) -> ScoreResult:
    """Write scores.json, report.html, report.md and the figures of a finished ``score`` run.

    Parameters
    ----------
    folder : Path
        Folder of the stage ``score``, with its ``scores.json``.
    out : Path
        Folder of the run.

    Returns
    -------
    ScoreResult

    """
    scores = read_scores(folder / "scores.json")
    plots, tables, facts = draw(scores), make_tables(scores), facts_of(scores)
    name = out.resolve().name
    (out / "figures").mkdir(parents=True, exist_ok=True)
    for plot in plots:
        write_whole(out / "figures" / f"{plot.name}.svg", plot.svg)
        write_whole(out / "figures" / f"{plot.name}.png", plot.png)
    write_whole(out / "scores.json", (folder / "scores.json").read_bytes())
    write_whole(out / "report.md", to_page(name, scores, plots, tables, facts))
    page = render(
        TEMPLATE, name=name, s=scores, sections=SECTIONS, facts=facts,
        plots={key: list(group) for key, group in groupby(plots, lambda plot: plot.section)},
        tables={key: to_html(shown) for key, shown in tables.items()},
    )  # fmt: skip
    write_whole(out / "report.html", page)
    text = "\n\n".join([*_terminal(tables), "\n".join(findings(scores))])
    return score_result(out, tables["curves"], f"\n{text}\nReport: {out / 'report.html'}")


def _terminal(tables: Mapping[str, Table]) -> list[str]:
    """Return the columns of two tables that fit a terminal."""
    columns = {
        "curves": (0, *range(1, len(tables["curves"].headers), 2)),
        "picks": (0, 1, 2, 4, 5, 7),
    }
    return [
        to_text(table([tables[key].headers[i] for i in kept],
                      [[row[i] for i in kept] for row in tables[key].rows]))
        for key, kept in columns.items() if key in tables
    ]  # fmt: skip


def read_scores(path: Path) -> dict[str, Any]:
    """Read a ``scores.json`` of this version's schema.

    Raises
    ------
    EdgepruneError
        The file does not exist, is no such file, or has another schema version.

    """
    try:
        scores: dict[str, Any] = read_json(path)
        version = scores["schema_version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise EdgepruneError(
            f"{path} is not a scores.json of edgeprune score ({type(error).__name__}: {error}).",
            "Run edgeprune score again.",
        ) from error
    if version != SCHEMA_VERSION:
        raise EdgepruneError(
            f"{path} has schema version {version}; this edgeprune reads version {SCHEMA_VERSION}.",
            "Run edgeprune score again, or read it with the version that wrote it.",
        )
    return scores


def findings(scores: Mapping[str, Any]) -> list[str]:
    """Return the results in sentences: which layers to keep, and the best rule, if measured."""
    verdict = scores["verdict"]
    said = [verdict, verdict and verdict["finetuned"]]
    return [scores["headline"], *(found["sentence"] for found in said if found)]


def make_tables(scores: Mapping[str, Any]) -> dict[str, Table]:
    """Make the report's tables; those without data are left out."""
    tables = {"curves": _curves(scores)}
    if scores["picks"]:
        tables["picks"] = _picks(scores)
        measured = {field: _depths(scores, field) for field in MEASURES}
        tables |= {field: shown for field, shown in measured.items() if shown.rows}
    return {**tables, "classes": _classes(scores)}


def _curves(scores: Mapping[str, Any]) -> Table:
    curves = scores["curves"]["teacher"]
    rows = [
        (depth, *(text for curve in curves.values() for text in
                  (_measured(curve[depth]["mean_of_classes"], curve[depth]["interval"]),
                   _percent(curve[depth]["null_high"]))))
        for depth in range(scores["layers"] + 1)
    ]  # fmt: skip
    headers = [text for name in curves for text in (f"convexity of {name} [95 %]", "chance level")]
    return table(
        ("depth (layers)", *headers), rows, main=scores["first_within_1_percent"]["teacher"]
    )


def _picks(scores: Mapping[str, Any]) -> Table:
    rows = []
    for rule, pick in scores["picks"].items():
        at = {depth["layers"]: depth for depth in pick["depths"]}
        named, held = at.get(pick["proposed"]), at.get(pick["held"])
        rows.append((
            rule, f"{named['layers']} ({_percent(named['accuracy'])})" if named else DASH,
            pick["held"] or DASH, layer_list(held["keep"]) if held and "draws" not in held else DASH,
            _measured(held["accuracy"], held["interval"]) if held else DASH,
            *_removed(pick["held_95"], scores["layers"]),
            *_removed(pick["held_95_bridged"], scores["layers"]),
        ))  # fmt: skip
    winner = scores["verdict"] and scores["verdict"]["winner"]
    main = list(scores["picks"]).index(winner) if winner in scores["picks"] else -1
    headers = (
        "rule", "proposed (accuracy)", f"layers within {format_percentage_points(scores['max_drop'])}",
        "which layers", "test accuracy [95 %]", "layers for 95 %", "removed",
        "with bridges", "removed",
    )  # fmt: skip
    return table(headers, rows, "Fewest layers to keep, by rule, without retraining", main)


def _removed(layers: int | None, of: int) -> tuple[str, str]:
    return (str(layers), format_percent(1 - layers / of)) if layers else (DASH, DASH)


def _depths(scores: Mapping[str, Any], field: str) -> Table:
    """Return one kind of accuracy by rule and depth, deepest first; no rows if there is none."""
    rules = {
        rule: {depth["layers"]: depth[field] for depth in pick["depths"]}
        for rule, pick in scores["picks"].items()
        if rule not in PROPOSALS
    }
    depths = [
        layers for layers in range(scores["layers"], 0, -1)
        if any(found.get(layers) is not None for found in rules.values())
    ]  # fmt: skip
    rows = [(layers, *(_percent(found.get(layers)) for found in rules.values()))
            for layers in depths]  # fmt: skip
    return table(("layers kept", *rules), rows, f"Test accuracy, {MEASURES[field][0]}")


def _classes(scores: Mapping[str, Any]) -> Table:
    """Return every class's convexity and best depth, the least convex class first."""
    curve = [layer["per_class"] for layer in scores["curves"]["teacher"][scores["task"]]]
    found = {name: [layer[name] for layer in curve] for name in curve[0]}
    rows = [
        (
            name,
            format_percent(max(at)),
            at.index(max(at)),
            format_percent(at[0]),
            format_percent(at[-1]),
        )
        for name, at in sorted(found.items(), key=lambda item: max(item[1]))
    ]
    headers = (scores["task"], "highest convexity", "at depth", "at the input", "at the output")
    return table(headers, rows)


def _percent(share: float | None) -> str:
    return DASH if share is None or math.isnan(share) else format_percent(share)


def _measured(share: float | None, interval: Sequence[float] | None) -> str:
    if share is None or not interval:
        return _percent(share)
    return f"{format_percent(share)} [{100 * interval[0]:.1f}, {100 * interval[1]:.1f}]"


def facts_of(scores: Mapping[str, Any]) -> list[tuple[str, str]]:
    """List the model, the data and the settings behind the numbers."""
    facts = [
        ("model", f"{scores['model']}: {scores['layers']} layers of width {scores['hidden']}"),
        ("data", f"{scores['data']} (digest {scores['data_digest'][:16]})"),
        ("one point", UNITS[scores["unit"]]),
        (
            "scored on",
            f"{scores['clips']} {scores['unit']}"
            + ("" if scores["split"] == "all" else f" of the {scores['split']} split"),
        ),
        ("neighbours, k", f"{scores['neighbours']}"),
        ("permutations", f"{scores['permutations']}"),
    ]
    for name, found in scores["labelings"].items():
        facts.append((
            f"classes of {name}", f"{found['classes']}, {found['points']} points; "
            f"95 % intervals over {found['interval_over']}"))  # fmt: skip
    if measured := scores["measured_on"]:
        facts += [
            ("accuracy on", f"{measured['clips']} clips of the {measured['split']} split; 95 % "
             f"intervals over {measured['group'] or 'clips'}"),
            ("whole model", _measured(measured["baseline"], measured["interval"])),
            ("largest drop allowed",
             f"{format_percentage_points(scores['max_drop'])}, on the validation split"),
        ]  # fmt: skip
    for rule, pick in (scores["picks"] or {}).items():
        if orders := pick["depths"][0].get("draws"):
            facts.append((rule, f"the mean of {len(orders)} orders"))
    if ablation := scores["ablation"]:
        head = {"own": "its own head", "linear probe": "a linear probe"}[ablation["head"]]
        facts.append(("ablation", f"measured with {head} on {ablation['clips']} clips of "
                      f"the {ablation['split']} split"))  # fmt: skip
    spent = ", ".join(f"{part} {duration(s)}" for part, s in scores["seconds"].items() if s)
    return [*facts, ("computing time", spent), ("schema version", f"{scores['schema_version']}")]


def to_page(
    name: str, scores: Mapping[str, Any], plots: Sequence[Plot], tables: Mapping[str, Table],
    facts: Sequence[tuple[str, str]],
) -> str:  # fmt: skip
    """Return report.md; labels are escaped, so that none of them becomes markup."""
    parts = [f"# {name}", *findings(scores)]
    for section, title in {**SECTIONS, "classes": f"Classes of {scores['task']}"}.items():
        found = [f"![{plot.title}](figures/{plot.name}.svg)\n\n{plot.caption}"
                 for plot in plots if plot.section == section]  # fmt: skip
        for key in (key for key in tables if TABLES[key] == section):
            found += [tables[key].title, to_markdown(tables[key])]
        if found:
            parts += [f"## {title}", *(text for text in found if text)]
    parts += ["## Details", "\n".join(f"- {key}: {value}" for key, value in facts)]
    return escape("\n\n".join(parts), quote=False) + "\n"
