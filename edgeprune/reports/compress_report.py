"""The report of a ``compress`` run: report.json, report.md and report.html.

``report.json`` holds all numbers; the other two and the terminal's table are made from it. The
numbers come from the records of the stages and from the delivered files; nothing is measured here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune import __version__
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import read_json
from edgeprune.core.settings import Settings
from edgeprune.core.tables import Table, to_html, to_markdown
from edgeprune.data.windows import read_description
from edgeprune.export.export import bundle_name
from edgeprune.metrics.statistics import LEAST_GROUPS
from edgeprune.metrics.task_metrics import METRICS, interval, value
from edgeprune.reports import plots
from edgeprune.reports.compress_tables import OTHER, ROWS, TITLES, least_threads, make_tables
from edgeprune.reports.html import render
from edgeprune.reports.results import CompressResult, compress_result
from edgeprune.training.step_records import read_step, step_folders
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.system.files import write_whole

TEMPLATE = "report.html.j2"


def report(
    out: Path, model: str, best_seed: int, settings: Settings, inputs: Sequence[Path], ui: Ui
) -> CompressResult:
    """Write the report of a finished ``compress`` run.

    Parameters
    ----------
    out : Path
        Folder of the run.
    model : str
        Model as given by the user.
    best_seed : int
        Seed whose bundle is delivered.
    settings : Settings
        Settings of the run.
    inputs : sequence of Path
        Finished stages ``clips``, ``bench`` and ``deploy``, then the folder of each seed.
    ui : Ui
        Progress display.

    Returns
    -------
    CompressResult

    """
    clip_folder, speed_folder, final, *folders = inputs
    r = gather(out, model, best_seed, settings, clip_folder, speed_folder, final, folders)
    tables = make_tables(r)
    recipe = (out / "recipe.toml").read_text("utf-8")
    write_whole(out / "report.json", json.dumps(r, indent=1, ensure_ascii=False) + "\n")
    write_whole(out / "report.md", to_markdown_page(r, tables))
    write_whole(out / "report.html", to_html_page(r, tables, recipe))
    ui.say(f"report           {out / 'report.html'}")
    return compress_result(out, r, tables["summary"])


def gather(
    out: Path, model: str, best_seed: int, settings: Settings, clip_folder: Path,
    speed_folder: Path, final: Path, folders: Sequence[Path],
) -> dict[str, Any]:  # fmt: skip
    """Collect all numbers of a run from the records of its stages."""
    data = read_description(clip_folder)
    tested = [row for row in data["rows"] if row["split"] == "test"]
    seeds = [_seed(folder, settings) for folder in folders]
    speed = read_json(speed_folder / "bench.json")
    chosen = out / f"seed-{best_seed}"
    bundles = {
        "teacher": chosen / "export-teacher" / "bundle",
        "student": chosen / "export" / bundle_name(settings.export.formats[0]),
        "bundle": final / "bundle",
        OTHER: next(final.glob("bundle-*"), final / "bundle"),  # two formats in one bundle: that
    }  # fmt: skip
    found = [name for name in (*ROWS, OTHER) if name in seeds[0]["verify"]]
    groups = [row["group"] for row in tested]
    drawn = groups if all(groups) and len(set(groups)) >= LEAST_GROUPS else None
    rows = {
        name: _row(name, folders, seeds, bundles[name], speed, drawn, data["task"])
        for name in found
    }
    r: dict[str, Any] = {
        "name": out.resolve().name, "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "edgeprune_version": __version__, "model": model,
        "data": {
            "source": data["source"], "digest": data["digest"], "labels": data["labels"],
            "bundle_labels": len(read_bundle(bundles["bundle"]).labels),
            "task": data["task"], "interval_over": "groups" if drawn else "clips",
            "label_column": data["label_column"], "group_column": data["group_column"],
            "left_out": data["left_out"], "sample_rate": data["sample_rate"],
            "window_seconds": data["window_samples"] / data["sample_rate"],
            **{f"{part}_clips": sum(row["split"] == part for row in data["rows"])
               for part in ("train", "valid", "test")},
        },
        "settings": json.loads(json.dumps(asdict(settings))), "machine": _machine(speed),
        "summary": rows, "seeds": seeds, "best_seed": best_seed,
        "delivered": read_json(chosen / "verify" / "verify.json"),
        "scores": scores_of(folders), "bench": speed,
        "bundle": str(out / "bundle"),
        "files": read_json(chosen / "quantize" / "quantize.json"),
    }  # fmt: skip
    return {**r, "headline": headline(r)}


def scores_of(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Read every seed's layer scores of its teacher; empty if no step needed them."""
    files = [folder / "score" / "layers.json" for folder in folders]
    return [read_json(file) for file in files if file.is_file()]


