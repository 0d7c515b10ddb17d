"""The papers' claims about layers, tested on real models and recordings, one table per part.

    python benchmarks/layers.py -o runs/layers --results benchmarks/results

- ``pretrained``: word and speaker convexity of the pretrained KWT-1 (arXiv 2408.11858, figure 1,
  left).
- ``tuned``: the same after fine-tuning for words and for speakers, three seeds (figure 1, right).
- ``figure2``: accuracy of the first L layers after fine-tuning against convexity at L, with rho
  (figure 2).
- ``removable``: layers that can be removed without retraining at 95 % of the accuracy, by every
  rule, with and without linear bridges (arXiv 2409.16302), and single, backward, forward and centre
  ablation (the tables of the bird-song poster).
- ``phones``: phone convexity of TIMIT's segments, by layer.
- ``cost``: time of all scores from the hidden states relative to the forward pass, for a model of
  wav2vec2-base's size (random weights) and for a small one, on 2,000 one-second clips.

Everything runs through the stages that ``edgeprune score`` and ``compress`` use; finished stages
are kept, so that the same command resumes. Needs ``../shared``; about an hour on two cores.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.core.console import Terminal
from edgeprune.core.recipe import build_settings
from edgeprune.core.settings import Settings
from edgeprune.core.stages import Run, open_run
from edgeprune.core.tables import Table, table, to_markdown
from edgeprune.depth_pruning.score import score as layer_scores
from edgeprune.depth_pruning.states import points_of, states
from edgeprune.pipeline.clips import clips
from edgeprune.pipeline.score import score
from edgeprune.training.teach import teach
from edgeprune_calibration.dataset import read_data
from edgeprune_device.system.machine import machine_facts

SHARED = Path(__file__).resolve().parents[2] / "shared"
KWT, WORDS_MODEL = SHARED / "models/kwt1_speech_commands", SHARED / "models/w2v2_arabic_words"
ARABIC = SHARED / "data/arabic_speech_commands_20/labels.csv"
DIGITS = SHARED / "data/fsdd_digits/labels.csv"
PHONES = SHARED / "data/timit_sample/phones.csv"
SEEDS = 3
TUNING_EPOCHS = 8


def main() -> None:
    """Run the requested parts, print their tables, and write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-o", "--out", type=Path, required=True, help="where the stages go")
    parser.add_argument("--results", type=Path, required=True, help="where the JSON goes")
    parser.add_argument("--parts", nargs="+", default=list(PARTS), choices=list(PARTS))
    options = parser.parse_args()
    for part in options.parts:
        shown = PARTS[part](options.out)
        print(f"\n## {part}\n")
        for one in shown:
            print((f"{one.title}\n\n" if one.title else "") + to_markdown(one) + "\n", flush=True)
        found = {"part": part, "created": datetime.now(UTC).isoformat(timespec="seconds"),
                 "machine": machine_facts(), "tables": [asdict(one) for one in shown]}  # fmt: skip
        name = f"layers-{part}-{datetime.now(UTC).date()}.json"
        (options.results / name).write_text(json.dumps(found, indent=1) + "\n", "utf-8")


def quick(model: Path, data: Path, out: Path, **changes: Any) -> dict[str, Any]:
    """Score a model from its hidden states alone."""
    return dict(score(model, data, out, build_settings(changes), ablation=False).scores)


