"""Verification of a bundle: score of the deployed file on the test split, and its teacher's.

Needs no torch, so it runs on the recorder, too.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune.core.console import format_percentage_points
from edgeprune.core.files import write_json
from edgeprune.core.settings import Settings
from edgeprune.core.tables import table, to_text
from edgeprune.deployment.evaluate import TASK_OF, BundleScores, compare, measure, score_clips
from edgeprune_calibration.dataset import (
    NO_GROUP,
    Dataset,
    Track,
    check_audio,
    read_data,
    untracked,
)
from edgeprune_calibration.manifest import Clip
from edgeprune_calibration.splits import split_clips
from edgeprune_device.audio.sound_files import file_digest, seconds_of
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.errors import EdgepruneError


def verify_bundles(
    bundles: dict[str, Path], clips: Sequence[Clip], track: Track
) -> tuple[dict[str, Any], dict[str, BundleScores]]:
    """Verify several bundles on the same clips; the first is the teacher of the others.

    Returns
    -------
    report : dict
        By name: the bundle's digest, the clips', ``measure`` and, for all but the first,
        ``compare``. A bundle's second model file has a name of its own, such as ``bundle,
        model.tflite``.
    answers : dict of BundleScores
        Outputs of each bundle, by name.

    """
    if not clips:
        raise EdgepruneError("The test split has no clips.", "Choose another with --split.")
    report: dict[str, Any] = {}
    answers: dict[str, BundleScores] = {}
    digest = clips_digest(clips)
    for name, path in bundles.items():
        for index, bundle in enumerate(read_bundle(path).variants):
            row = f"{name}, {bundle.file}" if index else name
            answers[row] = score_clips(bundle, clips, track)
            report[row] = {"bundle": bundle.name, "digest": bundle.digest, "file": bundle.file,
                           "clips_digest": digest, **measure(answers[row], clips)}  # fmt: skip
            if len(answers) > 1:
                first = next(iter(answers.values()))
                report[row] |= compare(answers[row], first, clips)
    return report, answers


def verify(
    bundle: str | Path, data: str | Path, teacher: str | Path | None = None, *, label: str = "",
    group: str = "", split: str = "test", max_drop: float | None = None, out: str | Path | None = None,
    track: Track = untracked,
) -> dict[str, Any]:  # fmt: skip
    """Measure a bundle's score on clips through the recorder's runtime, and compare its teacher's.

    Parameters
    ----------
    bundle : str or Path
        Bundle to verify.
    data : str or Path
        Labelled clips, as for ``compress``.
    teacher : str or Path, optional
        The teacher's bundle; default: use the teacher's score that the bundle records.
    label, group : str
        Columns of the manifest; empty: those the bundle was made with.
    split : str
        ``train``, ``valid``, ``test`` or ``all``.
    max_drop : float, optional
        Largest drop of the score allowed, as a share: 0.01 is one percentage point. Default: the
        ``max_drop`` of the bundle's recipe, else 0.01.
    out : str or Path, optional
        Folder for ``verify.json``.
    track : callable
        Shows progress.

    Returns
    -------
    dict
        Measurements by name, ``baseline``, ``held``, ``verdict``, ``text``.

    Raises
    ------
    EdgepruneError
        Data or bundle cannot be read; or, without a teacher, the clips are not those of the
        recorded score.

    """
    bundle, data = Path(bundle), Path(data)
    read = read_bundle(bundle)
    made = read.manifest["provenance"]
    column = label or made.get("label_column", "label")
    task, tokens = TASK_OF[read.activation], read.tokens or "characters"
    dataset = read_data(data, column, group or None, task=task, tokens=tokens)
    apart = made.get("group_column")  # empty: the bundle was made without groups
    if (
        not group
        and apart not in (None, dataset.group_column)
        and (not apart or all(clip.columns.get(apart) for clip in dataset.clips))
    ):
        dataset = read_data(data, column, apart or NO_GROUP, task=task, tokens=tokens)
    dataset, bad = check_audio(dataset, track)
    clips = _clips_of(dataset, split, made.get("settings", {}).get("clips", {}))
    if task == "ctc":  # a transcript cannot be split: compress leaves such clips out, too
        fit = [math.floor(seconds_of(c.path, c.start_seconds, c.end_seconds) * read.sample_rate + 0.5)
               <= read.window_samples for c in clips]  # fmt: skip
        bad += [
            f"{c.path} is longer than the window" for c, f in zip(clips, fit, strict=True) if not f
        ]
        clips = [c for c, f in zip(clips, fit, strict=True) if f]
    paths = ({"teacher": Path(teacher)} if teacher else {}) | {"bundle": bundle}
    result, _ = verify_bundles(paths, clips, track)
    baseline = (
        result["teacher"]["score"] if teacher
        else _recorded(read, result["bundle"]["clips_digest"])
    )  # fmt: skip
    # Of a bundle with two model files, the board may use either: the worse one is judged.
    own = {name: found for name, found in result.items() if name.split(", ")[0] == "bundle"}
    worst = min(own, key=lambda name: float(own[name]["score"]))
    shown = worst.replace(", ", "'s ")
    lost = baseline - own[worst]["score"]
    if max_drop is None:
        max_drop = float(made.get("settings", {}).get("max_drop", Settings.max_drop))
    held = lost <= max_drop + 1e-9
    versus = "equals" if abs(lost) < 1e-9 else (
        f"is {100 * abs(lost):.2f} percentage points {'below' if lost > 0 else 'above'}"
    )  # fmt: skip
    over = f"all {len(clips)} clips" if split == "all" else f"{len(clips)} {split} clips"
    verdict = (
        f"The {shown} {versus} its teacher in {result['bundle']['metric']} on {over} "
        f"(allowed drop: {format_percentage_points(max_drop)})."
    )
    done = {**result, "baseline": baseline, "split": split, "left_out": bad,
            "max_drop": max_drop, "held": held, "verdict": verdict}  # fmt: skip
    if out is not None:
        Path(out).mkdir(parents=True, exist_ok=True)
        write_json(Path(out) / "verify.json", done)
    return {**done, "text": _text(done, tuple(result))}


def _clips_of(dataset: Dataset, split: str, made: dict[str, Any]) -> Sequence[Clip]:
    """Return the clips of a split, split as ``compress`` does if the data has no splits."""
    if split == "all":
        return dataset.clips
    given = {key: made[key] for key in ("fractions", "test_fold") if made.get(key)}
    parts = split_clips(dataset, made.get("split_seed", 0), **given)
    if split not in parts:
        raise EdgepruneError(f"split = {split!r} is not known.", "Known: train, valid, test, all.")
    return parts[split]


def _recorded(bundle: Bundle, digest: str) -> float:
    """Return the teacher's score on exactly these clips, as the bundle records it.

    Older bundles name it accuracy.
    """
    found = bundle.manifest["provenance"].get("metrics", {}).get("teacher")
    if not found or found["clips_digest"] != digest:
        raise EdgepruneError(
            f"The bundle {bundle.name} does not record its teacher's score on these clips.",
            "Give the teacher's bundle: --teacher "
            f"RUN/seed-{bundle.manifest['provenance'].get('seed', 0)}/export-teacher/bundle",
        )
    score: float = found["score"] if "score" in found else found["accuracy"]
    return score


def clips_digest(clips: Sequence[Clip]) -> str:
    """Return a digest of clips: content of their files, segments and labels."""
    contents = {path: file_digest(path) for path in {clip.path for clip in clips}}
    rows = [[contents[c.path], c.label, c.start_seconds, c.end_seconds] for c in clips]
    return hashlib.sha256(json.dumps(sorted(rows, key=json.dumps)).encode()).hexdigest()


def _text(done: dict[str, Any], names: Sequence[str]) -> str:
    metrics = list(done[names[0]]["metrics"])
    rows = []
    for name in names:
        found = done[name]
        rows.append((name, found["clips"],
                     *(f"{100 * v['value']:.2f} % [{100 * v['interval'][0]:.1f}, "
                       f"{100 * v['interval'][1]:.1f}]" for v in found["metrics"].values()),
                     f"{100 * found['agreement']:.2f} %" if "agreement" in found else "",
                     f"{found['golden_difference']:.1e}"))  # fmt: skip
    headers = ("", "clips", *(f"{metric} [95 %]" for metric in metrics), "agreement",
               "golden difference")  # fmt: skip
    return f"{to_text(table(headers, rows))}\n\n{done['verdict']}"
