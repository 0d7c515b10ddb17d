"""A recorder's settings: one frozen dataclass per section of the TOML file.

    [audio]     which microphone, which channel       [mqtt] [webhook] [command]  where detections go
    [decide]    when a score becomes a detection      [schedule]  when to record
    [gate]      which windows the model scores        [load]      what to drop under overload
    [privacy]   whose speech is never kept            [operate]   metrics, heartbeat, commits
    [clips] [retention]  what is kept, for how long   [security]  which bundles are trusted

Every field has a default, so an empty file is valid. An unknown key or a value out of range is
rejected by name. Secrets are never stored in the file: it names an environment variable, or a file
such as a systemd credential.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

GATES = ("", "level", "vad")
SHEDDING = ("no-clips", "longer-hop", "skip")


@dataclass(frozen=True)
class Audio:
    """The microphone."""

    device: str = ""
    """Identity as printed by ``edgeprune devices``, or part of one name; empty: the default
    input."""
    channel: int = 0
    """Channel to use, counted from 1; 0: the mean of all."""
    gain_db: float = 0.0
    """Gain in dB, applied before everything else."""
    stall_seconds: float = 5.0
    """Time without a frame after which the capture process is restarted."""
    buffer_seconds: float = 60.0
    """Audio that may wait while the model is busy; anything beyond is dropped."""


@dataclass(frozen=True)
class Decide:
    """When something counts as a detection; keys left out are taken from the bundle."""

    hop_seconds: float | None = None
    """Time from the start of one window to the start of the next."""
    threshold: float | None = None
    """Threshold of every label."""
    thresholds: Mapping[str, float] = field(default_factory=dict)
    """Thresholds of single labels."""
    smoothing_windows: int | None = None
    """Scores are averaged over this many windows."""
    confirm_windows: int = 1
    """N of N-of-M: windows over the threshold that an event needs among the last M."""
    of_windows: int = 1
    """M of N-of-M."""
    release: float = 0.0
    """Hysteresis: an event goes on until its score is this far below the threshold."""
    refractory_seconds: float | None = None
    """A label that was reported is not reported again for this long."""
    merge_seconds: float = 0.0
    """Events of one label that are closer than this are merged; 0: never."""
    longest_seconds: float = 60.0
    """A merged event of this length is reported while it goes on."""
    allow: tuple[str, ...] = ()
    """Only these labels are reported; empty: all."""
    deny: tuple[str, ...] = ()
    """These labels are never reported."""


@dataclass(frozen=True)
class Gate:
    """Which windows are passed to the model."""

    kind: str = ""
    """Empty: no gate; ``level``: a loud enough window; ``vad``: speech (silero VAD)."""
    level_db: float = -60.0
    """Lowest level of a window, in dB of full scale."""
    vad_model: str = ""
    """Path of silero_vad.onnx, also for ``privacy.vad``."""
    vad_threshold: float = 0.5
    """Probability of speech from which the gate opens."""
    hold_seconds: float = 0.0
    """Time for which the gate stays open afterwards."""


@dataclass(frozen=True)
class Privacy:
    """Never keep audio with speech in it."""

    labels: tuple[str, ...] = ()
    """Labels that mean speech; those of the bundle's ``privacy`` entry are added."""
    threshold: float = 0.1
    """Score of such a label from which a window counts as speech, whether or not it is the best
    label."""
    vad: bool = False
    """Also use silero VAD (``gate.vad_model``)."""
    vad_threshold: float = 0.3
    """Probability of speech from which a window counts as speech."""
    margin_seconds: float = 1.0
    """A clip with speech this close before or after it is not kept either."""


@dataclass(frozen=True)
class Clips:
    """Audio clips around detections."""

    save: bool = False
    """Keep the audio around each detection as a FLAC file."""
    before_seconds: float = 3.0
    """Audio before the event."""
    after_seconds: float = 3.0
    """Audio after the event."""
    longest_seconds: float = 60.0
    """Longest event that is kept; a longer one is cut off."""


