"""A recorder's settings: one frozen dataclass for each part, read from a TOML file.

    [audio]     which microphone, which channel       [mqtt] [webhook] [command]  where detections go
    [decide]    when something counts as heard        [schedule]  when to listen
    [gate]      what must sound before a model runs   [load]      what to give up when the board is slow
    [privacy]   whose voice is never kept             [operate]   metrics, heartbeat, commits
    [clips] [retention]  what is kept, for how long   [security]  which bundles are trusted

Every field has a default, so that an empty file is a recorder, too. A key that is not known, or a
value that makes no sense, is refused with its name. Secrets never stand in the file: it names an
environment variable, or a file such as systemd's credentials.
"""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Any

from edgeprune_device.errors import EdgepruneError

GATES = ("", "level", "vad")
SHEDDING = ("no-clips", "longer-hop", "skip")


@dataclass(frozen=True)
class Audio:
    """The microphone."""

    device: str = ""
    """An identity as ``edgeprune devices`` prints it, or a part of one name; empty: the default."""
    channel: int = 0
    """Which channel is heard, from 1; 0 averages all."""
    gain_db: float = 0.0
    """Applied before everything else, in dB, -60 to 60."""
    stall_seconds: float = 5.0
    """Without a frame for so long, the capture process is killed and started again; 1 to 600."""
    buffer_seconds: float = 60.0
    """Sound that waits while the model is busy; what comes on top is dropped; 2 to 600."""


@dataclass(frozen=True)
class Decide:
    """When something counts as heard; None takes the bundle's own."""

    hop_seconds: float | None = None
    """From the start of a window to the start of the next, over 0."""
    threshold: float | None = None
    """Of every label, over 0, to 1."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Of single labels, over 0, to 1."""
    smoothing_windows: int | None = None
    """Scores are averaged over so many windows, at least 1."""
    confirm_windows: int = 1
    """N of N-of-M: windows over the threshold among the last M, at least 1."""
    of_windows: int = 1
    """M of N-of-M, at least N."""
    release: float = 0.0
    """Hysteresis: what has begun goes on until its score is so far under the threshold; 0 to 1."""
    refractory_seconds: float | None = None
    """A label that was reported stays quiet for so long, 0 or more."""
    merge_seconds: float = 0.0
    """Events of one label closer than this are one, 0 or more."""
    longest_seconds: float = 60.0
    """Merging ends with an event of this length, which is reported while it goes on; 1 or more."""
    allow: tuple[str, ...] = ()
    """Only these labels are reported; empty: all."""
    deny: tuple[str, ...] = ()
    """These labels are never reported."""


@dataclass(frozen=True)
class Gate:
    """What must sound before the model is asked."""

    kind: str = ""
    """Empty: nothing; ``level``: a loud enough window; ``vad``: a voice (silero)."""
    level_db: float = -60.0
    """Least level of a window in dB of full scale, -120 to 0."""
    vad_model: str = ""
    """Path of silero_vad.onnx; also for ``privacy.vad``."""
    vad_threshold: float = 0.5
    """Probability of a voice that opens the gate, 0 to 1."""
    hold_seconds: float = 0.0
    """The gate stays open for so long after, 0 or more."""


@dataclass(frozen=True)
class Privacy:
    """Whose voice is never kept."""

    labels: tuple[str, ...] = ()
    """Labels of speech; those of the bundle's ``privacy`` entry are added."""
    threshold: float = 0.1
    """Score of such a label, of all labels and not of the best, from which it counts; 0 to 1."""
    vad: bool = False
    """Ask silero (``gate.vad_model``) as well."""
    vad_threshold: float = 0.3
    """Probability of a voice from which it counts, 0 to 1."""
    margin_seconds: float = 1.0
    """A clip with a voice so close before or after it is not kept, either; 0 or more."""


@dataclass(frozen=True)
class Clips:
    """Sound that is kept around a detection."""

    save: bool = False
    before_seconds: float = 3.0
    """Pre-roll, 0 to 60."""
    after_seconds: float = 3.0
    """Post-roll, 0 to 60."""
    longest_seconds: float = 60.0
    """A longer event is cut, 1 to 600."""


@dataclass(frozen=True)
class Retention:
    """How long things are kept; 0 sets no limit."""

    days: float = 0.0
    """Clips older than this are deleted."""
    megabytes: float = 0.0
    """The oldest clips are deleted until all take no more than this (1e6 bytes)."""
    free_megabytes: float = 200.0
    """The oldest clips are deleted until so much of the disk is free."""
    keep_per_label: int = 0
    """So many of the newest clips of each label are never deleted for size or age."""
    ballast_megabytes: float = 8.0
    """Kept in a file of its own, given up when the disk is full so that work can go on."""
    every_seconds: float = 60.0


@dataclass(frozen=True)
class Mqtt:
    """A broker; off while ``host`` is empty."""

    host: str = ""
    port: int = 1883
    topic: str = "edgeprune"
    """Detections go to TOPIC/detections/LABEL, the heartbeat to TOPIC/status (retained, a will)."""
    username: str = ""
    password_env: str = ""
    """Environment variable with the password."""
    password_file: str = ""
    tls: bool = False
    qos: int = 1


@dataclass(frozen=True)
class Webhook:
    """A POST of JSON for each detection; off while ``url`` is empty."""

    url: str = ""
    token_env: str = ""
    """Environment variable with a bearer token."""
    token_file: str = ""
    timeout_seconds: float = 10.0


@dataclass(frozen=True)
class Command:
    """A program for each detection, which gets it as JSON on standard input; off while empty."""

    run: tuple[str, ...] = ()
    """Program and arguments; no shell."""
    timeout_seconds: float = 30.0


