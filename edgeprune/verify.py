"""Verify a bundle: the deployed file's own accuracy, through the recorder's own runtime.

Needs no torch: it runs on the recorder as on the workstation. Every clip of the test split is read
from its file, cut into the bundle's windows and scored one window at a time.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.statistics import bootstrap_interval, wilson_interval
from edgeprune.tables import table, to_text
from edgeprune_calibration.manifest import NO_GROUP, Clip, Dataset, Track, check_audio, read_data
from edgeprune_calibration.splits import split_clips
from edgeprune_device.bundle import Bundle, read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.runtime import check_golden, open_model
from edgeprune_device.sound import file_digest, read_clip, windows_of


@dataclass(frozen=True)
class Answers:
    """What one bundle said of every clip."""

    scores: NDArray[np.float32]
    """(clips, labels): the mean of a clip's windows."""
    labels: tuple[str, ...]
    golden_difference: float
    """Largest difference to the bundle's golden outputs on this machine."""

    @property
    def decided(self) -> list[str]:
        """The label with the highest score, for every clip."""
        return [self.labels[index] for index in self.scores.argmax(axis=1)]


def answer(bundle: Bundle, clips: Sequence[Clip], track: Track) -> Answers:
    """Score clips with a bundle as the recorder would.

    Raises
    ------
    EdgepruneError
        A clip that cannot be read, a label the bundle does not know, golden outputs missed.

    """
    unknown = sorted({clip.label for clip in clips} - set(bundle.labels))
    if unknown:
        raise EdgepruneError(
            f"The bundle {bundle.name} does not know the label {unknown[0]!r} of these clips.",
            f"It knows: {', '.join(bundle.labels)}. Is --label right?",
        )
    run = open_model(bundle)
    golden = check_golden(bundle, run)
    scores = []
    for clip in track(clips, f"verify {bundle.name}", len(clips)):
        sound = read_clip(clip.path, bundle.sample_rate, clip.start_seconds, clip.end_seconds)
        windows = windows_of(sound, bundle.window_samples, bundle.window_samples)
        scores.append(np.mean([run(window) for window in windows], axis=0))
    return Answers(np.asarray(scores, dtype=np.float32), bundle.labels, golden)


def measure(answers: Answers, clips: Sequence[Clip]) -> dict[str, Any]:
    """Return accuracy, its 95 % interval, macro F1 and each label's recall and precision.

    The interval is Wilson's over clips; where clips have a group, also a bootstrap over groups.
    """
    truth = [clip.label for clip in clips]
    correct = np.array([a == b for a, b in zip(answers.decided, truth, strict=True)])
    low, high = wilson_interval(int(correct.sum()), len(correct))
    result: dict[str, Any] = {
        "clips": len(correct), "correct": int(correct.sum()),
        "accuracy": float(correct.mean()), "interval": [low, high],
        "golden_difference": answers.golden_difference,
    }  # fmt: skip
    groups = [clip.group for clip in clips]
    if all(groups):
        result["interval_over_groups"] = list(bootstrap_interval(correct, [str(g) for g in groups]))
    per_label = {}
    for label in sorted(set(truth)):
        is_it = np.array([t == label for t in truth])
        said = np.array([d == label for d in answers.decided])
        hits = int((is_it & said).sum())
        per_label[label] = {"recall": hits / int(is_it.sum()),
                            "precision": hits / int(said.sum()) if said.any() else 0.0}  # fmt: skip
    f1 = [2 * v["recall"] * v["precision"] / (v["recall"] + v["precision"])
          if v["recall"] + v["precision"] else 0.0 for v in per_label.values()]  # fmt: skip
    return {**result, "macro_f1": float(np.mean(f1)), "per_label": per_label}


def compare(answers: Answers, teacher: Answers, clips: Sequence[Clip]) -> dict[str, Any]:
    """Return agreement with the teacher and the paired difference in accuracy.

    The difference (bundle minus teacher) is on the same clips; its 95 % interval is a bootstrap
    over clips, or over groups where clips have one.
    """
    truth = np.array([clip.label for clip in clips])
    own, other = np.array(answers.decided), np.array(teacher.decided)
    difference = (own == truth).astype(float) - (other == truth)
    groups = [str(clip.group) for clip in clips] if all(clip.group for clip in clips) else None
    return {
        "agreement": float((own == other).mean()),
        "difference": float(difference.mean()),
        "difference_interval": list(bootstrap_interval(difference, groups)),
    }


def verify_bundles(
    bundles: dict[str, Path], clips: Sequence[Clip], track: Track
) -> tuple[dict[str, Any], dict[str, Answers]]:
    """Verify several bundles on the same clips; the first is the teacher of the others.

    Returns
    -------
    report : dict
        By name: the bundle's digest, the clips', ``measure`` and, for all but the first, ``compare``.
    answers : dict of Answers

    """
    if not clips:
        raise EdgepruneError("The test split holds no clip.", "Choose another with --split.")
    report: dict[str, Any] = {}
    answers: dict[str, Answers] = {}
    digest = clips_digest(clips)
    for name, path in bundles.items():
        bundle = read_bundle(path)
        answers[name] = answer(bundle, clips, track)
        report[name] = {"bundle": bundle.name, "digest": bundle.digest, "clips_digest": digest,
                        **measure(answers[name], clips)}  # fmt: skip
        if len(answers) > 1:
            first = next(iter(answers.values()))
            report[name] |= compare(answers[name], first, clips)
    return report, answers


