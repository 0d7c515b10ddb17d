"""``edgeprune calibrate``: set a bundle's temperature, thresholds and smoothing on recordings.

Each recording is split into windows and scored as by ``listen --from-wav``; a list gives its events.
Results on the streams that a rule was chosen on are optimistic, so the streams are also halved: the
rule chosen on each half is evaluated on the other half, and that is reported as held out.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_calibration import operating_point
from edgeprune_calibration.count_intervals import poisson_interval, wilson_interval
from edgeprune_calibration.dataset import Track, untracked
from edgeprune_calibration.event_matching import Event, Outcome, read_truth
from edgeprune_calibration.operating_point import ChosenRule, ScoredStream
from edgeprune_calibration.thresholds import fit_temperature, nll
from edgeprune_device.audio.sound_files import file_digest
from edgeprune_device.audio.sources import from_file
from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.bundle.writer import golden_files, with_alternative, write_bundle
from edgeprune_device.detection.decision_rule import DecisionRule, rule_of
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import Scorer, check_golden, open_model
from edgeprune_device.inference.temperature import apply_temperature

LEAST_FALSE_ALARMS = 10
"""Least number of false alarms that the target allows in all streams together; the Poisson interval
of this number is 0.5 to 1.8 times it."""
NEAR = 0.1  # tolerance of the rate on the streams themselves, as a share, because scores tie
LEAST_EVENTS = 30  # fewest labelled windows to fit a temperature on


@dataclass(frozen=True)
class Target:
    """Target of the thresholds; exactly one of the two is set."""

    false_alarms_per_hour: float | None = None
    """False alarms per hour of all labels together."""
    precision: float | None = None
    """Share of a label's detections that are correct, 0 to 1."""


def score_stream(
    bundle: Bundle, run: Scorer, recording: Path, truth: Sequence[Event]
) -> ScoredStream:
    """Score a recording's windows as the recorder would.

    Parameters
    ----------
    bundle : Bundle
        The bundle.
    run : callable
        Its opened model.
    recording : Path
        Sound file.
    truth : sequence of Event
        Events in the recording.

    Raises
    ------
    EdgepruneError
        See ``sound_files.stream_file``; or an event lies outside the recording.

    """
    rate = bundle.sample_rate
    windower = Windower(bundle.window_samples, bundle.hop_samples)
    firsts, scores = [], []
    for block in from_file(recording, rate):
        for first, window in windower.push(block.samples):
            firsts.append(first)
            scores.append(run(window))
    for first, window in windower.flush():
        firsts.append(first)
        scores.append(run(window))
    table = np.asarray(scores, dtype=np.float32).reshape(len(scores), len(bundle.labels))
    if not np.isfinite(table).all():
        raise EdgepruneError(f"The bundle's scores of {recording} contain NaN or infinity.",
                             "Check it with edgeprune verify.", 1)  # fmt: skip
    seconds = windower.position / rate
    for event in truth:
        if not 0 <= event.start_seconds <= event.end_seconds <= seconds + 1:
            raise EdgepruneError(
                f"The event {event.label!r} at {event.start_seconds:g} s is outside {recording}, "
                f"which is {seconds:g} s long.",
                "Check that the list belongs to this recording.",
            )
    starts = np.array(firsts, dtype=np.float64) / rate
    return ScoredStream(table, starts, starts + bundle.window_samples / rate, tuple(truth), seconds)