@dataclass(frozen=True)
class Retention:
    """How long clips are kept."""

    days: float = 0.0
    """Clips older than this are deleted; 0: no limit."""
    megabytes: float = 0.0
    """The oldest clips are deleted until all take at most this much (1e6 bytes); 0: no limit."""
    free_megabytes: float = 200.0
    """The oldest clips are deleted until this much of the disk is free."""
    keep_per_label: int = 0
    """This many of the newest clips of each label are never deleted for size or age."""
    ballast_megabytes: float = 8.0
    """Reserve in a file of its own, deleted when the disk is full so that the journal can still
    commit."""
    every_seconds: float = 60.0
    """Time between two clean-ups."""


@dataclass(frozen=True)
class Mqtt:
    """Send detections to an MQTT broker."""

    host: str = ""
    """Name or address of the broker; empty: no MQTT."""
    port: int = 1883
    """Port of the broker; 8883 is usual with TLS."""
    topic: str = "edgeprune"
    """Prefix: detections go to TOPIC/detections/LABEL, the heartbeat to TOPIC/status (retained,
    with a last will)."""
    username: str = ""
    """User name; empty: none."""
    password_env: str = ""
    """Environment variable with the password."""
    password_file: str = ""
    """File with the password; a relative name is looked up in systemd's credentials."""
    tls: bool = False
    """Encrypt the connection, with the system's certificates."""
    qos: int = 1
    """Quality of service of every message."""


@dataclass(frozen=True)
class Webhook:
    """Send detections to a web address as JSON."""

    url: str = ""
    """Address that receives a POST for each detection (http or https); empty: no webhook."""
    token_env: str = ""
    """Environment variable with a bearer token."""
    token_file: str = ""
    """File with a bearer token; a relative name is looked up in systemd's credentials."""
    timeout_seconds: float = 10.0
    """Longest time for one request."""


@dataclass(frozen=True)
class Command:
    """Run a program for each detection, with the detection as JSON on standard input."""

    run: tuple[str, ...] = ()
    """Program and arguments, run without a shell; empty: no command."""
    timeout_seconds: float = 30.0
    """The program is ended after this time."""


@dataclass(frozen=True)
class Schedule:
    """When to listen."""

    listen: tuple[str, ...] = ()
    """Times of the day to listen, local time, such as ``05:00-09:00`` or ``dawn-1h..dusk+0:30``;
    empty: always."""
    quiet: tuple[str, ...] = ()
    """Times of the day without listening, in the same form; they win."""
    latitude: float | None = None
    """Degrees north, for dawn, sunrise, sunset and dusk."""
    longitude: float | None = None
    """Degrees east."""


@dataclass(frozen=True)
class Load:
    """What to drop, in this order, when the model is slower than the audio."""

    steps: tuple[str, ...] = SHEDDING
    """``no-clips``, ``longer-hop`` (doubled, up to the window), ``skip`` (windows are left out), in
    the order in which they are taken."""
    behind_seconds: float = 10.0
    """Backlog at which the next step is taken."""
    calm_seconds: float = 120.0
    """Time without a backlog after which a step is taken back."""


@dataclass(frozen=True)
class Operate:
    """Threads, metrics, heartbeat and limits."""

    threads: int = 1
    """Threads of the runtime."""
    metrics_port: int = 0
    """Port of the Prometheus metrics at http://127.0.0.1:PORT/metrics; 0: none."""
    heartbeat_seconds: float = 60.0
    """Time between heartbeats, status files and commits of the coverage."""
    hang_seconds: float = 120.0
    """A window that takes longer than this ends the program."""
    spool_rows: int = 10_000
    """Largest number of detections that wait for a sink or for the journal."""


@dataclass(frozen=True)
class Security:
    """Which bundles are trusted."""

    require_signature: bool = False
    """Refuse a bundle that no trusted key has signed."""
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
