"""Accuracy of ``calibrate``: requested rate of false alarms against the rate on another stream.

    python benchmarks/false_alarms.py BUNDLE DATA -o OUT --background esc10/labels.csv

Streams as in ``stream.py``; thresholds are calibrated on one and evaluated on another, in two
settings. *The same place*: other utterances of the same speakers, the same background recordings in
another order. *Another place*: other speakers and background recordings. The count is
Poisson-distributed: with 400 false alarms requested, it varies by 10 % (95 %) by chance, and the
calibration's own count by as much; hence the streams' length. Results are counted by the recorder's
``Decider``, which ``tests/calibration`` compares with ``listen``.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import itertools
import json
import shutil
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from stream import make_stream, write

from edgeprune.core.tables import table, to_markdown
from edgeprune_calibration.calibrate import (
    Target,
    choose,
    fitted_temperature,
    score_stream,
    tempered,
)
from edgeprune_calibration.count_intervals import poisson_interval
from edgeprune_calibration.dataset import read_data
from edgeprune_calibration.event_matching import read_truth
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.operating_point import ChosenRule, evaluate
from edgeprune_calibration.splits import split_clips
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.detection.decision_rule import rule_of
from edgeprune_device.inference.runtime import open_model
from edgeprune_device.system.machine import machine_facts

PLACES = ("the same place", "another place")
CLIPS_A_PART = 300  # a stream is made in parts, so that it fits the memory


def main() -> None:
    """Calibrate on one stream, count on another, print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("bundle", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    parser.add_argument("--background", type=Path, required=True)
    parser.add_argument("--clips", type=int, default=900, help="Of each of the two streams.")
    parser.add_argument("--snr", type=float, default=10.0, help="dB")
    parser.add_argument("--rates", type=float, nargs="+", default=[100.0, 200.0, 400.0])
    parser.add_argument("--seeds", type=int, default=2)
    options = parser.parse_args()
    bundle = read_bundle(options.bundle)
    run, rate, own = open_model(bundle), bundle.sample_rate, rule_of(bundle)
    parts = split_clips(read_data(options.data))
    options.out.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for seed, place in itertools.product(range(options.seeds), PLACES):
        clips, backgrounds = sides(parts, options.background, options.out, place, seed)
        made = [
            streams(options.out / f"{side}", clips[side], backgrounds[side], rate, options.snr,
                    options.clips, 2 * seed + side)
            for side in (0, 1)
        ]  # fmt: skip
        heard = [[score_stream(bundle, run, sound, read_truth(truth)) for sound, truth in side]
                 for side in made]  # fmt: skip
        rows.append({"place": place, "seed": seed, **facts(evaluate(heard[1], own), None)})
        warm = float(fitted_temperature(bundle, heard[0])["temperature"])
        warmed = [tempered(stream, warm, bundle.activation) for stream in heard[0]]
        for wanted in options.rates:
            chosen = choose(warmed, own, Target(wanted)).rule
            there = dataclasses.replace(chosen, temperature=warm)
            row = facts(evaluate(heard[1], there), wanted)
            rows.append({"place": place, "seed": seed, **row, "temperature": warm,
                         "smoothing_windows": chosen.smoothing_windows})  # fmt: skip
            print(json.dumps(rows[-1]), flush=True)
    day = datetime.now(UTC).date().isoformat()
    result = {"day": day, "machine": machine_facts(), "bundle": str(options.bundle),
              "clips": options.clips, "snr_db": options.snr, "rows": rows}  # fmt: skip
    (options.out / f"false-alarms-{day}.json").write_text(json.dumps(result, indent=1) + "\n")
    print(to_markdown(table(("", "asked, an hour", "seed", "heard, an hour [95 %]", "off by", "recall"),
                            [line(row) for row in rows])))  # fmt: skip


def line(row: dict[str, Any]) -> tuple[str, ...]:
    """Return a row of the table."""
    wanted, (low, high) = row["asked"], row["interval"]
    return (
        row["place"], f"{wanted:g}" if wanted else "as it came", str(row["seed"]),
        f"{row['heard']:.0f} [{low:.0f}, {high:.0f}]",
        f"{100 * (row['heard'] / wanted - 1):+.0f} %" if wanted else "", f"{100 * row['recall']:.1f} %",
    )  # fmt: skip


def sides(
    parts: dict[str, tuple[Clip, ...]], background: Path, out: Path, place: str, seed: int
) -> tuple[list[list[Clip]], list[Path]]:
    """Return the clips and the background's manifest to calibrate on, and to evaluate on."""
    generator = np.random.default_rng([seed, 7])
    noises = read_data(background).clips
    clips = [*parts["valid"], *parts["test"]]
    order = [clips[i] for i in generator.permutation(len(clips))]
    if place == PLACES[0]:
        return [order[0::2], order[1::2]], [background, background]
    speakers = sorted({str(clip.group) for clip in clips})
    first = {speakers[i] for i in generator.permutation(len(speakers))[: len(speakers) // 2]}
    halves = np.array_split(generator.permutation(len(noises)), 2)
    manifests = []
    for side, half in enumerate(halves):
        manifests.append(out / f"background-{side}.csv")
        with manifests[-1].open("w", encoding="utf-8", newline="") as file:
            rows = [(str(noises[i].path), noises[i].label) for i in half]
            csv.writer(file).writerows([("path", "label"), *rows])
    return [
        [c for c in clips if c.group in first],
        [c for c in clips if c.group not in first],
    ], manifests


def streams(
    folder: Path, clips: Sequence[Clip], background: Path, rate: int, snr: float, number: int,
    seed: int,
) -> list[tuple[Path, Path]]:  # fmt: skip
    """Make a stream in parts; return each part's sound file and list of events."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    made = []
    for part in range(0, number, CLIPS_A_PART):
        chosen = [clips[i] for i in generator.integers(0, len(clips), CLIPS_A_PART)]
        sound, truth = make_stream(chosen, background, rate, snr, generator)
        write(folder, sound, truth, rate, f"part-{part}")
        made.append((folder / f"part-{part}.flac", folder / f"part-{part}.csv"))
    return made


def facts(chosen: ChosenRule, wanted: float | None) -> dict[str, Any]:
    """Return the results of a rule."""
    total = chosen.total
    low, high = poisson_interval(total.false_alarms)
    return {"asked": wanted, "hours": total.hours, "heard": total.false_alarms_per_hour,
            "false_alarms": total.false_alarms, "interval": [low / total.hours, high / total.hours],
            "recall": total.recall, "precision": total.precision}  # fmt: skip


if __name__ == "__main__":
    main()
