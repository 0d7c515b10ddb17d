"""``edgeprune listen``, the recorder, and ``edgeprune devices``, what it can record from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import Json, print_done
from edgeprune_device.errors import EdgepruneError


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: edgeprune listen runs/birds/bundle --from-wav forest.wav -o journal, "
        "in the field: edgeprune listen bundle --settings recorder.toml -o /var/lib/edgeprune"
    )(listen)
    app.command(epilog="Example: edgeprune devices")(devices)


def devices(as_json: Json = False) -> None:
    """List the audio inputs of this machine."""
    from edgeprune_device.audio.devices import list_devices_in_child, table

    found = list_devices_in_child()
    print_done({"devices": [one.as_dict() for one in found]}, table(found), as_json)


def listen(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Journal folder.")] = Path("journal"),
    settings: Annotated[Path | None, typer.Option(help="Recorder settings, a TOML file.")] = None,
    device: Annotated[
        str, typer.Option(help="Input: identity, name or number, as edgeprune devices lists them.")
    ] = "",
    from_wav: Annotated[
        Path | None, typer.Option(help="Process this sound file instead of the microphone.")
    ] = None,
    stdin: Annotated[
        bool, typer.Option(help="Read raw 16-bit mono samples from standard input.")
    ] = False,
    hop: Annotated[
        float | None, typer.Option(help="Seconds between windows (default: the bundle's).")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="Detection threshold of all labels (default: the bundle's)."),
    ] = None,
    threads: Annotated[
        int | None, typer.Option(help="Threads of the runtime (default: 1).")
    ] = None,
    clips: Annotated[
        bool, typer.Option("--clips", help="Save the sound around each detection.")
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a microphone that is not connected yet.")
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(help="Stop after this many seconds (default: never).")
    ] = None,
    as_json: Json = False,
) -> None:
    """Run BUNDLE on a microphone; write detections to a journal.

    It runs until interrupted. All other settings (thresholds per label, clips, retention, MQTT,
    schedules, what to drop under load) are in the settings file; the documentation lists them
    (reference, recorder.toml).
    """
    from edgeprune.core.console import Terminal
    from edgeprune_device.recorder.listen import listen as run

    if from_wav is not None and stdin:
        raise EdgepruneError("Both --from-wav and --stdin were given.", "Use one of them.")
    stats = run(
        bundle, out, _settings(settings, device, hop, threshold, threads, clips),
        source="wav" if from_wav else "stdin" if stdin else "microphone",
        from_wav=from_wav, seconds=seconds, wait=wait, say=Terminal().say,
    )  # fmt: skip
    print_done(stats, _summary(stats), as_json)


def _summary(stats: dict[str, Any]) -> str:
    """Return what a session came to, in two lines."""
    rate, found = stats["sample_rate"], sum(stats["detections"].values())
    parts = [f"{sum(reasons.values()) / rate:.1f} s {kind}"
             for kind, reasons in stats["coverage"].items()]  # fmt: skip
    heard = ", ".join(parts) or "nothing came"
    detections = f"{found} detection" + "s" * (found != 1)
    return (f"{stats['reason']}: {heard}; {detections} in {stats['journal']}.\n"
            "edgeprune coverage, export and clips say more.")  # fmt: skip


def _settings(
    path: Path | None, device: str, hop: float | None, threshold: float | None,
    threads: int | None, clips: bool,
) -> Any:  # fmt: skip
    """Return the file's settings with those of the command line in their place."""
    from edgeprune_device.settings import Settings
    from edgeprune_device.settings_overrides import apply_overrides
    from edgeprune_device.settings_reader import read_settings

    return apply_overrides(
        read_settings(path) if path else Settings(),
        {"audio": {"device": device or None},
         "decide": {"hop_seconds": hop, "threshold": threshold},
         "operate": {"threads": threads}, "clips": {"save": clips or None}},
        {"decide.hop_seconds": "--hop", "decide.threshold": "--threshold",
         "operate.threads": "--threads"},
    )  # fmt: skip