def labelled_windows(
    heard: ScoredStream, labels: Sequence[str], activation: str
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return the windows with an unambiguous truth, on which a temperature is fitted.

    Softmax: for every event the window that contains most of it, with the index of its label.
    Sigmoid: every window that no event overlaps only in part, with 1 for each tag that is in it.

    Returns
    -------
    scores : array (n, labels)
    truth : array (n,) or (n, labels)

    """
    names = {label: i for i, label in enumerate(labels)}
    events = [e for e in heard.truth if e.label in names]
    starts = np.array([e.start_seconds for e in events])[:, None]
    ends = np.array([e.end_seconds for e in events])[:, None]
    shared = np.minimum(heard.ends, ends) - np.maximum(heard.starts, starts)  # (events, windows)
    index = np.array([names[e.label] for e in events], dtype=np.int64)
    if activation == "softmax":
        off = np.abs(heard.starts + heard.ends - starts - ends)  # ties: the most central window
        best = (shared - 1e-6 * off).argmax(axis=1) if len(events) else np.zeros(0, np.int64)
        return heard.scores[best], index
    enough = np.minimum(ends - starts, heard.ends - heard.starts) * 0.5
    inside, touched = shared >= enough, shared > 0
    truth = np.zeros(heard.scores.shape, dtype=np.int64)
    for row, label in zip(inside, index, strict=True):
        truth[row, label] = 1
    plain = ~(touched & ~inside).any(axis=0) if len(events) else np.ones(len(truth), bool)
    return heard.scores[plain], truth[plain]


def calibrate(
    bundle: Path, recordings: Sequence[Path], truths: Sequence[Path], out: Path, target: Target, *,
    temperature: bool = True, threads: int = 1, track: Track = untracked,
) -> dict[str, Any]:  # fmt: skip
    """Set a bundle's decision rule on recordings with known events, and write a new bundle.

    Parameters
    ----------
    bundle : Path
        Bundle to calibrate.
    recordings, truths : sequence of Path
        Sound files and one list of events for each, in the same order; see
        ``event_matching.read_truth``.
    out : Path
        Folder of the new bundle.
    target : Target
        Target of the thresholds.
    temperature : bool
        Fit a temperature; otherwise the bundle's own is kept.
    threads : int
        Number of threads of the runtime.
    track : callable
        Shows progress.

    Returns
    -------
    dict
        Temperature, thresholds, smoothing; recall and false alarms per hour with intervals, for all
        labels and each, on the streams and held out; ``missed``: why the target was not met, or
        empty; ``text``: a summary.

    Raises
    ------
    EdgepruneError
        The input has an error, or the streams are too short for the target.

    """
    read = read_bundle(bundle)
    lists = _check(read, recordings, truths, target, out)
    run = open_model(read, threads)
    check_golden(read, run)
    pairs = list(zip(recordings, lists, strict=True))
    streams = [score_stream(read, run, path, truth)
               for path, truth in track(pairs, "listening", len(pairs))]  # fmt: skip
    _check_hours(streams, target)
    fitted = fitted_temperature(read, streams) if temperature else {"temperature": read.temperature}
    warm = float(fitted["temperature"])
    rule = dataclasses.replace(rule_of(read), temperature=1.0)
    warmed = [tempered(heard, warm, read.activation) for heard in streams]
    chosen = choose(warmed, rule, target)
    final = dataclasses.replace(chosen.rule, temperature=warm)
    reached = operating_point.evaluate(streams, final)
    held_out = _crossed(warmed, rule, target)
    done: dict[str, Any] = {
        "bundle": str(out), "target": dataclasses.asdict(target),
        "recordings": [{"name": p.name, "sha256": file_digest(p), "seconds": h.seconds}
                       for p, h in zip(recordings, streams, strict=True)],
        "temperature_fit": fitted, "temperature": warm, "smoothing_windows": final.smoothing_windows,
        "thresholds": {k: round(float(v), 7) for k, v in final.thresholds.items()},
        "reached": _facts(reached.total), "held_out": _facts(held_out.total),
        "per_label": {k: _facts(v) for k, v in reached.per_label.items()},
        "per_label_held_out": {k: _facts(v) for k, v in held_out.per_label.items()},
    }  # fmt: skip
    done["missed"] = _missed(reached.total, target)
    _write(read, out, done)
    return done | {"text": _text(done)}


def choose(streams: Sequence[ScoredStream], rule: DecisionRule, target: Target) -> ChosenRule:
    """Choose thresholds and smoothing for the target that is set."""
    if target.false_alarms_per_hour is not None:
        return operating_point.at_false_alarms(streams, rule, target.false_alarms_per_hour)
    return operating_point.at_precision(streams, rule, float(target.precision or 0))


def halves(heard: ScoredStream) -> tuple[ScoredStream, ScoredStream]:
    """Split a scored stream in the middle; windows that span the middle are in neither half."""
    middle = heard.seconds / 2
    parts = []
    for low, high in ((0.0, middle), (middle, heard.seconds + 1e9)):
        inside = (heard.starts >= low) & (heard.ends <= high)
        truth = [e for e in heard.truth if low <= (e.start_seconds + e.end_seconds) / 2 < high]
        parts.append(ScoredStream(heard.scores[inside], heard.starts[inside], heard.ends[inside],
                           tuple(truth), middle))  # fmt: skip
    return parts[0], parts[1]


def _crossed(streams: Sequence[ScoredStream], rule: DecisionRule, target: Target) -> ChosenRule:
    """Evaluate on each half of the streams the rule that was chosen on the other half."""
    cut = [halves(heard) for heard in streams]
    parts = ([first for first, _ in cut], [second for _, second in cut])
    tests = [
        operating_point.evaluate(parts[1 - i], choose(parts[i], rule, target).rule) for i in (0, 1)
    ]
    labels = tests[0].per_label
    return ChosenRule(rule, operating_point.add([t.total for t in tests]),
                  {x: operating_point.add([t.per_label[x] for t in tests]) for x in labels})  # fmt: skip


def tempered(heard: ScoredStream, temperature: float, activation: str) -> ScoredStream:
    """Return a stream with a temperature applied to its scores."""
    return dataclasses.replace(
        heard, scores=apply_temperature(heard.scores, temperature, activation)
    )


def fitted_temperature(bundle: Bundle, streams: Sequence[ScoredStream]) -> dict[str, Any]:
    """Fit the temperature on streams, or return why the bundle's own is kept."""
    parts = [labelled_windows(heard, bundle.labels, bundle.activation) for heard in streams]
    scores = np.concatenate([part[0] for part in parts])
    truth = np.concatenate([part[1] for part in parts])
    events = len(truth) if truth.ndim == 1 else int(truth.sum())
    if events < LEAST_EVENTS:
        return {"temperature": bundle.temperature, "windows": len(truth),
                "why": f"only {events} labelled windows (at least {LEAST_EVENTS} to fit one)"}  # fmt: skip
    found = fit_temperature(scores, truth, bundle.activation)
    return {"temperature": found, "windows": len(truth),
            "nll_before": nll(scores, truth, 1.0, bundle.activation),
            "nll_after": nll(scores, truth, found, bundle.activation)}  # fmt: skip


def _check(
    bundle: Bundle, recordings: Sequence[Path], truths: Sequence[Path], target: Target, out: Path
) -> list[list[Event]]:
    """Check all that can be checked before scoring; return the lists of events."""
    if bundle.activation == "ctc":
        raise EdgepruneError("Transcripts have no thresholds, so there is nothing to calibrate.",
                             "Use listen --threshold to set a minimum score.")  # fmt: skip
    if len(recordings) != len(truths):
        raise EdgepruneError(f"There are {len(recordings)} recordings but {len(truths)} lists.",
                             "Give --truth once for each recording, in the same order.")  # fmt: skip
    rate, precision = target.false_alarms_per_hour, target.precision
    if (rate is None) == (precision is None):
        raise EdgepruneError("Exactly one target is needed.",
                             "Use --false-alarms-per-hour 1, or --precision 0.95.")  # fmt: skip
    if rate is not None and not 0 < rate < 1e6:
        raise EdgepruneError(f"--false-alarms-per-hour {rate:g} is out of range.",
                             "Allowed: more than 0.")  # fmt: skip
    if precision is not None and not 0 < precision <= 1:
        raise EdgepruneError(f"--precision {precision:g} is out of range (allowed: 0 to 1).")
    if out.resolve() == bundle.path.resolve():
        raise EdgepruneError("The new bundle would replace the old one.",
                             "Choose another folder with -o.")  # fmt: skip
    lists = [read_truth(path) for path in truths]
    for path, truth in zip(truths, lists, strict=True):
        if unknown := sorted({e.label for e in truth} - set(bundle.labels)):
            raise EdgepruneError(f"{path} has the label {unknown[0]!r}, which the bundle lacks.",
                                 f"Its labels: {', '.join(bundle.labels)}.")  # fmt: skip
    return lists


def _check_hours(streams: Sequence[ScoredStream], target: Target) -> None:
    """Raise if the streams are too short for the target."""
    rate, hours = target.false_alarms_per_hour, sum(heard.seconds for heard in streams) / 3600
    if rate is not None and rate * hours < LEAST_FALSE_ALARMS:
        raise EdgepruneError(
            f"{hours:.3g} hours of audio are too short to distinguish {rate:g} false alarms per hour "
            f"from {2 * rate:g}: {LEAST_FALSE_ALARMS / rate:.3g} hours are needed.",
            f"Record more, or allow {LEAST_FALSE_ALARMS / hours:.3g} or more per hour.",
        )
    if target.precision is not None and not any(heard.truth for heard in streams):
        raise EdgepruneError("The recordings have no events, so precision is not defined.",
                             "Use --false-alarms-per-hour.")  # fmt: skip


def _facts(found: Outcome) -> dict[str, Any]:
    low, high = poisson_interval(found.false_alarms)
    return {
        "hits": found.hits, "misses": found.misses, "false_alarms": found.false_alarms,
        "hours": found.hours, "recall": found.recall,
        "recall_interval": wilson_interval(found.hits, found.hits + found.misses),
        "precision": found.precision, "false_alarms_per_hour": found.false_alarms_per_hour,
        "false_alarms_per_hour_interval": (low / found.hours, high / found.hours),
    }  # fmt: skip


def _missed(found: Outcome, target: Target) -> str:
    """Return why the requested rate was not met on the streams themselves; empty if it was."""
    wanted, rate = target.false_alarms_per_hour, found.false_alarms_per_hour
    if wanted is None or abs(rate - wanted) <= NEAR * wanted:
        return ""
    if rate > wanted:
        return (f"{wanted:g} false alarms per hour cannot be reached: more than that have the "
                "highest score of the model.")  # fmt: skip
    return f"{wanted:g} false alarms per hour cannot be reached: even the lowest thresholds give fewer."


def _write(bundle: Bundle, out: Path, done: dict[str, Any]) -> None:
    """Write the bundle with its new decision rule; model and golden outputs do not change."""
    manifest = {k: v for k, v in bundle.manifest.items() if k not in ("files", "created")}
    files, entries = golden_files(
        [g.samples for g in bundle.golden], [g.scores for g in bundle.golden], 0.0
    )
    for entry, golden in zip(entries, bundle.golden, strict=True):
        entry["tolerance"] = golden.tolerance
    kept = ("target", "recordings", "temperature_fit", "reached", "held_out")
    manifest["golden"] = entries
    manifest["decision"] = {
        **bundle.manifest["decision"], "thresholds": done["thresholds"],
        "smoothing_windows": done["smoothing_windows"], "temperature": done["temperature"],
        "calibration": {key: done[key] for key in kept},
    }  # fmt: skip
    contents = {bundle.file: bundle.model_bytes, **files}
    if bundle.alternative:
        manifest, contents = with_alternative(manifest, contents, bundle.alternative)
    write_bundle(out, manifest, contents)


def _text(done: dict[str, Any]) -> str:
    """Return the result as text: one line per label, all labels, and all labels held out."""
    hours = sum(r["seconds"] for r in done["recordings"]) / 3600
    fit = done["temperature_fit"]
    lines = [f"{hours:.2f} hours; temperature {done['temperature']:g}"
             + (f" ({fit['why']})" if "why" in fit else "")
             + f", smoothing over {done['smoothing_windows']} windows", ""]  # fmt: skip
    width = max(len(x) for x in (*done["per_label"], "all, held out"))
    lines.append(f"{'':{width}}  threshold  detected         false alarms per hour [95 %]")
    rows: list[tuple[str, str, dict[str, Any]]] = [
        (x, f"{done['thresholds'][x]:.4f}", facts) for x, facts in done["per_label"].items()
    ]
    rows += [("all", "", done["reached"]), ("all, held out", "", done["held_out"])]
    show: Callable[[float], str] = "{:.3g}".format
    for name, threshold, facts in rows:
        events = facts["hits"] + facts["misses"]
        share = f"{facts['hits']} of {events}" + (
            f" ({100 * facts['recall']:.0f} %)" if events else ""
        )
        low, high = facts["false_alarms_per_hour_interval"]
        lines.append(f"{name:{width}}  {threshold:>9}  {share:<15}  "
                     f"{show(facts['false_alarms_per_hour'])} [{show(low)}, {show(high)}]")  # fmt: skip
    lines += [done["missed"]] if done["missed"] else []
    lines.append(f"Written: {done['bundle']}")
    return "\n".join(lines)