def _seed(folder: Path, settings: Settings) -> dict[str, Any]:
    taught = read_json(folder / "teach" / "teach.json")
    names = ("teach", *step_folders(settings.steps))
    steps = [read_step(folder / name) for name in names]
    distilled = read_json(folder / "distill" / "distill.json")
    verified = read_json(folder / "verify" / "verify.json")
    exported = read_json(folder / "export" / "export.json")
    return {
        "seed": int(folder.name.removeprefix("seed-")),
        "teacher_valid": taught["valid_score"], "taught": not taught["skipped"],
        "steps": steps, "verify": verified,
        "export_difference": max(x["worst_difference_to_torch"] for x in exported.values()),
        "learning": {**{name: step["curve"] for name, step in zip(names, steps, strict=True)},
                     "distill": distilled["curve"]},
        "seconds": {
            stage.parent.name: read_json(stage)["seconds"] for stage in sorted(folder.glob("*/stage.json"))
        },
    }  # fmt: skip


def _row(
    name: str, folders: Sequence[Path], seeds: Sequence[dict[str, Any]], bundle: Path,
    speed: dict[str, Any], groups: list[str] | None, task: str,
) -> dict[str, Any]:  # fmt: skip
    """Return one row of the before/after table: metrics over all seeds, size and speed."""
    tallies = [np.load(f / "verify" / f"{name}.npy") for f in folders]
    base = [np.load(f / "verify" / "teacher.npy") for f in folders]
    measured = [m for m in METRICS[task] if m.name in seeds[0]["verify"][name]["metrics"]]
    metrics = {m.name: {"value": float(np.mean([value(m, tally) for tally in tallies])),
                        "interval": interval(m, tallies, groups)} for m in measured}  # fmt: skip
    main = measured[0]
    found = [s["verify"][name] for s in seeds]
    model = read_bundle(bundle).variants[-1 if name == OTHER else 0].manifest["model"]
    one = next(
        v for v in speed["variants"] if v["name"] == name and v["threads"] == least_threads(speed)
    )
    return {
        "metric": main.name, "score": metrics[main.name]["value"],
        "interval": metrics[main.name]["interval"], "metrics": metrics,
        "by_seed": [v["score"] for v in found],
        "difference": float(np.mean([v.get("difference", 0.0) for v in found])),
        "difference_interval": interval(main, tallies, groups, base),
        "agreement": float(np.mean([v.get("agreement", 1.0) for v in found])),
        "layers": model["layers"], "parameters": model["parameters"],
        "quantization": model["quantization"], "format": model["format"],
        "bytes": one["model_bytes"], "p50_ms": one["p50_ms"], "p90_ms": one["p90_ms"],
        "p99_ms": one["p99_ms"], "real_time_factor": one["real_time_factor"],
        "peak_rss_mb": one["peak_rss_mb"], "threads": one["threads"],
    }  # fmt: skip


def _machine(speed: dict[str, Any]) -> str:
    machine = speed["machine"]
    return f"{machine['model']} ({machine['architecture']}, {machine['cores']} cores)"


