"""The commands that look after a recorder: its clips, its bundles, and a dump for who helps."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import Json, print_done
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

JournalArgument = Annotated[Path, typer.Argument(help="Journal folder.")]
SettingsOption = Annotated[
    Path | None, typer.Option(help="Recorder settings, a TOML file: the keys it trusts.")
]
StoreArgument = Annotated[Path, typer.Argument(help="Folder of installed bundles.")]


def clips(
    journal: JournalArgument,
    lock: Annotated[
        list[str] | None, typer.Option(help="Never delete this clip to free space. Repeatable.")
    ] = None,
    unlock: Annotated[list[str] | None, typer.Option(help="Remove a lock. Repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """List, lock or unlock the clips of JOURNAL.

    A locked clip is never deleted to free space. Clips are named by the id of their detection.
    """
    from edgeprune_device.clips.forget import list_clips
    from edgeprune_device.clips.forget import lock as run

    if lock or unlock:
        done = {"locked": run(journal, lock, locked=True) if lock else [],
                "unlocked": run(journal, unlock, locked=False) if unlock else []}  # fmt: skip
        lines = [f"{what}  {path}" for what, paths in done.items() for path in paths]
        print_done(done, "\n".join(lines), as_json)
        return
    found = list_clips(journal)
    shown = [
        f"{clip['utc'] or '':29}  {clip['score'] or 0:4.2f}  {'locked' if clip['locked'] else '':6}  "
        f"{clip['id']}  {printable(clip['label'] or '')}  {clip['path']}" for clip in found
    ]  # fmt: skip
    print_done({"clips": found}, "\n".join(shown) or "There are no clips.", as_json)


def forget(
    journal: JournalArgument,
    label: Annotated[str | None, typer.Option(help="Delete clips of this label.")] = None,
    before: Annotated[
        str | None, typer.Option(help="Delete clips from before this date (UTC): 2026-05-01")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Delete all clips.")] = False,
    rows: Annotated[bool, typer.Option("--rows", help="Delete their detections too.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask for confirmation.")] = False,
    as_json: Json = False,
) -> None:
    """Delete clips of JOURNAL for good.

    Locked clips are included; with --rows their detections are deleted too.
    """
    from edgeprune_device.clips.forget import ClipFilter, moment_of, to_forget
    from edgeprune_device.clips.forget import forget as run

    if everything == (label is not None or before is not None):
        raise EdgepruneError("Which clips?", "Give --label, --before or both, or else --all.")
    which = ClipFilter(label, moment_of(before) if before else None)
    found = to_forget(journal, which)
    locked = sum(clip.locked for clip in found)
    if not yes:
        what = f"{len(found)} clips ({locked} of them locked)" + (
            " and their detections" if rows else ""
        )
        if as_json or not typer.confirm(f"Delete {what} for good?"):
            raise EdgepruneError("Nothing was deleted.", "Add --yes.", FAILED_CHECK)
    done = run(journal, which, rows=rows)
    text = f"{done['clips']} clips and {done['detections']} detections were deleted."
    if done["waiting"]:
        text += (f" {done['waiting']} rows still wait to be written by a recorder: "
                 "run the command again when it has.")  # fmt: skip
    print_done(done, text, as_json)


def support(
    journal: JournalArgument,
    out: Annotated[Path, typer.Option("--out", "-o", help="The .zip file.")] = Path("support.zip"),
    settings: Annotated[Path | None, typer.Option(help="Recorder settings, a TOML file.")] = None,
    bundle: Annotated[Path | None, typer.Option(help="Bundle the recorder runs.")] = None,
    service: Annotated[str, typer.Option(help="Name of its systemd unit.")] = "edgeprune",
    with_place: Annotated[bool, typer.Option("--with-place", help="Include coordinates.")] = False,
    as_json: Json = False,
) -> None:
    """Collect diagnostic files into one .zip file.

    Without sound, secrets, labels or the location.
    """
    from edgeprune_device.doctor.support_archive import Asked
    from edgeprune_device.doctor.support_archive import support as run

    done = run(Asked(journal, settings, bundle, service, with_place), out)
    lines = [f"{size:>9,} bytes  {name}" for name, size in done["parts"].items()]
    text = "\n".join([f"{out}: check its content before you send it.", *lines])
    print_done(done, text, as_json)


def install(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")],
    store: StoreArgument,
    settings: SettingsOption = None,
    as_json: Json = False,
) -> None:
    """Check BUNDLE and make it the current one in STORE.

    It is checked on this machine; the previous bundle is kept, see rollback.
    """
    from edgeprune_device.inference.bundle_store import install as run

    done = run(bundle, store, read=_reader(settings))
    said = "is current" if done.changed else "was current already"
    text = f"{done.name} {said} (golden outputs within {done.golden_difference:.2g})."
    if done.previous:
        text += f" The one before: {done.previous}."
    print_done(vars(done), text, as_json)


def rollback(store: StoreArgument, settings: SettingsOption = None, as_json: Json = False) -> None:
    """Make the previous bundle in STORE current again."""
    from edgeprune_device.inference.bundle_store import rollback as run

    done = run(store, read=_reader(settings))
    text = f"{done.name} is current again. The one before: {done.previous}."
    print_done(vars(done), text, as_json)


def _reader(settings: Path | None) -> Any:
    """Return what reads a bundle, with the keys that a recorder's settings trust."""
    from edgeprune_device.bundle.reader import read_bundle
    from edgeprune_device.settings import Settings
    from edgeprune_device.settings_reader import read_settings

    security = (read_settings(settings) if settings else Settings()).security
    return partial(read_bundle, security=security)


def printable(text: str) -> str:
    """Return a label without what would move a terminal's cursor."""
    return "".join(c if c.isprintable() else "?" for c in text)


def register(app: typer.Typer) -> None:
    """Add the commands."""
    for run, example in (
        (clips, "edgeprune clips journal --lock 5d41402abc4b2a76"),
        (forget, "edgeprune forget journal --before 2026-05-01"),
        (support, "edgeprune support journal --settings recorder.toml -o support.zip"),
        (install, "edgeprune install birds.zip /var/lib/edgeprune/bundles"),
        (rollback, "edgeprune rollback /var/lib/edgeprune/bundles"),
    ):
        app.command(epilog=f"Example: {example}")(run)