def read(path: Path) -> dict[str, Any]:
    """Read a JSON file."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def percent(layer: dict[str, Any]) -> str:
    """Format a convexity with its interval and chance level."""
    low, high = layer["interval"]
    return (f"{100 * layer['mean_of_classes']:.1f} [{100 * low:.1f}, {100 * high:.1f}] "
            f"(null {100 * layer['null_high']:.1f})")  # fmt: skip


def pretrained(out: Path) -> list[Table]:
    """Measure word convexity on Arabic commands, speaker and word convexity on English digits."""
    every = {"split": "all", "permutations": 50}
    arabic = quick(KWT, ARABIC, out / "pretrained-arabic", score=every)
    digits = quick(KWT, DIGITS, out / "pretrained-digits", clips={"label": "speaker"},
                   score=every | {"labelings": ["label"]})  # fmt: skip
    curves = {
        f"word, {arabic['clips']} Arabic clips": arabic["curves"]["teacher"]["label"],
        f"speaker, {digits['clips']} digit clips": digits["curves"]["teacher"]["speaker"],
        f"digit, {digits['clips']} digit clips": digits["curves"]["teacher"]["label"],
    }
    rows = [(i, *(percent(curve[i]) for curve in curves.values())) for i in range(13)]
    title = "KWT-1 as it came, convexity % [95 %] (97.5 % of permuted labels)"
    return [table(("layers passed", *curves), rows, title)]


def tuned(out: Path) -> list[Table]:
    """Fine-tune for words and for speakers; score both label columns on the test clips."""
    found: dict[str, Any] = {}
    for column, other in (("label", "speaker"), ("speaker", "label")):
        settings = build_settings({
            "clips": {"label": column, "group": "none"}, "teach": {"epochs": TUNING_EPOCHS},
            "score": {"split": "test", "labelings": [other]},
        })  # fmt: skip
        run, folder = open_stages(out / f"tuned-{column}", DIGITS, settings)
        before = scored(run, str(KWT.resolve()), folder, settings, "pretrained")
        seeds = []
        for seed in range(SEEDS):
            made = run.stage(teach, settings.teach, KWT.resolve(), folder, seed, "cpu",
                             name=f"teach-{seed}")  # fmt: skip
            curves = scored(run, made / "model", folder, settings, str(seed))["curves"]["teacher"]
            accuracy = read(made / "teach.json")["valid_score"]
            seeds.append({"curves": curves, "valid_accuracy": accuracy})
        found[column] = {"pretrained": before["curves"]["teacher"], "seeds": seeds}
    columns = {}
    for labelling, name in (("label", "digit"), ("speaker", "speaker")):
        columns[f"{name}: as it came"] = [
            [layer["mean_of_classes"]] for layer in found["label"]["pretrained"][labelling]
        ]
        for column, task in (("label", "digits"), ("speaker", "speakers")):
            runs = [seed["curves"][labelling] for seed in found[column]["seeds"]]
            columns[f"{name}: tuned for {task}"] = [
                [run[layer]["mean_of_classes"] for run in runs] for layer in range(13)
            ]
    rows = [(i, *(spread(values[i]) for values in columns.values())) for i in range(13)]
    title = f"Convexity % of 300 test clips, mean (range) of {SEEDS} seeds"
    return [table(("layers passed", *columns), rows, title)]


def spread(values: list[float]) -> str:
    """Format the mean over several seeds, and their range."""
    middle = f"{100 * np.mean(values):.1f}"
    if len(values) == 1:
        return middle
    return f"{middle} ({100 * min(values):.1f} to {100 * max(values):.1f})"


def open_stages(out: Path, data: Path, settings: Settings) -> tuple[Run, Path]:
    """Open a run and read its clips."""
    label = settings.clips.label
    run = open_run(out, {"data": str(data), "label": label}, Terminal())
    digest = read_data(data, label, settings.clips.group or None).digest()
    return run, run.stage(clips, settings.clips, str(KWT.resolve()), data, digest, name="clips")


def scored(
    run: Run, model: str | Path, folder: Path, settings: Settings, name: str
) -> dict[str, Any]:
    """Score a model's hidden states on clips that were read."""
    asked = points_of(settings.score)
    heard = run.stage(states, asked, model, folder, "cpu", name=f"states-{name}")
    found = run.stage(layer_scores, settings.score, folder, heard, "", name=f"score-{name}")
    return read(found / "layers.json")


def figure2(out: Path) -> list[Table]:
    """Fine-tune the first L layers of KWT-1 for Arabic words at every L; compare with convexity."""
    settings = build_settings(
        {"finetune": {"epochs": 4, "rules": ["backward"]}, "measure": {"euclidean_pairs": 1}}
    )
    found = score(KWT, ARABIC, out / "figure2", settings, finetune=True).scores
    curve = found["curves"]["teacher"]["label"]
    rows = [
        (d["layers"], percent(curve[d["layers"]]), f"{100 * d['accuracy']:.1f}",
         f"{100 * d['finetuned_accuracy']:.1f}")
        for d in found["picks"]["backward"]["depths"]
    ]  # fmt: skip
    rhos = {name: f"rho {value['rho']:.2f} [{value['interval'][0]:.2f}, {value['interval'][1]:.2f}]"
            for name, value in found["convexity_against_accuracy"].items()}  # fmt: skip
    rows.append(("Spearman", "with convexity:", rhos["cut"], rhos["finetuned"]))
    headers = ("layers", "convexity", "cut, linear probe", "cut, then fine-tuned")
    title = "KWT-1 cut at L, Arabic words, % of the test clips"
    return [table(headers, rows, title)]


def removable(out: Path) -> list[Table]:
    """Remove layers without retraining: a trained wav2vec 2.0, and KWT-1 for Arabic words."""
    settings = build_settings({"teach": {"epochs": TUNING_EPOCHS}})
    run, folder = open_stages(out / "removable-kwt-teacher", ARABIC, settings)
    taught = run.stage(teach, settings.teach, KWT.resolve(), folder, 0, "cpu", name="teach")
    tables: list[Table] = []
    for name, model in (("w2v2_arabic_words", WORDS_MODEL), ("KWT-1", taught / "model")):
        asked = build_settings({"measure": {"clips": 720}})
        scores = score(model, ARABIC, out / f"removable-{name}", asked).scores
        tables += removable_tables(name, scores)
    return tables


