"""Doctor's judgements: each state of each check, from facts that are made up."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.doctor.checks import CHECKS, STATES, CheckRow, MachineFacts, judged
from edgeprune_device.doctor.probe import Failure, Opened
from edgeprune_device.doctor.sound_check import Recording
from edgeprune_device.settings_reader import build_settings
from edgeprune_device.system.clock import ClockState

RATE = 16_000
NOISE = np.random.default_rng(0).normal(0, 0.02, 5 * RATE).astype(np.float32)
HEARD = Recording("usb:0d8c:0014", 48_000, NOISE, RATE, 0, (), 1.001, ())
MACHINE = {
    "python": "3.11.2", "model": "Raspberry Pi 4", "runtimes": {"onnxruntime": "1.31.1"},
    "governors": ["ondemand"], "temperature_c": 50.0, "throttled": 0,
}  # fmt: skip
DISK = {"folder": "/j", "free_mb": 9000.0, "total_mb": 30_000.0, "fsync_ms": 12.0, "error": ""}


def well(bundle: Bundle) -> MachineFacts:
    """Return the facts of a recorder that has nothing wrong with it."""
    latency = {"n": 100, "p99_ms": 20.0, "hop_seconds": 0.05, "samples_ms": [1.0]}
    return MachineFacts(
        machine=MACHINE, library="PortAudio V19.6.0", recording=HEARD,
        bundle=Opened(bundle, 1e-6, latency, ""), disk=DISK,
        journal={"ok": True, "said": "ok", "detections": 1234}, available_mb=1500.0,
        rights={"root": False, "audio": True, "devices": ["/dev/snd/pcmC1D0c"], "closed": []},
        clock=ClockState(True, "kernel", 0.02), zone="CEST",
        schedule=("It records now, until 2026-05-01 09:00.",), sinks={"mqtt": ""},
    )  # fmt: skip


@pytest.fixture(scope="module")
def facts(tiny_bundle: Path) -> MachineFacts:
    return well(read_bundle(tiny_bundle))


def row_of(facts: MachineFacts, name: str) -> CheckRow:
    return next(row for row in judged(facts) if row.name == name)


def test_a_recorder_that_is_well_has_nothing_but_ok(facts: MachineFacts) -> None:
    rows = judged(facts)
    assert [row.name for row in rows] == [name for name, _ in CHECKS]
    assert {row.state for row in rows} == {"ok"}, [row for row in rows if row.state != "ok"]
    assert all(row.text.endswith(".") and not row.remedy for row in rows)


def test_where_nothing_is_known_nothing_is_ok_that_must_be_seen() -> None:
    known = {"journal", "schedule", "sinks"}  # nothing to look at: that is well
    for row in judged(MachineFacts()):
        if row.name in known | {"sound library"}:
            assert row.state == "ok"
        elif row.name == "system":
            assert row.state == "problem"
        else:
            assert row.state == "unknown", row


def sound(samples: NDArray[np.float64]) -> Recording:
    return replace(HEARD, samples=samples.astype(np.float32))


SINE = np.sin(2 * np.pi * 440 * np.arange(5 * RATE) / RATE)
SLOW: dict[str, Any] = {"n": 100, "hop_seconds": 0.05, "samples_ms": []}


@pytest.mark.parametrize(
    ("name", "change", "state", "said"),
    [
        ("sound library", {"library": Failure("PortAudio is missing.", "sudo apt")}, "problem",
         "missing"),
        ("microphone", {"recording": Failure("There is no input.")}, "problem", "no input"),
        ("microphone", {"recording": None}, "unknown", "Nothing was recorded"),
        ("microphone", {"recording": replace(HEARD, lost=800, reasons=("stalled",))}, "warning",
         "0.05 s are missing (stalled)"),
        ("sampling rate", {"recording": replace(HEARD, clock_ratio=44_100 / 48_000)}, "problem",
         "-8.1 % from 48000 Hz"),
        ("sampling rate", {"recording": replace(HEARD, clock_ratio=1.03)}, "ok", "+3.0 %"),
        ("sampling rate", {"recording": replace(HEARD, clock_ratio=None)}, "unknown", "too short"),
        ("sound", {"recording": sound(0 * SINE)}, "problem", "only zeros"),
        ("sound", {"recording": sound(0 * SINE + 0.25)}, "problem", "one constant value"),
        ("sound", {"recording": sound(np.clip(30 * SINE, -1, 1))}, "problem", "mostly clipped"),
        ("sound", {"recording": sound(3e-5 * SINE)}, "warning", "below -90 dBFS"),
        ("sound", {"recording": sound(1e-4 * SINE)}, "warning", "very quiet"),
        ("sound", {"recording": sound(0.98 * SINE)}, "warning", "close to clipping"),
        ("permissions", {"rights": {"root": False, "devices": ["/dev/snd/pcmC1D0c"],
                                    "closed": ["/dev/snd/pcmC1D0c"]}}, "problem", "pcmC1D0c"),
        ("permissions", {"rights": {"root": True, "devices": ["x"], "closed": []}}, "warning",
         "root"),
        ("permissions", {"rights": {"devices": []}}, "unknown", "/dev/snd"),
        ("system", {"bits": 32}, "problem", "32 bits"),
        ("system", {"machine": MACHINE | {"runtimes": {"onnxruntime": None}}}, "problem",
         "No runtime"),
        ("bundle", {"bundle": Failure("model.onnx is not the file.", "Copy it again.")}, "problem",
         "not the file"),
        ("bundle", {"bundle": None}, "unknown", "No bundle"),
        ("speed", {"bundle": None}, "unknown", "No bundle was timed"),
        ("disk", {"disk": DISK | {"error": "/j cannot be written: Read-only."}}, "problem",
         "Read-only"),
        ("disk", {"disk": DISK | {"free_mb": 20.0}}, "problem", "20 MB are free"),
        ("disk", {"disk": DISK | {"free_mb": 150.0}}, "warning", "keeps 200 MB free"),
        ("disk", {"disk": DISK | {"fsync_ms": 400.0}}, "warning", "which is slow"),
        ("disk", {"disk": DISK | {"fsync_ms": 4000.0}}, "problem", "4000.0 ms"),
        ("journal", {"journal": None}, "ok", "no journal yet"),
        ("journal", {"journal": {"ok": False, "said": "malformed", "detections": None}}, "problem",
         "malformed"),
        ("journal", {"journal": {"ok": None, "said": "interrupted", "detections": None}},
         "unknown", "interrupted"),
        ("clock", {"clock": ClockState(False, "calendar")}, "problem", "before 2025"),
        ("clock", {"clock": ClockState(False, "kernel")}, "warning", "not synchronised"),
        ("clock", {"clock": ClockState(None, "unknown")}, "unknown", "It is unknown whether"),
        ("schedule", {"schedule": None, "zone": "UTC"}, "ok", "always"),
        ("schedule", {"zone": "UTC"}, "warning", "Local time is UTC"),
        ("schedule", {"schedule": Failure("By its schedule it never records.")}, "problem",
         "never"),
        ("governor", {"machine": MACHINE | {"governors": ["powersave"]}}, "warning", "powersave"),
        ("governor", {"machine": MACHINE | {"governors": None}}, "unknown", "does not report its"),
        ("temperature", {"machine": MACHINE | {"temperature_c": 82.0}}, "problem", "82 C"),
        ("temperature", {"machine": MACHINE | {"temperature_c": 71.0}}, "warning", "71 C"),
        ("temperature", {"machine": MACHINE | {"temperature_c": None}}, "unknown", "not report"),
        ("power", {"machine": MACHINE | {"throttled": 0x50005}}, "problem", "under-voltage now"),
        ("power", {"machine": MACHINE | {"throttled": 0x50000}}, "warning", "since boot"),
        ("power", {"machine": MACHINE | {"throttled": None}}, "unknown", "does not report get_throttled"),
        ("memory", {"available_mb": 60.0}, "problem", "60 MB"),
        ("memory", {"available_mb": 200.0}, "warning", "200 MB"),
        ("memory", {"available_mb": None}, "unknown", "not report"),
        ("sinks", {"sinks": {}}, "ok", "no sink"),
        ("sinks", {"sinks": {"mqtt": "refused.", "command": ""}}, "problem", "mqtt: refused"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_its_own_row_and_nowhere_else(
    facts: MachineFacts, name: str, change: dict[str, Any], state: str, said: str
) -> None:
    changed = replace(facts, **change)
    row = row_of(changed, name)
    assert (row.state, said in row.text) == (state, True), row
    assert row.state in STATES
    if state in ("warning", "problem") and not isinstance(next(iter(change.values())), Failure):
        assert row.remedy
    others = {r.name: r.state for r in judged(changed)
              if r.name not in (name, "sampling rate", "sound", "speed")}  # fmt: skip
    assert set(others.values()) == {"ok"} or "recording" in change or "bundle" in change


@pytest.mark.parametrize(("late", "state"), [(20.0, "ok"), (40.0, "warning"), (50.0, "problem")])
def test_a_board_keeps_up_if_the_slow_windows_fit_into_the_hop(
    facts: MachineFacts, late: float, state: str
) -> None:
    assert isinstance(facts.bundle, Opened)
    changed = replace(facts, bundle=replace(facts.bundle, latency=SLOW | {"p99_ms": late}))
    row = row_of(changed, "speed")
    assert row.state == state
    assert "samples_ms" not in row.values


def test_a_microphone_that_a_running_recorder_holds_is_said_to_be(facts: MachineFacts) -> None:
    row = row_of(replace(facts, recording=Failure("It is busy.", "?"), running=True), "microphone")
    assert "A recorder is running" in row.remedy


def test_a_quiet_limit_of_the_settings_counts(facts: MachineFacts) -> None:
    settings = build_settings({"retention": {"free_megabytes": 10_000}}, "r.toml")
    assert row_of(replace(facts, settings=settings), "disk").state == "warning"
