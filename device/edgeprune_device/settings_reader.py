"""Reads a recorder's settings from TOML and checks types, ranges and contradictions."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import GATES, SHEDDING, Settings

WANTED = {
    "bool": "true or false", "int": "a whole number", "float": "a number", "str": "a string",
    "tuple[str, ...]": "a list of strings", "Mapping[str, float]": "a table of numbers",
}  # fmt: skip
"""Type of a field -> its name in error messages."""


def read_settings(path: Path) -> Settings:
    """Read the settings from a TOML file.

    Raises
    ------
    EdgepruneError
        The file cannot be read, has an unknown key, or a value of the wrong type or out of range.

    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EdgepruneError(f"The settings {path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EdgepruneError(f"The settings {path} cannot be read: {error}.") from None
    return build_settings(table, str(path))


def build_settings(table: Mapping[str, Any], source: str) -> Settings:
    """Return the checked settings of a parsed TOML table; missing keys keep their default."""
    return checked(_filled(Settings(), table, "", source), source)


def _filled(empty: Any, table: Mapping[str, Any], prefix: str, source: str) -> Any:
    known = {entry.name: entry for entry in fields(empty)}
    given = {}
    for key, value in table.items():
        name = f"{prefix}{key}"
        if key not in known:
            near = difflib.get_close_matches(key, known, 1)
            hint = f"Did you mean {prefix}{near[0]}?" if near else f"Known: {', '.join(known)}."
            raise EdgepruneError(f"{source} has an unknown key {name!r}.", hint)
        held = getattr(empty, key)
        if is_dataclass(held):
            if not isinstance(value, Mapping):
                raise EdgepruneError(f"{name} in {source} is not a table.", f"Write [{name}].")
            given[key] = _filled(held, value, f"{name}.", source)
        else:
            given[key] = _typed(value, str(known[key].type), name, source)
    return replace(empty, **given)


def _typed(value: Any, wanted: str, name: str, source: str) -> Any:
    """Convert a value to its field's type; an int is accepted as a float, a bool as neither."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    fits, converted = {
        "bool": (isinstance(value, bool), value),
        "int": (number and isinstance(value, int), value),
        "float": (number and math.isfinite(value), value),
        "str": (isinstance(value, str), value),
        "tuple[str, ...]": (
            isinstance(value, list | tuple) and all(isinstance(x, str) for x in value), value,
        ),
        "Mapping[str, float]": (
            isinstance(value, Mapping)
            and all(isinstance(x, int | float) and not isinstance(x, bool) for x in value.values()),
            value,
        ),
    }[wanted.removesuffix(" | None")]  # fmt: skip
    if not fits:
        kind = WANTED[wanted.removesuffix(" | None")]
        raise EdgepruneError(
            f"{name} = {value!r} in {source} has the wrong type: {kind} is expected."
        )
    if wanted.startswith("tuple"):
        return tuple(converted)
    return float(converted) if wanted.startswith("float") else converted


RANGES = {  # smallest and largest allowed value
    "audio.gain_db": (-60, 60), "audio.channel": (0, 64), "audio.stall_seconds": (1, 600),
    "audio.buffer_seconds": (2, 600),
    "decide.hop_seconds": (1e-4, 86_400), "decide.threshold": (1e-9, 1),
    "decide.smoothing_windows": (1, 10_000), "decide.confirm_windows": (1, 10_000),
    "decide.of_windows": (1, 10_000), "decide.release": (0, 1),
    "decide.refractory_seconds": (0, 86_400), "decide.merge_seconds": (0, 86_400),
    "decide.longest_seconds": (1, 86_400),
    "gate.level_db": (-120, 0), "gate.vad_threshold": (0, 1), "gate.hold_seconds": (0, 3600),
    "privacy.threshold": (0, 1), "privacy.vad_threshold": (0, 1),
    "privacy.margin_seconds": (0, 3600),
    "clips.before_seconds": (0, 60), "clips.after_seconds": (0, 60),
    "clips.longest_seconds": (1, 600),
    "retention.days": (0, 36_500), "retention.megabytes": (0, 1e9),
    "retention.free_megabytes": (0, 1e9), "retention.keep_per_label": (0, 1_000_000),
    "retention.ballast_megabytes": (0, 10_000), "retention.every_seconds": (1, 86_400),
    "mqtt.port": (1, 65_535), "mqtt.qos": (0, 2),
    "webhook.timeout_seconds": (0.1, 600), "command.timeout_seconds": (0.1, 3600),
    "schedule.latitude": (-90, 90), "schedule.longitude": (-180, 180),
    "load.behind_seconds": (0.1, 600), "load.calm_seconds": (1, 86_400),
    "operate.threads": (1, 64), "operate.metrics_port": (0, 65_535),
    "operate.heartbeat_seconds": (1, 3600), "operate.hang_seconds": (5, 3600),
    "operate.spool_rows": (10, 1_000_000),
}  # fmt: skip


def checked(settings: Settings, source: str) -> Settings:
    """Return the settings if every value is in range and none contradicts another.

    Raises
    ------
    EdgepruneError
        The first value that is out of range or contradicts another.

    """
    for name, (low, high) in RANGES.items():
        part, key = name.split(".")
        value = getattr(getattr(settings, part), key)
        if value is not None and not low <= value <= high:
            raise EdgepruneError(
                f"{name} = {value:g} in {source} is out of range (allowed: {low:g} to {high:g})."
            )
    if problem := _problem(settings):
        raise EdgepruneError(f"{problem} ({source}).")
    return settings


def _problem(settings: Settings) -> str:
    """Return the first contradiction; empty if there is none."""
    decide, gate, place = settings.decide, settings.gate, settings.schedule
    for label, value in decide.thresholds.items():
        if not 0 < value <= 1:
            return f"decide.thresholds.{label} = {value:g} is out of range (allowed: over 0, at most 1)"
    if decide.confirm_windows > decide.of_windows:
        return (
            f"decide.confirm_windows = {decide.confirm_windows} is more than "
            f"decide.of_windows = {decide.of_windows}"
        )
    if both := set(decide.allow) & set(decide.deny):
        return f"The label {min(both)!r} is in both decide.allow and decide.deny"
    if gate.kind not in GATES:
        return f"gate.kind = {gate.kind!r} is not known (allowed: level, vad)"
    if (gate.kind == "vad" or settings.privacy.vad) and not gate.vad_model:
        return "Voice detection is on, but gate.vad_model does not name a silero_vad.onnx"
    if unknown := [step for step in settings.load.steps if step not in SHEDDING]:
        return (
            f"load.steps names {unknown[0]!r}, which is not known (allowed: {', '.join(SHEDDING)})"
        )
    if (place.latitude is None) != (place.longitude is None):
        return "schedule.latitude and schedule.longitude must be given together"
    if settings.security.require_signature and not settings.security.trusted_keys:
        return "security.require_signature is set, but security.trusted_keys names no key"
    return ""
