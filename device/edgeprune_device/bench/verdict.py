"""Verdicts of a benchmark: does the model keep up, was the run stable, how much energy is used.

Pure functions of the measured numbers; every verdict has a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.percentiles import describe, interval
from edgeprune_device.system.machine import throttle_reasons

MS_PER_SECOND = 1000
SPREAD_LIMIT = 0.10
"""Largest spread of the rounds' medians, as a share of the median."""
DRIFT_LIMIT = 0.05
"""Largest change from the first to the last minute, as a share."""
JITTER_LIMIT = 0.02
"""Largest jitter as a share of the hop; MLPerf Tiny's runner warns over 2 %."""
OTHERS_LIMIT = 0.25
"""Number of cores that other processes may keep busy."""
SECONDS_PER_HOUR = 3600

Samples = NDArray[np.float64]


def real_time(
    inference: Mapping[str, Any], hop_seconds: float, window_seconds: float,
    pace: Mapping[str, Any] | None,
) -> dict[str, Any]:  # fmt: skip
    """Judge whether a model keeps up with a microphone.

    Parameters
    ----------
    inference : mapping
        ``describe`` of its latencies in ms.
    hop_seconds, window_seconds : float
    pace : mapping or None
        ``pace_of`` a paced part.

    Returns
    -------
    dict
        ``keeps_up`` and ``because``; ``rtf_p50`` and ``rtf_p99`` (latency / hop; None with
        ``rtf_p99_missing``); ``headroom`` (1 less latency / hop) and ``max_overlap`` (0 to 1 of a
        window: with more overlap, windows arrive faster than they are done), both by
        ``judged_by``: ``p99``, or ``max`` if there are too few windows for a p99.

    """
    p99 = inference["p99"]["ms"]
    judged_by = "max" if p99 is None else "p99"
    judged = inference["max"] if p99 is None else p99
    hop_ms, window_ms = hop_seconds * MS_PER_SECOND, window_seconds * MS_PER_SECOND
    misses = pace["misses"] if pace else 0
    what = f"{judged_by} {judged:.3g} ms of a hop of {hop_ms:g} ms"
    keeps_up = judged < hop_ms and not misses
    because = f"{what} is {judged / hop_ms:.1%}"
    if pace:
        because += f"; {misses} of {pace['n']} paced windows were late"
    return {
        "keeps_up": keeps_up, "because": because, "judged_by": judged_by,
        "rtf_p50": inference["median"] / hop_ms,
        "rtf_p99": None if p99 is None else p99 / hop_ms,
        **({"rtf_p99_missing": inference["p99"]["missing"]} if p99 is None else {}),
        "headroom": 1 - judged / hop_ms,
        "max_overlap": 1 - judged / window_ms if judged < window_ms else None,
        **({"max_overlap_missing": f"{judged_by} is longer than a window"}
           if judged >= window_ms else {}),
    }  # fmt: skip


def pace_of(
    parts: Sequence[Mapping[str, Sequence[float]]], hop_seconds: float,
    idle_shares: Sequence[float | None],
) -> dict[str, Any]:  # fmt: skip
    """Summarise paced parts (``phases.paced``), one per round.

    Parameters
    ----------
    parts : sequence of mapping
    hop_seconds : float
    idle_shares : sequence of float or None
        Idle share of all cores' time, of each part.

    Returns
    -------
    dict
        ``n``; ``samples_ms`` and ``latency_ms`` (``describe``): from a window's last sample to its
        detection on disk, waiting included; ``misses``: windows that were not done a hop after
        they were due, when the next one is due, and ``longest_streak`` of them; ``wake_ms``:
        ``describe`` of the delay with which a window was started; ``jitter_ms`` (standard
        deviation of the time between two starts), ``jitter_share`` (largest deviation from a hop,
        as a share of it), ``duty_cycle`` (busy share of the time) and ``machine_idle`` (idle share
        of all cores' time; None if /proc/stat does not report it).

    """
    hop = hop_seconds * MS_PER_SECOND
    latencies: list[float] = []
    wakes: list[float] = []
    periods: list[float] = []
    idle = [share for share in idle_shares if share is not None]
    misses, longest = 0, 0
    busy, whole = 0.0, 0.0
    for part in parts:
        due, begun, done = (
            np.asarray(part[key], np.float64) for key in ("due_ms", "begun_ms", "done_ms")
        )
        late = done - due > hop
        streak = 0
        for one in late:
            streak = streak + 1 if one else 0
            longest = max(longest, streak)
        misses += int(late.sum())
        latencies += list(done - due)
        wakes += list(begun - due)
        periods += list(np.diff(begun))
        busy += float((done - begun).sum())
        whole += max(float(done[-1]), float(due[-1]) + hop) - float(due[0])
    return {
        "n": len(latencies), "misses": misses, "samples_ms": [round(float(ms), 6) for ms in latencies],
        "latency_ms": describe(np.array(latencies)),
        "longest_streak": longest, "wake_ms": describe(np.array(wakes)),
        "jitter_ms": float(np.std(periods)) if periods else None,
        "jitter_share": max(abs(one - hop) for one in periods) / hop if periods else None,
        "duty_cycle": busy / whole,
        "machine_idle": float(np.mean(idle)) if idle else None,
        "missing": {
            **({} if periods else dict.fromkeys(("jitter_ms", "jitter_share"), "one window")),
            **({} if idle else {"machine_idle": "there is no cpu line in /proc/stat"}),
        },
    }  # fmt: skip


