r"""Compression without training, the recipe ``quick``, on real pretrained models.

    python benchmarks/closed_form.py -o runs/closed-form --results benchmarks/results

Each row is one ``edgeprune compress --recipe quick``: bytes and latency of the delivered file beside
the float32 ONNX file of the whole model with the same kind of head, accuracy of both on the same
test clips, and how long it took. Arabic words: test speakers are in no other split, intervals over
speakers. ESC-10: five folds, clips of one recording together, mean over the folds. Finished runs
are kept: the same command resumes, and times are those of the first run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from compression import by_command

from edgeprune.core.recipe import load_recipe
from edgeprune.core.tables import table, to_markdown
from edgeprune_device.system.machine import machine_facts

SHARED = Path(__file__).resolve().parents[2] / "shared"
ARABIC = SHARED / "data/arabic_speech_commands_20/labels.csv"
ESC10 = SHARED / "data/esc10/labels.csv"
FOLDS = tuple(f"fold{number}" for number in range(1, 6))
BENCH = {"seconds": 0.5, "rounds": 3, "threads": [1]}
SUBJECTS: dict[str, tuple[str, Path, dict[str, Any]]] = {
    "Whisper base, Arabic words": ("whisper_base_encoder", ARABIC, {}),
    "Whisper tiny.en, Arabic words": ("whisper_tiny_en_encoder", ARABIC, {}),
    "wav2vec2, Arabic words": ("w2v2_arabic_words", ARABIC, {}),
    "KWT-1, Arabic words": ("kwt1_speech_commands", ARABIC, {}),
    **{f"Whisper base, ESC-10, {fold}": ("whisper_base_encoder", ESC10,
                                         {"group": "source", "test_fold": fold})
       for fold in FOLDS},
}  # fmt: skip


def run_subject(name: str, out: Path) -> dict[str, Any]:
    """Compress one model on one data set; return what its table needs."""
    model, data, clips = SUBJECTS[name]
    folder = out / name.lower().replace(", ", "-").replace(" ", "-")
    by_command(
        SHARED / "models" / model, data, folder, load_recipe("quick", clips=clips, bench=BENCH)
    )
    report: dict[str, Any] = json.loads((folder / "report.json").read_text("utf-8"))
    stages = [json.loads(file.read_text("utf-8")) for file in folder.rglob("stage.json")]
    steps = report["seeds"][0]["steps"]
    return {"summary": report["summary"], "steps": steps,
            "seconds": sum(stage["seconds"] for stage in stages),
            "tried": next(s["tried"] for s in steps if s["step"] == "reconstruct")}  # fmt: skip


def cells(found: list[dict[str, Any]]) -> tuple[str, ...]:
    """Return one row of the table, the mean over folds if there are several."""

    def mean(row: str, name: str) -> float:
        return float(statistics.mean(one["summary"][row][name] for one in found))

    before, after = mean("teacher", "score"), mean("bundle", "score")
    kept = statistics.mean(one["summary"]["bundle"]["layers"] for one in found)
    return (
        f"{found[0]['summary']['teacher']['layers']} -> {kept:g}",
        f"{mean('teacher', 'bytes') / 1e6:.1f} -> {mean('bundle', 'bytes') / 1e6:.2f}",
        f"{mean('teacher', 'bytes') / mean('bundle', 'bytes'):.1f} x",
        f"{mean('teacher', 'p50_ms') / mean('bundle', 'p50_ms'):.1f} x",
        f"{100 * before:.1f}", f"{100 * after:.1f}", f"{100 * after / before:.1f}",
        f"{statistics.mean(one['seconds'] for one in found) / 60:.1f}",
    )  # fmt: skip


def main() -> None:
    """Run the subjects, and write their table and JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-o", "--out", type=Path, required=True, help="where the runs go")
    parser.add_argument("--results", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--only", nargs="*", help="subjects whose names begin with one of these")
    options = parser.parse_args()
    wanted = [name for name in SUBJECTS if name.startswith(tuple(options.only or ("",)))]
    found = {name: run_subject(name, options.out) for name in wanted}
    options.results.mkdir(parents=True, exist_ok=True)
    target = options.results / f"closed-form-{datetime.now(UTC).date().isoformat()}.json"
    whole = {"machine": machine_facts(), "bench": BENCH, "subjects": found}
    target.write_text(json.dumps(whole, indent=1) + "\n", "utf-8")
    folds = [found[name] for name in found if "fold" in name]
    rows = [(name, *cells([one])) for name, one in found.items() if "fold" not in name]
    if folds:
        rows.append((f"Whisper base, ESC-10, {len(folds)} folds", *cells(folds)))
    heads = ("", "layers", "MB", "smaller", "faster", "whole, %", "quick, %", "kept, %", "minutes")
    print(to_markdown(table(heads, rows)))


if __name__ == "__main__":
    main()
