r"""ESC-10 with five-fold cross-validation: each fold is the test split once.

    python benchmarks/esc10.py ../shared/models/kwt1_speech_commands -o runs/esc10 \
        --results benchmarks/results

Every fold is one ``edgeprune compress``: the model is fine-tuned on the ten classes, half of its
multiply-accumulates are trimmed, and it is written in int8. Clips of one recording stay together;
the fold before the test fold is the validation split. The table gives each fold and their mean, as
the authors of the data do (Piczak 2015). Finished folds are kept: the same command resumes.
"""

from __future__ import annotations

import argparse
import json
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compression import by_command

from edgeprune.core.recipe import build_settings
from edgeprune.core.tables import table, to_markdown
from edgeprune_device.system.machine import machine_facts

ESC10 = Path(__file__).resolve().parents[2] / "shared/data/esc10/labels.csv"
FOLDS = tuple(f"fold{number}" for number in range(1, 6))
RECIPE: dict[str, Any] = {
    "steps": ["trim"], "seeds": 1, "precision": "bf16", "teach": {"epochs": 15, "when": "always"},
    "trim": {"ratio": 0.5, "epochs": 3, "recovery_epochs": 3},
    "distill": {"epochs": 3, "label_epochs": 2}, "bench": {"seconds": 0.5, "rounds": 3},
}  # fmt: skip
ROWS = ("teacher", "student", "bundle")


def run_fold(model: Path, fold: str, out: Path) -> dict[str, Any]:
    """Compress with one fold as the test split, and return the report."""
    chosen = build_settings({"clips": {"group": "source", "test_fold": fold}}, RECIPE)
    by_command(model, ESC10, out / fold, chosen)
    found: dict[str, Any] = json.loads((out / fold / "report.json").read_text("utf-8"))
    return found


def main() -> None:
    """Run the five folds, and write their table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("model", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--results", type=Path, required=True, help="where the JSON goes")
    options = parser.parse_args()
    reports = {fold: run_fold(options.model, fold, options.out) for fold in FOLDS}
    found = {row: [reports[fold]["summary"][row]["score"] for fold in FOLDS] for row in ROWS}
    macs = [[step["macs"] for step in reports[fold]["seeds"][0]["steps"]] for fold in FOLDS]
    options.results.mkdir(parents=True, exist_ok=True)
    target = options.results / f"esc10-{datetime.now(UTC).date().isoformat()}.json"
    whole = {"model": options.model.name, "machine": machine_facts(), "recipe": RECIPE,
             "accuracy": found, "macs": macs,
             "summaries": {fold: reports[fold]["summary"] for fold in FOLDS}}  # fmt: skip
    target.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    rows = [
        (row, *(f"{100 * score:.1f}" for score in scores), f"{100 * statistics.mean(scores):.1f}",
         f"{100 * statistics.stdev(scores):.1f}")
        for row, scores in found.items()
    ]  # fmt: skip
    print(to_markdown(table(("accuracy %", *FOLDS, "mean", "sd"), rows)))


if __name__ == "__main__":
    main()