def removable_tables(name: str, scores: Mapping[str, Any]) -> list[Table]:
    """Show the layers each rule keeps at 95 %, and the poster's ablations."""
    base, layers = scores["measured_on"]["baseline"], scores["layers"]
    rows = []
    for rule, pick in scores["picks"].items():
        cells = [rule]
        for held, key in (("held_95", "accuracy"), ("held_95_bridged", "bridged_accuracy")):
            row = next((d for d in pick["depths"] if d["layers"] == pick[held]), None)
            if row is None:  # greedy-bridged is nothing without its bridges
                cells += ["-", "-"]
                continue
            gone = 100 * (1 - row["layers"] / layers)
            cells += [f"{row['layers']} of {layers} ({gone:.0f} % removed)",
                      f"{100 * row[key] / base:.1f}"]  # fmt: skip
        rows.append(tuple(cells))
    title = (f"{name}: fewest layers with 95 % of the accuracy on validation clips, no retraining; "
             f"test accuracy kept, % of {100 * base:.1f} %")  # fmt: skip
    picked = table(("rule", "layers", "kept %", "layers, bridged", "kept %, bridged"), rows, title)
    spans = scores["ablation"]["spans"]
    middle = [spans[(layers - n + 1) // 2][(layers - n + 1) // 2 + n] for n in range(1, layers)]
    shown = [
        (n, *(f"{100 * value:.1f}" for value in (
            scores["ablation"]["single"][n - 1], spans[layers - n][layers],
            spans[1][n + 1], middle[n - 1])))
        for n in range(1, layers)
    ]  # fmt: skip
    headers = ("n", "layer n - 1 alone", "last n", "first n after layer 0", "n in the centre")
    whole = 100 * scores["ablation"]["baseline"]
    return [
        picked,
        table(headers, shown, f"{name}: validation accuracy % without (whole {whole:.1f})"),
    ]


def write_phones(data: Path) -> None:
    """Write TIMIT's phones with the speaker from their folder names."""
    data.parent.mkdir(parents=True, exist_ok=True)
    with PHONES.open(encoding="utf-8") as file:
        rows = [(PHONES.parent / row["path"], row["phone"], Path(row["path"]).parent.name,
                 row["start_sample"], row["end_sample"]) for row in csv.DictReader(file)]  # fmt: skip
    with data.open("w", newline="", encoding="utf-8") as file:
        names = ("path", "phone", "speaker", "start_sample", "end_sample")
        csv.writer(file).writerows([names, *rows])


def phones(out: Path) -> list[Table]:
    """Measure phone and speaker convexity of all segments of TIMIT's sample, in context."""
    data = out / "phones.csv"
    if not data.exists():  # written anew, it would be new data
        write_phones(data)
    curves: dict[str, Any] = {}
    for name, model in (("KWT-1", KWT), ("w2v2_arabic_words", WORDS_MODEL)):
        found = quick(model, data, out / f"phones-{name}",
                      clips={"label": "phone", "context": "file"},
                      score={"labelings": ["speaker"], "max_clips": 6000})  # fmt: skip
        curves |= {f"{name}: {key}": curve for key, curve in found["curves"]["teacher"].items()}
    shown = [(i, *(percent(curve[i]) for curve in curves.values())) for i in range(13)]
    title = f"{found['clips']} stretches, convexity % [95 %] (null)"
    return [table(("layers passed", *curves), shown, title)]


def cost(out: Path) -> list[Table]:
    """Time the forward pass and the scores of every layer, on 2,000 clips."""
    from transformers import Wav2Vec2Config, Wav2Vec2Model

    base = out / "base-sized"
    if not base.exists():
        Wav2Vec2Model(Wav2Vec2Config(layerdrop=0.0)).save_pretrained(base)
    rows = []
    for name, model in (("95 M parameters, 13 states x 768", base),
                        ("3.2 M parameters, 13 states x 144", WORDS_MODEL)):  # fmt: skip
        scores = quick(model, ARABIC, out / f"cost-{model.name}",
                       score={"split": "all", "max_clips": 2000})  # fmt: skip
        spent = scores["seconds"]
        after = spent["convexity"] + spent["similarity"]
        rows.append((name, scores["clips"], *(f"{spent[k]:.1f}" for k in spent),
                     f"{after / spent['forward']:.2f} x"))  # fmt: skip
    headers = ("", "clips", *(f"{k}, s" for k in spent), "scores / forward")
    title = "Word and speaker convexity (null, interval) and all similarities of every layer"
    return [table(headers, rows, title)]


PARTS: dict[str, Callable[[Path], list[Table]]] = {
    "pretrained": pretrained, "tuned": tuned, "figure2": figure2, "removable": removable,
    "phones": phones, "cost": cost,
}  # fmt: skip

if __name__ == "__main__":
    main()