def drift_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Compare the first minute of a sustained run with its last (or its quarters).

    Returns
    -------
    dict
        ``first_ms`` and ``last_ms`` (medians), ``ratio`` (last / first), ``interval`` (the ends of
        the medians' 95 % intervals divided crosswise: at least 90 %; None if there are too few
        windows) and ``drift``: ``steady``, ``slower``, ``faster``, or ``unknown``.

    """
    first, last = (np.asarray(run[key], np.float64) for key in ("first_ms", "last_ms"))
    if not len(first) or not len(last):
        return {"drift": "unknown", "missing": "no window started in the first or the last minute"}
    begin, end = float(np.median(first)), float(np.median(last))
    ends = interval(first, 0.5), interval(last, 0.5)
    held = None
    if ends[0] and ends[1]:
        held = [ends[1][0] / ends[0][1], ends[1][1] / ends[0][0]]
    ratio = end / begin
    sure = held is None or not held[0] <= 1 <= held[1]
    drift = "steady"
    if sure and abs(ratio - 1) > DRIFT_LIMIT:
        drift = "slower" if ratio > 1 else "faster"
    return {
        "first_ms": begin,
        "last_ms": end,
        "ratio": ratio,
        "interval": held,
        "drift": drift,
        **({} if held else {"interval_missing": "there are too few windows"}),
    }


def energy_of(
    watts: tuple[float, float] | None, inference_ms: float, hop_seconds: float
) -> dict[str, Any]:
    """Convert the idle and busy power of a meter to energy.

    Returns
    -------
    dict
        ``source``, ``idle_watts``, ``busy_watts``, ``joules_per_inference`` (above idle) and
        ``joules_per_audio_hour`` (idle included); or ``missing``.

    """
    if watts is None:
        return {"missing": "no power was given; measure it and use --watts IDLE,BUSY"}
    idle, busy = watts
    joules = (busy - idle) * inference_ms / MS_PER_SECOND
    return {
        "source": "given by hand", "idle_watts": idle, "busy_watts": busy,
        "joules_per_inference": joules,
        "joules_per_audio_hour": SECONDS_PER_HOUR * (idle + joules / hop_seconds),
    }  # fmt: skip


def unsteady(entry: Mapping[str, Any]) -> list[str]:
    """Return why a variant's figures are unreliable, a clause each; empty if they are stable."""
    medians = entry["round_medians_ms"]
    spread = (max(medians) - min(medians)) / float(np.median(medians))
    reasons = []
    if spread > SPREAD_LIMIT:
        reasons.append(f"the rounds' medians differ by {spread:.0%}, so the machine was not stable")
    drift = (entry.get("sustained") or {}).get("drift")
    if drift in ("slower", "faster"):
        ratio = entry["sustained"]["ratio"]
        reasons.append(
            f"the sustained run's last minute took {ratio:.2f} times as long as the first"
        )
    pace = entry.get("paced")
    if pace and pace["jitter_share"] is not None and pace["jitter_share"] > JITTER_LIMIT:
        reasons.append(
            f"paced windows were started up to {pace['jitter_share']:.1%} of a hop off schedule"
        )
    return reasons


def disturbed(environment: Mapping[str, Any]) -> list[str]:
    """Return what disturbed the measurement (from ``machine_watch.environment_of``)."""
    reasons = []
    during = (environment["throttled"] or {}).get("during", 0)
    if during:
        reasons.append(f"the board reported {', '.join(throttle_reasons(during))}")
    swap = environment["swap"]
    if swap and (swap["in"] or swap["out"]):
        reasons.append(f"{swap['in']} pages were swapped in and {swap['out']} out")
    cores, other = environment["others_cores"], environment["top_process"]
    if cores is not None and cores > OTHERS_LIMIT:
        most = f", mostly {other['name']}" if other else ""
        reasons.append(f"other processes kept {cores:.2f} cores busy{most}")
    return reasons
