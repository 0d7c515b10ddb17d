"""The last stages of ``compress``: verify, deploy, bench, and copying the finished bundle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune import __version__
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import read_json, write_json
from edgeprune.core.settings import Settings
from edgeprune.data.windows import read_description, stored_clips
from edgeprune.deployment.evaluate import tally_of
from edgeprune.deployment.verify import verify_bundles
from edgeprune.export.export import bundle_name
from edgeprune.reports.compress_tables import OTHER, ROWS
from edgeprune.training.step_records import read_step, step_folders
from edgeprune_device.bench.runner import bench
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import with_alternative, write_bundle
from edgeprune_device.system.machine import usable_cores

METRICS = ("digest", "clips", "clips_digest", "metric", "score", "interval", "metrics",
           "agreement", "difference")  # fmt: skip
IN_SHORT = ("step", "layers", "kept", "parameters", "macs", "valid_score")


def in_order(formats: Sequence[str], decided: Mapping[str, str]) -> tuple[str, ...]:
    """Return the formats, with the preferred one first."""
    return tuple(sorted(formats, key=lambda format: format != decided.get("first")))


def delivered(s: Settings, decided: Mapping[str, str]) -> tuple[str, ...]:
    """Return the folders of the delivered bundles: ``bundle``, which may have files of two formats.

    Otherwise the other format gets ``bundle-FORMAT``.
    """
    others = () if s.export.together else in_order(s.export.formats, decided)[1:]
    return ("bundle", *(f"bundle-{format}" for format in others))


def verify(*inputs: Path, out: Path, settings: None, ui: Ui) -> None:
    """Measure teacher, student and deployed files on the test split, as the recorder would.

    Writes ``verify.json``, and the tally of every clip in ``NAME.npy``, see ``task_metrics``.

    Parameters
    ----------
    inputs : Path
        Bundles in the order of ``ROWS`` (and ``OTHER``), then the folder of the stage ``clips``.

    """
    del settings
    *bundles, clip_folder = inputs
    tested = stored_clips(clip_folder, "test")
    names = (*ROWS, OTHER)[: len(bundles)]
    result, answers = verify_bundles(dict(zip(names, bundles, strict=True)), tested, ui.track)
    for name, given in answers.items():
        np.save(out / f"{name}.npy", tally_of(given, tested))
    write_json(out / "verify.json", result)
    found = ", ".join(f"{name} {format_percent(result[name]['score'])}" for name in names)
    ui.say(f"  test {result['teacher']['metric']}: {found}")


def deploy(source: str, *inputs: Path, out: Path, settings: Settings, ui: Ui) -> None:
    """Write the chosen seed's bundles with their provenance and measurements."""
    *verified, quantized, clip_folder = inputs
    del ui
    chosen = read_json(quantized.parent / "verify" / "verify.json")
    decided = read_json(quantized / "quantize.json")["decided"]
    data = read_description(clip_folder)
    folders = ("teach", *step_folders(settings.steps))
    read = [read_step(quantized.parent / folder) for folder in folders]
    steps = [{name: step[name] for name in IN_SHORT if name in step} for step in read]
    rows = [row for row in (*ROWS, OTHER) if row in chosen]
    formats = in_order(settings.export.formats, decided)
    bundles = [read_bundle(quantized / bundle_name(format)) for format in formats]
    for name, row, bundle in zip(
        delivered(settings, decided), (ROWS[-1], OTHER), bundles, strict=False
    ):
        measured = [*ROWS[:-1], row] if row in rows and not settings.export.together else rows
        metrics = {n: {k: chosen[n][k] for k in METRICS if k in chosen[n]} for n in measured}
        manifest = dict(bundle.manifest)
        manifest["provenance"] = {
            "edgeprune": __version__, "model": source, "data": data["source"],
            "data_digest": data["digest"], "label_column": data["label_column"],
            "group_column": data["group_column"], "steps": steps,
            "settings": json.loads(json.dumps(asdict(settings))),
            "metrics": metrics, "seed": int(quantized.parent.name.removeprefix("seed-")),
            "seeds": len(verified),
        }  # fmt: skip
        names = [file for file in manifest.pop("files") if file != "bundle.json"]
        files = {file: (bundle.path / file).read_bytes() for file in names}
        if settings.export.together:
            manifest, files = with_alternative(manifest, files, bundles[1])
        write_bundle(out / name, manifest, files)


def measure_speed(*files: Path, out: Path, settings: Any, ui: Ui) -> None:
    """Measure latency, memory and size of teacher, student and deployed files in one run."""
    threads = tuple(n for n in settings.threads if n <= usable_cores()) or (1,)
    if threads != settings.threads:
        ui.say(f"  this machine has {usable_cores()} core(s): measuring with {threads} thread(s)")
    rows = sum(len(read_bundle(file).variants) for file in files)
    bench(files, out, threads=threads, seconds=settings.seconds, rounds=settings.rounds,
          names=(*ROWS, OTHER)[:rows], say=ui.say)  # fmt: skip


def publish(bundle: Path, target: Path) -> None:
    """Copy the finished bundle to its final place, replacing an old one when complete."""
    manifest = read_bundle(bundle).manifest
    files = {name: (bundle / name).read_bytes() for name in manifest["files"]}
    write_bundle(target, {k: v for k, v in manifest.items() if k != "files"}, files)