@dataclass(frozen=True)
class Schedule:
    """When to listen; empty: always."""

    listen: tuple[str, ...] = ()
    """Stretches such as ``05:00-09:00`` or ``dawn-1h..dusk+0:30``, local time."""
    quiet: tuple[str, ...] = ()
    """Stretches without listening, of the same form; they win."""
    latitude: float | None = None
    """Degrees north, for dawn, sunrise, sunset and dusk."""
    longitude: float | None = None
    """Degrees east."""


@dataclass(frozen=True)
class Load:
    """What to give up, in this order, when the model is slower than the sound."""

    steps: tuple[str, ...] = SHEDDING
    """Of ``no-clips``, ``longer-hop`` (twice, up to the window) and ``skip`` (windows)."""
    behind_seconds: float = 10.0
    """Backlog that brings the next step."""
    calm_seconds: float = 120.0
    """Without a backlog for so long, a step is taken back."""


@dataclass(frozen=True)
class Operate:
    """How it runs."""

    threads: int = 1
    """Of the runtime, at least 1."""
    metrics_port: int = 0
    """Prometheus metrics at http://127.0.0.1:PORT/metrics; 0: none."""
    heartbeat_seconds: float = 60.0
    """Between heartbeats, status files and commits of the coverage; 1 to 3600."""
    hang_seconds: float = 120.0
    """A window that takes longer ends the program; 5 to 3600."""
    spool_rows: int = 10_000
    """Detections that wait for a sink, or for the journal, at most."""


@dataclass(frozen=True)
class Security:
    """Which bundles are trusted."""

    require_signature: bool = False
    trusted_keys: tuple[str, ...] = ()
    """Files with Ed25519 public keys (PEM)."""


@dataclass(frozen=True)
class Settings:
    """All of it."""

    audio: Audio = Audio()
    decide: Decide = Decide()
    gate: Gate = Gate()
    privacy: Privacy = Privacy()
    clips: Clips = Clips()
    retention: Retention = Retention()
    mqtt: Mqtt = Mqtt()
    webhook: Webhook = Webhook()
    command: Command = Command()
    schedule: Schedule = Schedule()
    load: Load = Load()
    operate: Operate = Operate()
    security: Security = Security()


WANTED = {
    "bool": "true or false", "int": "a whole number", "float": "a number", "str": "a text",
    "tuple[str, ...]": "a list of texts", "Mapping[str, float]": "a table of numbers",
}  # fmt: skip
"""Each type of a field, in words."""


def read_settings(path: Path) -> Settings:
    """Read a TOML file.

    Raises
    ------
    EdgepruneError
        It cannot be read, names an unknown key, or holds a value that makes no sense.

    """
    try:
        table = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EdgepruneError(f"The settings {path} cannot be read: {error.strerror}.") from None
    except (UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise EdgepruneError(f"The settings {path} cannot be read: {error}.") from None
    return build_settings(table, str(path))


def build_settings(table: Mapping[str, Any], source: str) -> Settings:
    """Return the settings of a table of tables, checked; what is not given keeps its default."""
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
                raise EdgepruneError(f"{name} in {source} is no table.", f"Write [{name}].")
            given[key] = _filled(held, value, f"{name}.", source)
        else:
            given[key] = _typed(value, str(known[key].type), name, source)
    return replace(empty, **given)


def _typed(value: Any, wanted: str, name: str, source: str) -> Any:
    """Return a value as its field's type; an int is a float, too, and a bool is neither."""
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
        raise EdgepruneError(f"{name} in {source} is {value!r}; {kind} is expected.")
    if wanted.startswith("tuple"):
        return tuple(converted)
    return float(converted) if wanted.startswith("float") else converted


RANGES = {  # lowest and highest of each number, both allowed
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
    """Return the settings if every value makes sense.

    Raises
    ------
    EdgepruneError
        The first that does not, by its name.

    """
    for name, (low, high) in RANGES.items():
        part, key = name.split(".")
        value = getattr(getattr(settings, part), key)
        if value is not None and not low <= value <= high:
            raise EdgepruneError(
                f"{name} in {source} is {value:g}.", f"It lies between {low:g} and {high:g}."
            )
    if problem := _problem(settings):
        raise EdgepruneError(f"{problem} ({source}).")
    return settings


def _problem(settings: Settings) -> str:
    """Return what contradicts itself; empty if nothing does."""
    decide, gate, place = settings.decide, settings.gate, settings.schedule
    for label, value in decide.thresholds.items():
        if not 0 < value <= 1:
            return f"The threshold of {label} is {value:g}, not over 0 and at most 1"
    if decide.confirm_windows > decide.of_windows:
        return (
            f"{decide.confirm_windows} windows can never be among the last {decide.of_windows}: "
            "decide.confirm_windows is over decide.of_windows"
        )
    if both := set(decide.allow) & set(decide.deny):
        return f"{min(both)} stands in decide.allow and in decide.deny"
    if gate.kind not in GATES:
        return f"gate.kind is {gate.kind!r}, not level or vad"
    if (gate.kind == "vad" or settings.privacy.vad) and not gate.vad_model:
        return "A voice is to be found and gate.vad_model names no silero_vad.onnx"
    if unknown := [step for step in settings.load.steps if step not in SHEDDING]:
        return f"load.steps has {unknown[0]!r}, which is none of {', '.join(SHEDDING)}"
    if (place.latitude is None) != (place.longitude is None):
        return "schedule.latitude and schedule.longitude go together"
    if settings.security.require_signature and not settings.security.trusted_keys:
        return "A signature is required and security.trusted_keys names no key"
    return ""
