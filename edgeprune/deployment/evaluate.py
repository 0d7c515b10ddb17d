"""Evaluation of a deployed file on clips through the recorder's own runtime.

Needs no torch, so it runs on the recorder, too. Every clip is read from its file, split into the
bundle's windows, and scored one window at a time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.metrics.statistics import LEAST_GROUPS, wilson_interval
from edgeprune.metrics.task_metrics import (
    METRICS,
    Array,
    Metric,
    average_precision,
    edit_distance,
    interval,
    transcript_errors,
    value,
)
from edgeprune_calibration.dataset import Track
from edgeprune_calibration.labels import LABEL_FORMATS, tags_of
from edgeprune_calibration.manifest import Clip
from edgeprune_device.audio.sound_files import read_clip, windows_of
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.ctc import decode_greedy
from edgeprune_device.inference.runtime import check_golden, open_model
from edgeprune_device.inference.temperature import apply_temperature

TASK_OF = {"softmax": "classes", "sigmoid": "tags", "ctc": "ctc"}
"""Activation of a graph -> task."""


@dataclass(frozen=True)
class BundleScores:
    """Outputs of one bundle for every clip."""

    scores: NDArray[np.float32]
    """(clips, labels): mean over a clip's windows; for transcripts (clips, 0)."""
    labels: tuple[str, ...]
    golden_difference: float
    """Largest difference to the bundle's golden outputs on this machine."""
    activation: str = "softmax"
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """For tags: the score from which on a tag is reported."""
    tokens: str = ""
    """Tokens of transcripts: ``characters`` or ``words``."""
    transcripts: tuple[tuple[str, ...], ...] = ()
    """For transcripts: recognized tokens of every clip."""

    @property
    def task(self) -> str:
        """``classes``, ``tags`` or ``ctc``."""
        return TASK_OF[self.activation]

    @property
    def decided(self) -> list[str]:
        """The label with the highest score, for every clip."""
        return [self.labels[index] for index in self.scores.argmax(axis=1)]

    @property
    def reported(self) -> NDArray[np.bool_]:
        """For tags: whether a clip's score (clips, labels) reaches the label's threshold."""
        least = np.array([self.thresholds[label] for label in self.labels])
        return np.asarray(self.scores >= least)

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """Metrics of the task; the first is used for decisions. Words as tokens have no WER."""
        return METRICS[self.task][: 2 if self.tokens == "words" else None]


def score_clips(bundle: Bundle, clips: Sequence[Clip], track: Track) -> BundleScores:
    """Score clips with a bundle as the recorder would.

    Raises
    ------
    EdgepruneError
        A clip cannot be read, the bundle does not know a label, or golden outputs are not met.

    """
    task = TASK_OF[bundle.activation]
    _check_known(bundle, clips, task)
    run = open_model(bundle)
    golden = check_golden(bundle, run)
    scores: list[NDArray[np.float32]] = []
    heard: list[tuple[str, ...]] = []
    for clip in track(clips, f"verify {bundle.name}", len(clips)):
        sound = read_clip(clip.path, bundle.sample_rate, clip.start_seconds, clip.end_seconds)
        windows = windows_of(sound, bundle.window_samples, bundle.window_samples)
        answers = [run(window) for window in windows]
        if task == "ctc":
            read = [
                decode_greedy(frames, bundle.labels, bundle.tokens).tokens for frames in answers
            ]
            heard.append(tuple(token for tokens in read for token in tokens))
        else:
            tempered = apply_temperature(np.array(answers), bundle.temperature, bundle.activation)
            scores.append(np.mean(tempered, axis=0))
    table = np.asarray(scores, dtype=np.float32).reshape(len(clips), -1)
    return BundleScores(table, bundle.labels, golden, bundle.activation,
                   bundle.manifest["decision"]["thresholds"], bundle.tokens, tuple(heard))  # fmt: skip


def _check_known(bundle: Bundle, clips: Sequence[Clip], task: str) -> None:
    """Raise if clips have a label that the bundle lacks; an unknown token counts as an error."""
    if task == "ctc":
        return
    read = LABEL_FORMATS[task].labels_of
    found = {label for clip in clips for label in read(clip.label, "")}
    if unknown := sorted(found - set(bundle.labels)):
        raise EdgepruneError(
            f"The bundle {bundle.name} does not know the label {unknown[0]!r} of these clips.",
            f"Its labels: {', '.join(bundle.labels)}. Check --label.",
        )


def tally_of(answers: BundleScores, clips: Sequence[Clip]) -> Array:
    """Return the outcome of every clip, as ``task_metrics`` needs it."""
    if answers.task == "ctc":
        rows = [transcript_errors(tokens, clip.label, answers.tokens)
                for tokens, clip in zip(answers.transcripts, clips, strict=True)]  # fmt: skip
        return np.array(rows, dtype=float)
    index = {label: i for i, label in enumerate(answers.labels)}
    if answers.task == "classes":
        truth = [index[clip.label] for clip in clips]
        return np.stack([truth, answers.scores.argmax(axis=1)], axis=1).astype(float)
    right = np.zeros(answers.scores.shape)
    for row, clip in enumerate(clips):
        right[row, [index[tag] for tag in tags_of(clip.label)]] = 1.0
    return np.stack([answers.scores.astype(float), right], axis=2)


