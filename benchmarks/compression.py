"""All compression methods on one teacher, with the same clips and splits, over several seeds.

    python benchmarks/compression.py kwt -o runs/compression --results benchmarks/results
    python benchmarks/compression.py w2v2 -o runs/compression --results benchmarks/results

``kwt`` is KWT-1, fine-tuned here on the Arabic words; ``w2v2`` the trained wav2vec 2.0 of Arabic
words (for a wav2vec2-base with random weights see ``base_shape.py``). Every row is one ``edgeprune
compress`` with the recipe saved beside its run, so a row can be repeated by hand; the rows of
torch-pruning (a peer) use its pruning instead of edgeprune's, with the same recovery. At the end,
all files are measured in one ``edgeprune bench``. Finished rows are kept: the same command resumes.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from edgeprune.core.console import Terminal
from edgeprune.core.recipe import build_settings, to_toml
from edgeprune.core.settings import STEPS, Settings
from edgeprune.core.tables import Table, table, to_markdown
from edgeprune.models import loading
from edgeprune.pipeline.compress import compress
from edgeprune_calibration.dataset import read_data
from edgeprune_device.bench.runner import bench
from edgeprune_device.system.machine import machine_facts

sys.path.append(str(Path(__file__).parent))
STEPS["torch-pruning"] = ("peers_trim:peers_trim", "trim")
SHARED = Path(__file__).resolve().parents[2] / "shared"
KWT, WORDS = SHARED / "models/kwt1_speech_commands", SHARED / "models/w2v2_arabic_words"
ARABIC = SHARED / "data/arabic_speech_commands_20/labels.csv"
LEARN, RECOVER, DISTILL = 2, 1, 1
"""Epochs that learn masks, that recover, and that end a row: the same sum for all rows except
``depth``, whose layer subsets have 2 each before they are judged and 3 at the end, and those that
start from random weights: a mimic (on hidden states, then on labels) and ``scratch`` have
FROM_NOTHING, the students their own."""
FROM_NOTHING = (8, 4)
AFTER = {"epochs": DISTILL, "label_epochs": 0}
WHOLE = {"epochs": LEARN + RECOVER + DISTILL, "patience": 99, "when": "always"}
Recipe = dict[str, Any]


def trimmed(ratio: float, **changes: Any) -> Recipe:
    """Return the recipe that removes a share of the multiply-accumulates."""
    learnt = changes.get("method", "masks") == "masks"  # a criterion learns nothing: more recovery
    recovery = RECOVER if learnt else LEARN + RECOVER
    trim = {"ratio": ratio, "of": "macs", "epochs": LEARN, "recovery_epochs": recovery}
    return {"steps": ["trim"], "trim": trim | changes, "distill": AFTER}


def mimicked(layers: int, **changes: Any) -> Recipe:
    """Return the recipe that replaces all blocks by a mimic of one or two frame-wise layers."""
    on_states, on_labels = FROM_NOTHING
    mimic = {"kind": "frame", "layers": layers, "epochs": on_states, "label_epochs": on_labels}
    return {
        "steps": ["mimic"],
        "mimic": mimic | changes,
        "distill": {"epochs": 0, "label_epochs": 0},
    }


def peer(criterion: str) -> Recipe:
    """Return the recipe in which torch-pruning removes half of the multiply-accumulates."""
    return trimmed(0.5, method=criterion) | {"steps": ["torch-pruning"]}


ROWS: dict[str, tuple[str, Recipe]] = {
    "depth": ("teacher", {"prune": {"recovery_epochs": 2}, "distill": AFTER | {"epochs": 3}}),
    "masks 25 %": ("teacher", trimmed(0.25)),
    "masks 50 %": ("teacher", trimmed(0.5)),
    "masks 75 %": ("teacher", trimmed(0.75)),
    "masks 25 %, genova": ("teacher", trimmed(0.25, mask_loss="genova")),
    "masks 50 %, genova": ("teacher", trimmed(0.5, mask_loss="genova")),
    "masks 75 %, genova": ("teacher", trimmed(0.75, mask_loss="genova")),
    "magnitude 50 %": ("teacher", trimmed(0.5, method="magnitude")),
    "taylor 50 %": ("teacher", trimmed(0.5, method="taylor")),
    "torch-pruning magnitude 50 %": ("teacher", peer("magnitude")),
    "torch-pruning taylor 50 %": ("teacher", peer("taylor")),
    "mimic 1": ("teacher", mimicked(1)),
    "mimic 2": ("teacher", mimicked(2)),
    "mimic 2, no distillation": ("teacher", mimicked(2, distil=False)),
    "front end alone": ("teacher", mimicked(1, kind="none")),
    "light": ("teacher", {"steps": ["mimic", "frontend"],
                          "mimic": {"kind": "conv", "layers": 2, "epochs": 4, "label_epochs": 2},
                          "frontend": {"epochs": 6, "whole_epochs": 4, "label_epochs": 2},
                          "distill": AFTER | {"epochs": 0}}),
    "depth and trim": ("teacher", {**trimmed(0.5), "steps": ["depth", "trim"],
                                   "prune": {"recovery_epochs": 2}}),
    "linear probe": ("pretrained", {"steps": [], "teach": WHOLE | {"tune": "head"}}),
    "SSF": ("pretrained", {"steps": [], "teach": WHOLE | {"tune": "ssf"}}),
    "scratch": ("scratch", {"steps": [], "teach": WHOLE | {"epochs": sum(FROM_NOTHING), "tune": "all"}}),
    "small CNN": ("teacher", {"steps": ["student"], "student": {"kind": "cnn", "distil": False}}),
    "tiny": ("teacher", {"steps": ["student"], "student": {"epochs": 30, "label_epochs": 4}}),
}  # fmt: skip
OTHERWISE = {"kwt": {"masks 75 %": ("teacher", trimmed(0.75, of="parameters"))}}
"""A quarter of KWT-1's multiply-accumulates are its spectrogram's, so 75 % cannot be removed."""
NOT_FOR = {"w2v2": ("linear probe", "SSF")}  # it has no state before these very words
TINY = ("small CNN", "tiny")  # delivered with their weights in 8 bits, trained by the step alone


def main() -> None:
    """Run the requested rows, measure their files together, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("teacher", choices=["kwt", "w2v2"])
    parser.add_argument("-o", "--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--results", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", choices=["train", "measure"], help="the half that is to be done")
    options = parser.parse_args()
    out = options.out / options.teacher
    sources = make_sources(options.teacher, out)
    rows = [name for name in options.rows if name not in NOT_FOR.get(options.teacher, ())]
    for name in rows:
        if options.only != "measure":
            row = OTHERWISE.get(options.teacher, {}).get(name, ROWS[name])
            run_row(name, row, sources, out, options.seeds)
    if options.only == "train":
        return
    done = [name for name in rows if (out / folder_of(name) / "report.json").is_file()]
    found = collect(done, out)
    day = datetime.now(UTC).date().isoformat()
    options.results.mkdir(parents=True, exist_ok=True)
    target = options.results / f"compression-{options.teacher}-{day}.json"
    target.write_text(json.dumps({"teacher": options.teacher, "machine": machine_facts(),
                                  "rows": found}, indent=1) + "\n", "utf-8")  # fmt: skip
    print(to_markdown(to_table(found)))


def make_sources(teacher: str, out: Path) -> dict[str, Path]:
    """Return the models that rows start from: the teacher, the pretrained model, a random one."""
    labels = read_data(ARABIC).labels
    pretrained = KWT if teacher == "kwt" else WORDS
    taught = WORDS
    if teacher == "kwt":
        call(KWT, out / "teacher", {"steps": [], "seeds": 1})
        taught = out / "teacher" / "seed-0" / "teach" / "model"
    scratch = out / "scratch-model"
    if not scratch.exists():
        make_scratch(pretrained, labels, scratch)
    return {"teacher": taught, "pretrained": pretrained, "scratch": scratch}


def make_scratch(source: Path, labels: tuple[str, ...], folder: Path) -> None:
    """Save a model of the same architecture with random weights, except for fixed spectrograms."""
    torch.manual_seed(20261121)
    trained = loading.load_model(str(source), labels)
    fresh = type(trained)(trained.config)
    fixed = dict(trained.named_buffers())
    for name, buffer in fresh.named_buffers():
        buffer.copy_(fixed[name])
    old = dict(trained.named_parameters())
    for name, parameter in fresh.named_parameters():
        if parameter.std() > 0 and torch.equal(parameter, old[name]):
            raise SystemExit(f"{name} of the model from scratch is that of {source}")
    loading.save(fresh, folder)


def run_row(
    name: str, row: tuple[str, Recipe], sources: dict[str, Path], out: Path, seeds: int
) -> None:
    """Run one row by the command a user would run."""
    source, recipe = row
    changes: Recipe = {"seeds": seeds}
    if name in TINY:
        changes |= {"quantize": {"method": "weights"}, "distill": {"epochs": 0, "label_epochs": 0}}
    call(sources[source], out / folder_of(name), recipe | changes)


def call(model: Path, out: Path, recipe: Recipe) -> None:
    """Run a row's ``edgeprune compress``."""
    quick = {"seconds": 0.5, "rounds": 3, "threads": [1]}  # all files are measured at the end
    whole = build_settings({"precision": "bf16", "bench": quick}, recipe)
    if "torch-pruning" in whole.steps:  # a step of this benchmark's own: not known to the command
        compress(str(model), ARABIC, out, whole, ui=Terminal())
        return
    by_command(model, ARABIC, out, whole)


def by_command(model: Path, data: Path, out: Path, settings: Settings) -> None:
    """Run ``edgeprune compress`` with a recipe that is saved beside its run."""
    out.parent.mkdir(parents=True, exist_ok=True)
    file = out.with_name(f"{out.name}.toml")
    file.write_text(to_toml(settings), "utf-8")
    command = [sys.executable, "-m", "edgeprune.cli", "compress", str(model), str(data), "-o", str(out),
               "--recipe", str(file)]  # fmt: skip
    print("$ edgeprune", *command[3:], flush=True)
    status = subprocess.run(command, check=False, stdout=subprocess.DEVNULL).returncode
    if status not in (0, 1):  # 1: under the floor, which is a result, too
        raise SystemExit(f"{out.name} ended with status {status}")


def folder_of(name: str) -> str:
    """Return the folder name of a row."""
    return "".join(c if c.isalnum() else "-" for c in name).strip("-").replace("--", "-")


def collect(rows: list[str], out: Path) -> dict[str, dict[str, Any]]:
    """Read every row's accuracy, and measure all delivered files together."""
    reports = {
        name: json.loads((out / folder_of(name) / "report.json").read_text("utf-8"))
        for name in rows
    }
    files: dict[str, Path] = {}
    base = next((name for name in rows if ROWS[name][0] == "teacher"), None)
    if base is None:
        raise SystemExit("no row of the teacher's own is there to compare with")
    reports = {base: reports[base], **reports}
    for name, r in reports.items():
        best = out / folder_of(name) / f"seed-{r['best_seed']}"
        if not files:
            files["teacher, float"] = best / "export-teacher" / "bundle"
        files[f"{name}, float"] = best / "export" / "bundle"
        files[f"{name}, int8"] = out / folder_of(name) / "bundle"
    speed = bench(list(files.values()), out / "bench", threads=(1,), seconds=1.0, rounds=3,
                  names=list(files), say=Terminal().say)  # fmt: skip
    measured = {v["name"]: v for v in speed["variants"]}
    keys = ("model_bytes", "p50_ms", "p90_ms", "p99_ms", "n")
    found: dict[str, dict[str, Any]] = {}
    for name, r in reports.items():
        steps = [s["steps"] for s in r["seeds"]]
        if name == base:
            found["teacher"] = {"summary": r["summary"]["teacher"], "macs": steps[0][0]["macs"],
                                "float": {k: measured["teacher, float"][k] for k in keys}}  # fmt: skip
        found[name] = {
            "student": r["summary"]["student"], "delivered": r["summary"]["bundle"],
            "macs": [s[-1]["macs"] for s in steps], "parameters": [s[-1]["parameters"] for s in steps],
            "steps": steps, "settings": r["settings"],
            "float": {k: measured[f"{name}, float"][k] for k in keys},
            "int8": {k: measured[f"{name}, int8"][k] for k in keys},
        }  # fmt: skip
    return found


def to_table(found: dict[str, dict[str, Any]]) -> Table:
    """Compare every row with the teacher."""
    base = found["teacher"]
    rows = []
    for name, row in found.items():
        delivered = row["delivered"] if "delivered" in row else row["summary"]
        low, high = delivered["interval"]
        int8 = row.get("int8", row["float"])
        macs = row["macs"] if isinstance(row["macs"], int) else sum(row["macs"]) / len(row["macs"])
        student = row["student"] if "student" in row else row["summary"]
        rows.append((
            name, f"{100 * student['score']:.2f}",
            f"{100 * delivered['score']:.2f} [{100 * low:.1f}, {100 * high:.1f}]",
            " ".join(f"{100 * x:.1f}" for x in delivered["by_seed"]),
            f"{delivered['parameters'] / 1e6:.3f} M", f"{macs / 1e6:.1f} M",
            f"{row['float']['model_bytes'] / 1e6:.2f}", f"{int8['model_bytes'] / 1e6:.2f}",
            f"{row['float']['p50_ms']:.2f}", f"{int8['p50_ms']:.2f} / {int8['p90_ms']:.2f}",
            f"{base['float']['model_bytes'] / int8['model_bytes']:.1f} x",
            f"{base['float']['p50_ms'] / int8['p50_ms']:.2f} x",
        ))  # fmt: skip
    headers = ("", "student %", "delivered % [95 %]", "by seed", "parameters", "MACs", "float MB",
               "int8 MB", "float p50 ms", "int8 p50 / p90 ms", "bytes", "speed")  # fmt: skip
    return table(headers, rows)


if __name__ == "__main__":
    if importlib.util.find_spec("torch_pruning") is None:
        print(
            "note: torch-pruning is not installed; its rows will stop (pip install torch-pruning)"
        )
    main()