def verify_command(
    bundle: Path, data: Path, teacher: Path | None = None, *, label: str = "", group: str = "",
    split: str = "test", max_drop: float = 0.01, out: Path | None = None, track: Track,
) -> dict[str, Any]:  # fmt: skip
    """Verify a bundle against its teacher, or against what its manifest says of its teacher.

    Parameters
    ----------
    bundle, teacher : Path
        Bundles; ``teacher`` may be None.
    data : Path
        As ``read_data``.
    label, group : str
        Columns; empty: those the bundle was made with.
    split : str
        ``train``, ``valid``, ``test`` or ``all``.
    max_drop : float
        Share of accuracy that may be lost.
    out : Path or None
        Folder for ``verify.json``.
    track : callable
        Shows progress.

    Returns
    -------
    dict
        What was measured by name, ``baseline``, ``held``, ``verdict``, ``text``.

    Raises
    ------
    EdgepruneError
        Bad data or bundle; clips that are not those of the recorded baseline without a teacher.

    """
    read = read_bundle(bundle)
    made = read.manifest["provenance"]
    column = label or made.get("label_column", "label")
    dataset = read_data(data, column, group or None)
    apart = made.get("group_column")  # empty: the bundle was made with none
    if (
        not group
        and apart not in (None, dataset.group_column)
        and (not apart or all(clip.columns.get(apart) for clip in dataset.clips))
    ):
        dataset = read_data(data, column, apart or NO_GROUP)
    dataset, bad = check_audio(dataset, track)
    clips = _clips_of(dataset, split, made.get("settings", {}).get("clips", {}))
    paths = ({"teacher": teacher} if teacher else {}) | {"bundle": bundle}
    result, _ = verify_bundles(paths, clips, track)
    baseline = (
        result["teacher"]["accuracy"] if teacher
        else _recorded(read, result["bundle"]["clips_digest"])
    )  # fmt: skip
    lost = baseline - result["bundle"]["accuracy"]
    held = lost <= max_drop + 1e-9
    verdict = (
        f"The bundle is {100 * abs(lost):.2f} points {'under' if lost > 0 else 'over'} its teacher "
        f"on {len(clips)} {split} clips; --max-drop allows {100 * max_drop:g} under."
    )
    done = {**result, "baseline": baseline, "split": split, "left_out": bad,
            "max_drop": max_drop, "held": held, "verdict": verdict}  # fmt: skip
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        write_report(done, out / "verify.json")
    return {**done, "text": _text(done, tuple(paths))}


def _clips_of(dataset: Dataset, split: str, made: dict[str, Any]) -> Sequence[Clip]:
    """Return the clips of a split, made as ``compress`` made it where the data names none."""
    if split == "all":
        return dataset.clips
    given = {key: made[key] for key in ("fractions", "test_fold") if made.get(key)}
    parts = split_clips(dataset, made.get("split_seed", 0), **given)
    if split not in parts:
        raise EdgepruneError(f"There is no split {split!r}.", "Known: train, valid, test, all.")
    return parts[split]


def _recorded(bundle: Bundle, digest: str) -> float:
    """Return the teacher's accuracy as the bundle records it for these very clips."""
    found = bundle.manifest["provenance"].get("metrics", {}).get("teacher")
    if not found or found["clips_digest"] != digest:
        raise EdgepruneError(
            f"The bundle {bundle.name} does not record its teacher's accuracy on these clips.",
            "Name the teacher's bundle: --teacher "
            f"RUN/seed-{bundle.manifest['provenance'].get('seed', 0)}/export-teacher/bundle",
        )
    accuracy: float = found["accuracy"]
    return accuracy


def clips_digest(clips: Sequence[Clip]) -> str:
    """Return a digest of which clips these are: their files' content, parts and labels."""
    contents = {path: file_digest(path) for path in {clip.path for clip in clips}}
    rows = [[contents[c.path], c.label, c.start_seconds, c.end_seconds] for c in clips]
    return hashlib.sha256(json.dumps(sorted(rows, key=json.dumps)).encode()).hexdigest()


def _text(done: dict[str, Any], names: Sequence[str]) -> str:
    rows = []
    for name in names:
        found = done[name]
        low, high = found["interval"]
        rows.append((name, found["clips"],
                     f"{100 * found['accuracy']:.2f} % [{100 * low:.1f}, {100 * high:.1f}]",
                     f"{100 * found['macro_f1']:.2f} %",
                     f"{100 * found['agreement']:.2f} %" if "agreement" in found else "",
                     f"{found['golden_difference']:.1e}"))  # fmt: skip
    headers = ("", "clips", "accuracy [95 %]", "macro F1", "agreement", "golden difference")
    return f"{to_text(table(headers, rows))}\n\n{done['verdict']}"


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write verify.json whole or not at all."""
    partial = path.with_name(path.name + ".partial")
    partial.write_text(json.dumps(report, indent=1) + "\n", "utf-8")
    partial.replace(path)