def groups_of(clips: Sequence[Clip]) -> list[str] | None:
    """Return every clip's group; None if some have none, or there are too few for resampling."""
    groups = [clip.group for clip in clips]
    if not all(groups) or len(set(groups)) < LEAST_GROUPS:
        return None
    return [str(group) for group in groups]


def measure(answers: BundleScores, clips: Sequence[Clip]) -> dict[str, Any]:
    """Return the metrics of a bundle, with 95 % intervals.

    Returns
    -------
    dict
        ``task``; ``metric``, ``score`` and ``interval`` of the metric used for decisions;
        ``metrics``: every metric's ``value`` and ``interval``; ``per_label``. Intervals are
        bootstraps over clips, or over groups if there are at least four (``interval_over`` says
        which); for accuracy over clips, Wilson's interval.

    """
    tally, groups = tally_of(answers, clips), groups_of(clips)
    found = {m.name: {"value": value(m, tally), "interval": list(interval(m, [tally], groups))}
             for m in answers.metrics}  # fmt: skip
    main = answers.metrics[0].name
    result: dict[str, Any] = {
        "task": answers.task, "clips": len(clips), "metric": main, "score": found[main]["value"],
        "interval": found[main]["interval"], "metrics": found,
        "interval_over": "clips" if groups is None else "groups",
        "golden_difference": answers.golden_difference, "per_label": {},
    }  # fmt: skip
    if answers.task == "classes":
        right = tally[:, 0] == tally[:, 1]
        result["correct"] = int(right.sum())
        if groups is None:
            found[main]["interval"] = list(wilson_interval(int(right.sum()), len(right)))
            result["interval"] = found[main]["interval"]
        result["per_label"] = _per_class(answers, tally)
    elif answers.task == "tags":
        result["per_label"] = _per_tag(answers, tally)
    return result


def _per_class(answers: BundleScores, tally: Array) -> dict[str, dict[str, float]]:
    """Return recall and precision of every class that clips have, by name."""
    found = {}
    for code in sorted({int(c) for c in tally[:, 0]}, key=lambda c: answers.labels[c]):
        is_it, said = tally[:, 0] == code, tally[:, 1] == code
        found[answers.labels[code]] = _recall_precision(is_it, said)
    return found


def _per_tag(answers: BundleScores, tally: Array) -> dict[str, dict[str, float]]:
    """Return each tag's clips, average precision, and recall and precision at its threshold.

    Only tags that clips have.
    """
    found = {}
    for index, label in enumerate(answers.labels):
        scores, is_it = tally[:, index, 0], tally[:, index, 1] > 0
        if is_it.any():
            said = scores >= answers.thresholds[label]
            precision = float(average_precision(scores, is_it.astype(float))[0])
            found[label] = {"clips": int(is_it.sum()), "average_precision": precision,
                            **_recall_precision(is_it, said)}  # fmt: skip
    return found


def _recall_precision(is_it: NDArray[np.bool_], said: NDArray[np.bool_]) -> dict[str, float]:
    hits = int((is_it & said).sum())
    return {"recall": hits / int(is_it.sum()),
            "precision": hits / int(said.sum()) if said.any() else 0.0}  # fmt: skip


def compare(answers: BundleScores, teacher: BundleScores, clips: Sequence[Clip]) -> dict[str, Any]:
    """Return agreement with the teacher and the paired difference of the score.

    Agreement is the share of clips (for tags: of clips and tags, each bundle with its own
    thresholds) with the same decision; for transcripts, 1 - the error rate against the teacher's
    transcript. The difference (bundle minus teacher) is on the same clips; its 95 % interval is a
    bootstrap over clips, or over groups if clips have them.
    """
    own, other = tally_of(answers, clips), tally_of(teacher, clips)
    main, groups = answers.metrics[0], groups_of(clips)
    return {
        "agreement": _agreement(answers, teacher),
        "difference": value(main, own) - value(main, other),
        "difference_interval": list(interval(main, [own], groups, [other])),
    }


def _agreement(answers: BundleScores, teacher: BundleScores) -> float:
    if answers.task == "classes":
        return float(np.mean(np.array(answers.decided) == np.array(teacher.decided)))
    if answers.task == "tags":
        place = [teacher.labels.index(label) for label in answers.labels]
        return float(np.mean(answers.reported == teacher.reported[:, place]))
    pairs = list(zip(answers.transcripts, teacher.transcripts, strict=True))
    errors = sum(edit_distance(own, other) for own, other in pairs)
    return max(0.0, 1 - errors / max(1, sum(len(other) for _, other in pairs)))
