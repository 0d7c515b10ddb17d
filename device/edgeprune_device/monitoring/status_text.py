"""Formats a recorder's status as text."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from edgeprune_device.monitoring.status import Verdict
from edgeprune_device.system.machine import throttle_reasons

NAMED_LABELS = 4
WIDTH = 11


def screen(status: Mapping[str, Any], verdict: Verdict) -> str:
    """Return a status and its judgement as text, one line per subject."""
    digest = str(status["digest"])[:8]
    lines = [
        (verdict.state, verdict.text or f"{status['source']}, {status['bundle']} {digest}"),
        *(("alarm", f"{kind}: {text}") for kind, text in status["alarms"].items()),
        ("since", _since(status, verdict)),
        ("coverage", coverage_text(status["coverage"], int(status["rate"]))),
        ("detections", _detections(status)),
        ("latency", _latency(status["latency"])),
        ("backlog", _backlog(status)),
        *(("sink", _sink(name, sink)) for name, sink in status["sinks"].items()),
        ("board", _board(status)),
        ("clock", _clock(status["clock"])),
    ]
    if status["next_change"]:
        lines.append(("schedule", f"changes at {status['next_change']}"))
    return "\n".join(f"{name:<{WIDTH}}{text}" for name, text in lines)


def coverage_text(coverage: Mapping[str, Mapping[str, int]], rate: int) -> str:
    """Return the coverage as text, largest share first; shares are of all stream time."""
    total = sum(sum(reasons.values()) for reasons in coverage.values())
    if not total or not rate:
        return "nothing yet"
    parts = []
    for kind, reasons in sorted(coverage.items(), key=lambda item: -sum(item[1].values())):
        why = ", ".join(
            f"{reason} {share_text(samples / total)}"
            for reason, samples in sorted(reasons.items(), key=lambda item: -item[1]) if reason
        )  # fmt: skip
        text = f"{share_text(sum(reasons.values()) / total)} {kind}"
        parts.append(f"{text} ({why})" if why else text)
    return f"{span_text(total / rate)}: {'; '.join(parts)}"


def share_text(share: float) -> str:
    """Format a share (0 to 1) in %; 100 % and 0 % only for exactly 1 and 0."""
    if 0 < share < 0.0005:
        return "< 0.1 %"
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    return f"{100 * share:.1f} %"


def span_text(seconds: float) -> str:
    """Format a duration as days, hours, minutes or seconds."""
    for size, name in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {name}"
    return f"{seconds:.1f} s"


def _since(status: Mapping[str, Any], verdict: Verdict) -> str:
    age = (
        "of an earlier boot" if verdict.age_seconds is None else f"{verdict.age_seconds:.0f} s ago"
    )
    times = status["reconnects"]
    started = re.sub(r"\.\d+", "", status["started_utc"])  # to the second
    return f"{started}, written {age}, {times} reconnection{'s' * (times != 1)}"


def _detections(status: Mapping[str, Any]) -> str:
    counts = sorted(status["detections"].items(), key=lambda item: (-item[1], item[0]))
    if not counts:
        return "none"
    named = [f"{label} {count}" for label, count in counts[:NAMED_LABELS]]
    if rest := counts[NAMED_LABELS:]:
        named.append(f"{len(rest)} others {sum(count for _, count in rest)}")
    text = f"{sum(count for _, count in counts)} ({', '.join(named)})"
    if last := status["last_detection"]:
        text += f"; last {last.get('label')} {last.get('score', 0.0):.2f} at {last.get('utc')}"
    return text


def _latency(latency: Mapping[str, Any]) -> str:
    if not latency.get("n"):
        return "no window yet"
    return (
        f"p50 {latency['p50_ms']:.1f}, p90 {latency['p90_ms']:.1f}, p99 {latency['p99_ms']:.1f}, "
        f"max {latency['max_ms']:.1f} ms of the last {latency['n']} windows; "
        f"{latency['real_time_factor']:.3f} of real time"
    )


def _backlog(status: Mapping[str, Any]) -> str:
    given = "load not reduced" if status["load"] == "normal" else f"load reduced: {status['load']}"
    waits = (
        f"; {n} detections wait to be written to disk" if (n := status["journal_pending"]) else ""
    )
    return f"{status['backlog_seconds']:.1f} s, {given}{waits}"


def _sink(name: str, sink: Mapping[str, Any]) -> str:
    why = sink.get("last_error") if sink.get("waiting") else ""  # the error is kept after recovery
    trouble = f"; {why}" if why else ""
    return f"{name}: {sink.get('sent', 0)} sent, {sink.get('waiting', 0)} waiting{trouble}"


def _board(status: Mapping[str, Any]) -> str:
    machine, free = status["machine"], status["free_disk_mb"]
    degrees, flags = machine.get("temperature_c"), machine.get("throttled")
    parts = ["temperature unknown" if degrees is None else f"{degrees:.1f} C"]
    if flags is not None:
        parts.append(", ".join(throttle_reasons(flags)) or "never throttled")
    parts.append("free disk space unknown" if free is None else f"{free:,.0f} MB of disk free")
    return ", ".join(parts)


def _clock(clock: Mapping[str, Any]) -> str:
    good = clock.get("synchronised")
    if good is None:
        return "unknown whether it is synchronised"
    bound = clock.get("offset_bound_seconds")
    within = f" within {bound:.3g} s" if good and bound is not None else ""
    return f"{'' if good else 'not '}synchronised{within} ({clock.get('source')})"
