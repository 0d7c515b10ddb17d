"""The commands of calibration: choose, take and audit a set; set a bundle's decision on streams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import Json, print_done

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Choose, take and audit the clips that a bundle is calibrated with.",
    epilog="Example: edgeprune calibration select birds/labels.csv -o calibration-set",
)


def register(app: typer.Typer) -> None:
    """Add the group ``calibration`` and the command ``calibrate``."""
    app.add_typer(group, name="calibration")
    app.command(
        epilog="Example: edgeprune calibrate runs/birds/bundle night.wav --truth night.csv "
        "--false-alarms-per-hour 1 -o runs/birds/calibrated"
    )(calibrate)


Rate = Annotated[
    int | None, typer.Option(help="Hz every file must have (any; all are heard at the lowest).")
]


@group.command(
    epilog="Example: edgeprune calibration select birds/labels.csv --noise night/ --count 200 "
    "-o calibration-set"
)
def select(
    data: Annotated[Path, typer.Argument(help="Folder of class folders, or a CSV/TSV manifest.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for manifest.csv.")],
    count: Annotated[int, typer.Option(help="Clips wanted, the noise's among them.")] = 200,
    noise: Annotated[
        Path | None, typer.Option(help="Recordings of the field without labels, mixed in.")
    ] = None,
    noise_share: Annotated[float, typer.Option(help="Share of the noise in the set.")] = 0.2,
    label: Annotated[str, typer.Option(help="Column of the manifest with the labels.")] = "label",
    task: Annotated[str, typer.Option(help="classes, tags or ctc.")] = "classes",
    split: Annotated[str, typer.Option(help="Only of this split: train, valid, test.")] = "",
    rate: Rate = None,
    rule: Annotated[
        str, typer.Option(help="facility (typical clips) or farthest (extremes, too).")
    ] = "facility",
    as_json: Json = False,
) -> None:
    """Pick few clips of DATA that cover its labels, levels and spectra, and the field's noise.

    The same data give the same set. Says what the set covers, and what as many clips drawn by
    chance would.
    """
    from edgeprune.core.console import Terminal
    from edgeprune_calibration.select_clips import select as run

    done = run(
        data, count, out, label=label, task=task, split=split, noise=noise,
        noise_share=noise_share, rate=rate, rule=rule, track=Terminal().track,
    )  # fmt: skip
    print_done(done, done["text"], as_json)


@group.command(
    epilog="Example: edgeprune calibration record -o night --clips 200 --seconds 5 --every 120"
)
def record(
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for clips and manifest.csv.")],
    clips: Annotated[int, typer.Option(help="Clips wanted in the folder.")] = 200,
    seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 5.0,
    every: Annotated[
        float, typer.Option(help="Seconds from a clip's start to the next one's (no pause).")
    ] = 0.0,
    device: Annotated[str, typer.Option(help="Input device, by name or number.")] = "",
    from_wav: Annotated[Path | None, typer.Option(help="Take them from a file, same path.")] = None,
    rate: Annotated[int, typer.Option(help="Hz: the bundle's.")] = 16000,
    label: Annotated[str, typer.Option(help="What the clips are called.")] = "background",
    file_format: Annotated[str, typer.Option("--format", help="flac or wav.")] = "flac",
    as_json: Json = False,
) -> None:
    """Record clips where the recorder stands, as listen hears them, spread over a time.

    Ctrl-C keeps what there is; the same command goes on until there are enough.
    """
    from edgeprune.core.console import Terminal
    from edgeprune_calibration.record_clips import RecordingPlan
    from edgeprune_calibration.record_clips import record as run

    plan = RecordingPlan(clips, seconds, every, rate, label, file_format)
    done = run(out, plan, device=device or None, from_wav=from_wav, say=Terminal().say)
    text = f"{done['clips']} clips in {out} ({done['taken']} now; ended: {done['reason']})"
    if done["silent"]:
        text += f"\n{done['silent']} of them are silent: is the microphone muted?"
    print_done(done, text, as_json)


@group.command(
    epilog="Example: edgeprune calibration audit calibration-set/manifest.csv journal/clips"
)
def audit(
    data: Annotated[Path, typer.Argument(help="The calibration set: manifest or folder.")],
    heard: Annotated[Path, typer.Argument(help="What was heard: folder of recordings, journal.")],
    window: Annotated[float, typer.Option(help="Seconds that are compared at a time.")] = 1.0,
    rate: Rate = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write the result here.")] = None,
    as_json: Json = False,
) -> None:
    """Say whether what recorders heard has moved away from the calibration set, and how."""
    from edgeprune.core.console import Terminal
    from edgeprune_calibration.drift_audit import audit as run

    done = run(data, heard, seconds=window, rate=rate, out=out, track=Terminal().track)
    print_done(done, done["text"], as_json)


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")],
    recordings: Annotated[list[Path], typer.Argument(help="Recordings whose events are known.")],
    truth: Annotated[
        list[Path],
        typer.Option(help="CSV of a recording's events: start_seconds,end_seconds,label. Repeat."),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the new bundle.")],
    false_alarms_per_hour: Annotated[
        float | None, typer.Option(help="Wanted, over all labels together.")
    ] = None,
    precision: Annotated[
        float | None, typer.Option(help="Wanted of each label instead, 0 to 1.")
    ] = None,
    temperature: Annotated[
        bool, typer.Option(help="Fit a temperature first; otherwise the bundle's stays.")
    ] = True,
    threads: Annotated[int, typer.Option(help="Threads of the runtime.")] = 1,
    as_json: Json = False,
) -> None:
    """Set a bundle's thresholds and smoothing on recordings, by false alarms per hour.

    Counted as listen would report. The result is shown on the recordings themselves and, more
    honestly, held out: each half decided as the other half would have it.
    """
    from edgeprune.core.console import Terminal
    from edgeprune_calibration.calibrate import Target
    from edgeprune_calibration.calibrate import calibrate as run

    done = run(
        bundle, recordings, truth, out, Target(false_alarms_per_hour, precision),
        temperature=temperature, threads=threads, track=Terminal().track,
    )  # fmt: skip
    print_done(done, done["text"], as_json)
