"""The commands of calibration: choose, take and audit a set; set a bundle's decision on streams."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeprune.cli.options import Json, print_done

group = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Select, record and audit calibration clips.",
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
    int | None,
    typer.Option(help="Required sampling rate in Hz (default: any; all are read at the lowest)."),
]


@group.command(
    epilog="Example: edgeprune calibration select birds/labels.csv --noise night/ --count 200 "
    "-o calibration-set"
)
def select(
    data: Annotated[
        Path, typer.Argument(help="Labelled clips: a folder per class, or a CSV/TSV manifest.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for manifest.csv.")],
    count: Annotated[int, typer.Option(help="Number of clips, noise included.")] = 200,
    noise: Annotated[
        Path | None, typer.Option(help="Folder of field recordings without labels, to mix in.")
    ] = None,
    noise_share: Annotated[
        float, typer.Option(help="Share of noise clips in the set, 0 to 1.")
    ] = 0.2,
    label: Annotated[str, typer.Option(help="Label column of the manifest.")] = "label",
    task: Annotated[str, typer.Option(help="classes, tags or ctc.")] = "classes",
    split: Annotated[str, typer.Option(help="Use this split only: train, valid or test.")] = "",
    rate: Rate = None,
    rule: Annotated[
        str,
        typer.Option(help="Selection rule: facility (typical clips) or farthest (extremes too)."),
    ] = "facility",
    as_json: Json = False,
) -> None:
    """Select a few clips of DATA that cover its labels, levels and spectra, and field noise.

    The same data give the same set. The output compares its coverage with that of random clips.
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
    clips: Annotated[int, typer.Option(help="Number of clips in the folder at the end.")] = 200,
    seconds: Annotated[float, typer.Option(help="Length of a clip in seconds.")] = 5.0,
    every: Annotated[
        float,
        typer.Option(help="Seconds from the start of one clip to the next (default: no pause)."),
    ] = 0.0,
    device: Annotated[
        str, typer.Option(help="Input: identity, name or number, as edgeprune devices lists them.")
    ] = "",
    from_wav: Annotated[
        Path | None, typer.Option(help="Take the clips from this sound file.")
    ] = None,
    rate: Annotated[int, typer.Option(help="Sampling rate in Hz: the bundle's.")] = 16000,
    label: Annotated[str, typer.Option(help="Label of the clips.")] = "background",
    file_format: Annotated[
        str, typer.Option("--format", help="File format: flac or wav.")
    ] = "flac",
    as_json: Json = False,
) -> None:
    """Record clips at the recorder's place through the same audio path as edgeprune listen.

    Ctrl-C keeps the clips recorded so far; the same command resumes until there are enough.
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
    data: Annotated[Path, typer.Argument(help="Calibration set: manifest or folder.")],
    heard: Annotated[
        Path, typer.Argument(help="Recordings to compare it with: a folder or a journal.")
    ],
    window: Annotated[float, typer.Option(help="Window length in seconds.")] = 1.0,
    rate: Rate = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the result to this JSON file.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Test whether field recordings have drifted away from the calibration set, and how."""
    from edgeprune.core.console import Terminal
    from edgeprune_calibration.drift_audit import audit as run

    done = run(data, heard, seconds=window, rate=rate, out=out, track=Terminal().track)
    print_done(done, done["text"], as_json)


def calibrate(
    bundle: Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")],
    recordings: Annotated[list[Path], typer.Argument(help="Recordings with known events.")],
    truth: Annotated[
        list[Path],
        typer.Option(
            help="CSV of a recording's events: start_seconds,end_seconds,label. Repeatable."
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the calibrated bundle.")],
    false_alarms_per_hour: Annotated[
        float | None, typer.Option(help="Target false alarms per hour, all labels together.")
    ] = None,
    precision: Annotated[
        float | None, typer.Option(help="Target precision of each label instead, 0 to 1.")
    ] = None,
    temperature: Annotated[
        bool, typer.Option(help="Fit a temperature first (otherwise the bundle's is kept).")
    ] = True,
    threads: Annotated[int, typer.Option(help="Threads of the runtime.")] = 1,
    as_json: Json = False,
) -> None:
    """Set a bundle's thresholds for a rate of false alarms.

    Thresholds and smoothing are chosen on recordings with known events. Events are counted as
    edgeprune listen would report them. The result is given on the recordings themselves and, as the
    honest figure, held out: each half with the other half's thresholds.
    """
    from edgeprune.core.console import Terminal
    from edgeprune_calibration.calibrate import Target
    from edgeprune_calibration.calibrate import calibrate as run

    done = run(
        bundle, recordings, truth, out, Target(false_alarms_per_hour, precision),
        temperature=temperature, threads=threads, track=Terminal().track,
    )  # fmt: skip
    print_done(done, done["text"], as_json)
