"""The commands of a recorder in the field: ``status``, ``service`` and ``doctor``."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import Json, print_done
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

FOLLOW_SECONDS = 2.0
HOME_AND_CLEAR = "\x1b[H\x1b[J"
JOURNAL = Path("/var/lib/edgeprune/journal")


def status(
    journal: Annotated[Path, typer.Argument(help="Journal folder of a recorder.")],
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Refresh every 2 seconds until Ctrl-C.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show a recorder's state, alarms and coverage.

    Also latency, sinks, hardware and clock. Ends with status 1 if it is not running, hangs, has
    lost its microphone, or has an active alarm.
    """
    from edgeprune_device.monitoring.status import judge, read_status
    from edgeprune_device.monitoring.status_text import screen

    while True:
        found = read_status(journal)
        verdict = judge(found, time.monotonic())
        shown = {**found, "state": verdict.state, "sentence": verdict.text, "fine": verdict.fine,
                 "age_seconds": verdict.age_seconds}  # fmt: skip
        text = screen(found, verdict)
        if follow and sys.stdout.isatty() and not as_json:
            text = HOME_AND_CLEAR + text
        print_done(shown, text, as_json)
        if not follow:
            break
        sys.stdout.flush()
        try:
            time.sleep(FOLLOW_SECONDS)
        except KeyboardInterrupt:  # the way out that its help names
            return
    if not verdict.fine:
        raise EdgepruneError(
            f"The recorder of {journal} is {verdict.state}.",
            "journalctl -u edgeprune says more." if verdict.state != "degraded" else "",
            FAILED_CHECK,
        )


def service(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")],
    settings: Annotated[Path | None, typer.Option(help="Recorder settings, a TOML file.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Journal folder.")] = JOURNAL,
    user: Annotated[
        str,
        typer.Option(help="User it runs as (default: you); dynamic: a user created by systemd."),
    ] = "",
    install: Annotated[
        bool, typer.Option("--install", help="Write the unit to /etc/systemd/system (needs sudo).")
    ] = False,
) -> None:
    """Print or install a recorder's systemd unit.

    The unit is always restarted, is monitored by systemd's watchdog (fed only while sound is
    captured, analysed and stored), and runs in a sandbox: it can read its bundle and settings and
    write its journal, nothing else.
    """
    from edgeprune_device.bundle.reader import read_bundle
    from edgeprune_device.inference.bundle_store import resolve
    from edgeprune_device.settings import Settings
    from edgeprune_device.settings_reader import read_settings
    from edgeprune_device.system import systemd_unit as unit

    chosen = read_settings(settings) if settings else Settings()
    read = read_bundle(resolve(bundle), chosen.security)
    hop = chosen.decide.hop_seconds or read.hop_samples / read.sample_rate
    text = unit.unit(bundle, out, chosen, settings, user=user, hop_seconds=hop)
    if not install:
        typer.echo(text, nl=False)
        return
    path = unit.install(text)
    steps = "\n".join(f"  {step}" for step in unit.next_steps(out, user))
    typer.echo(f"{path} is written. Now:\n{steps}")


def doctor(
    bundle: Annotated[Path | None, typer.Argument(help="Bundle the recorder will run.")] = None,
    settings: Annotated[Path | None, typer.Option(help="Recorder settings, a TOML file.")] = None,
    journal: Annotated[
        Path, typer.Option(help="Journal folder that listen will write to; it need not exist yet.")
    ] = Path("journal"),
    device: Annotated[
        str, typer.Option(help="Input: identity, name or number (default: that of the settings).")
    ] = "",
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for doctor.json.")] = None,
    seconds: Annotated[float, typer.Option(help="Seconds of sound to record; 0: none.")] = 5.0,
    as_json: Json = False,
) -> None:
    """Check a recorder before deployment.

    Microphone, level, disk, clock, bundle and speed are checked. One row per check: ok, warning,
    problem or unknown, and what to do. Ends with status 1 if there is a problem.
    """
    from edgeprune.core.console import Terminal
    from edgeprune_device.doctor.runner import doctor as run
    from edgeprune_device.doctor.runner import write
    from edgeprune_device.settings import Settings
    from edgeprune_device.settings_overrides import apply_overrides
    from edgeprune_device.settings_reader import read_settings

    chosen = apply_overrides(read_settings(settings) if settings else Settings(),
                     {"audio": {"device": device or None}}, {})  # fmt: skip
    found = run(bundle, chosen, journal, seconds=seconds, say=Terminal().say)
    if out is not None:
        write(found, out)
    print_done(found, found["text"], as_json)
    if not found["fine"]:
        count = found["counts"]["problem"]
        raise EdgepruneError(
            f"{count} problem{'s were' if count > 1 else ' was'} found.",
            "The rows above say what to do.", FAILED_CHECK,
        )  # fmt: skip


def register(app: typer.Typer) -> None:
    """Add the commands to the program's."""
    app.command(epilog="Example: edgeprune doctor bundle --settings recorder.toml")(doctor)
    app.command(epilog="Example: edgeprune status journal --follow")(status)
    app.command(
        epilog="Example: edgeprune service bundle --settings recorder.toml > edgeprune.service"
    )(service)