def headline(r: dict[str, Any]) -> str:
    """Summarize the run in one sentence."""
    before, after = r["summary"]["teacher"], r["summary"]["bundle"]
    low, high = after["difference_interval"]
    smaller = (
        f"From {before['parameters'] / 1e6:.2f} M to {after['parameters'] / 1e6:.2f} M parameters"
    )
    if any(step["step"] == "student" for step in r["seeds"][0]["steps"]):
        smaller = (
            f"A new student with {after['parameters'] / 1e6:.2f} M parameters (teacher: "
            f"{before['parameters'] / 1e6:.2f} M)"
        )
    elif before["layers"] != after["layers"]:
        smaller = f"From {before['layers']} layers to {after['layers']}"
    elif before["parameters"] == after["parameters"]:
        smaller = f"All {before['layers']} layers kept"
    return (
        f"{smaller}, from {before['bytes'] / 1e6:.1f} MB to "
        f"{after['bytes'] / 1e6:.1f} MB, from {before['p50_ms']:.1f} ms to "
        f"{after['p50_ms']:.1f} ms per window; test {before['metric']} went from "
        f"{format_percent(before['score'])} to {format_percent(after['score'])} "
        f"({100 * after['difference']:+z.1f} percentage points, 95 % interval "
        f"{100 * low:+z.1f} to {100 * high:+z.1f})."
    )


def make_figures(r: dict[str, Any]) -> dict[str, str]:
    """Draw the report's figures."""
    least = least_threads(r["bench"])
    samples = {TITLES[v["name"]]: v["samples_ms"] for v in r["bench"]["variants"]
               if v["threads"] == least}  # fmt: skip
    curves = {f"{stage}, seed {s['seed']}": curve for s in r["seeds"]
              for stage, curve in s["learning"].items() if curve}  # fmt: skip
    return {
        "convexity": plots.convexity_figure(
            [scores["curves"] for scores in r["scores"]],
            r["scores"][0]["task"],
            [
                len(step["kept"])
                for s in r["seeds"]
                for step in s["steps"]
                if step["step"] == "depth"
            ],
        )
        if r["scores"] and r["scores"][0]["task"]
        else "",
        "latency": plots.latency_figure(samples),
        "learning": plots.learning_figure(curves) if curves else "",
    }


def facts_of(r: dict[str, Any]) -> list[tuple[str, str]]:
    """List data, method and machine."""
    data = r["data"]
    notes = r["bench"].get("notes", [])
    labels = f"{len(data['labels'])} in column {data['label_column']}"
    if data["bundle_labels"] != len(data["labels"]):
        labels += f"; the bundle has {data['bundle_labels']}, all that the model knows"
    return [
        ("model", r["model"]), ("data", data["source"]), ("data digest", data["digest"][:16]),
        ("labels", labels),
        ("clips", ", ".join(f"{data[f'{p}_clips']} {p}" for p in ("train", "valid", "test"))),
        ("split by", data["group_column"] or "clip (no group column)"),
        ("machine", r["machine"]), ("bundle", r["bundle"]),
        *(("note on latency", note) for note in notes),
    ]  # fmt: skip


def to_html_page(r: dict[str, Any], tables: dict[str, Table], recipe: str) -> str:
    """Return report.html: one file that loads nothing, figures and recipe in it."""
    return render(
        TEMPLATE, r=r, tables={name: to_html(t) for name, t in tables.items()},
        figures=make_figures(r), facts=facts_of(r), has_depth=bool(tables["candidates"].rows),
        has_shares=bool(tables["shares"].rows),
        recipe=recipe,
    )  # fmt: skip


def to_markdown_page(r: dict[str, Any], tables: dict[str, Table]) -> str:
    """Return report.md."""
    titles = {"summary": "Before and after", "metrics": "Metrics", "seeds": "Seeds",
              "steps": "Compression steps", "candidates": "Layer subsets tried", "shares": "Shares removed",
              "files": "Candidate files", "speed": "Latency on this machine",
              "labels": "Labels"}  # fmt: skip
    parts = [f"# {r['name']}", r["headline"]]
    for name, title in titles.items():
        if not tables[name].rows:
            continue
        parts += [f"## {title}", to_markdown(tables[name])]
    parts += [
        "## Details",
        "\n".join(f"- {name}: {value}" for name, value in facts_of(r)),
    ]
    return "\n\n".join(parts) + "\n"
