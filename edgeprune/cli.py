"""The commands: signatures, help, and one call each. The work's imports stand in the bodies.

Nothing heavy is loaded for ``--help``; ``main`` is the only place that prints an error or picks an
exit status.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune import (
    __version__,
    cli_bench,
    cli_bundle,
    cli_calibration,
    cli_journal,
    cli_keep,
    cli_listen,
    cli_operate,
    cli_sensitivity,
)
from edgeprune.cli_common import Json
from edgeprune.cli_common import print_done as _print
from edgeprune_device.errors import BAD_INPUT, NOT_INSTALLED, EdgepruneError

EXTRAS = dict.fromkeys(
    (
        "torch",
        "transformers",
        "accelerate",
        "safetensors",
        "onnx",
        "scipy",
        "matplotlib",
        "jinja2",
        "rich",
    ),
    "compress",
)
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help costs more start-up than all the rest together
    help="Shrink an audio transformer until it fits the recorder in the field, and run it there.",
    epilog="Start with: edgeprune demo",
)

Model = Annotated[
    str, typer.Argument(help="Model folder (config.json, model.safetensors) or hub id.")
]
Data = Annotated[Path, typer.Argument(help="Folder of class folders, or a CSV/TSV manifest.")]
BundleArgument = Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")]
Label = Annotated[str, typer.Option(help="Column of the manifest with the classes.")]
Group = Annotated[
    str, typer.Option(help="Column that stays on one side of a split: speaker, site.")
]
Recipe = Annotated[
    str,
    typer.Option(help="A preset (depth, trim, mimic, light, tiny, paper-seed1 to 4), or a TOML."),
]
Accelerator = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Window = Annotated[
    float | None, typer.Option(help="Window in seconds (the model's, or the clips').")
]


@app.command(
    epilog="Example: edgeprune compress facebook/wav2vec2-base-960h birds/labels.csv -o runs/birds"
)
def compress(
    model: Model,
    data: Data,
    out: Out,
    label: Label = "",
    group: Group = "",
    window: Window = None,
    seeds: Annotated[int | None, typer.Option(help="Repetitions, for the spread (3).")] = None,
    max_drop: Annotated[float | None, typer.Option(help="Points that may be lost (1).")] = None,
    keep: Annotated[int | None, typer.Option(help="Keep the first N layers, search none.")] = None,
    layers: Annotated[str, typer.Option(help="Keep these layers, counted from 0: 0,1,3")] = "",
    pick: Annotated[
        str, typer.Option(help="Rule that orders the layers (convexity-plateau).")
    ] = "",
    bridge: Annotated[
        bool, typer.Option("--bridge", help="A fitted linear layer over each gap.")
    ] = False,
    steps: Annotated[
        str, typer.Option(help="What makes it smaller, in order: depth,trim,mimic (the recipe's).")
    ] = "",
    ratio: Annotated[
        float | None, typer.Option(help="Trim: per cent of the cost to remove (50).")
    ] = None,
    of: Annotated[str, typer.Option(help="Trim: cost in macs, parameters or latency (macs).")] = "",
    mask_loss: Annotated[
        str, typer.Option(help="Trim: budget, lagrangian, or genova, the paper's own (budget).")
    ] = "",
    task: Annotated[str, typer.Option(help="classes, tags (several a clip) or ctc (text).")] = "",
    tokens: Annotated[
        str, typer.Option(help="Of a transcript: characters, or words such as phones (characters).")
    ] = "",
    precision: Annotated[str, typer.Option(help="Of training: full or bf16.")] = "",
    format: Annotated[str, typer.Option(help="onnx, tflite, or both: onnx,tflite (onnx).")] = "",
    together: Annotated[
        bool, typer.Option("--together", help="Both formats in one bundle; the board picks.")
    ] = False,
    target: Annotated[
        str, typer.Option(help="Processor the file is chosen for: pi4, pi5, x86 or here (here).")
    ] = "",
    recipe: Recipe = "",
    accelerator: Accelerator = "",
    redo: Annotated[list[str] | None, typer.Option(help="Stage to run again.")] = None,
    as_json: Json = False,
) -> None:
    """Turn MODEL and labelled clips into a bundle the recorder runs.

    Teaches the model the labels if it must, finds the layers the task needs, distills the rest
    away, quantizes, verifies on the test clips, measures the speed, and reports. Run the same
    command again after an interruption: it goes on where it stopped.
    """
    from edgeprune.console import Terminal
    from edgeprune.pipeline import check_floor
    from edgeprune.pipeline import compress as run

    settings = _settings(
        recipe,
        {"seeds": seeds, "accelerator": accelerator or None, "precision": precision or None,
         "steps": tuple(x.strip() for x in steps.split(",")) if steps else None,
         "max_drop": None if max_drop is None else max_drop / 100},
        clips={"label": label or None, "group": group or None, "window_seconds": window,
               "task": task or None, "tokens": tokens or None},
        prune={"keep": keep, "layers": _numbers(layers) or None, "pick": pick or None,
               "bridge": bridge or None},
        export={"formats": tuple(x.strip() for x in format.split(",")) if format else None,
                "together": together or None},
        quantize={"target": target or None},
        trim={"ratio": None if ratio is None else ratio / 100, "of": of or None,
              "mask_loss": mask_loss or None},
    )  # fmt: skip
    done = run(model, data, out, settings, Terminal(), tuple(redo or ()))
    if not done:  # not the main process of several
        return
    _print(done, done["text"], as_json)
    check_floor(done, settings.max_drop)


@app.command(
    epilog="Example: edgeprune score facebook/wav2vec2-base-960h birds/labels.csv -o runs/score, "
    "or of phones: edgeprune score MODEL timit/phones.csv --label phone --frames -o runs/phones"
)
def score(
    model: Model,
    data: Data,
    out: Out,
    label: Annotated[
        list[str] | None, typer.Option(help="Column with classes; the first is the task. Repeat.")
    ] = None,
    group: Group = "",
    window: Window = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="Rows (start, end) are stretches of their files.")
    ] = False,
    max_drop: Annotated[float | None, typer.Option(help="Points that may be lost (1).")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Measure no cut of the model.")] = False,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Fine-tune after every cut, too (long).")
    ] = False,
    recipe: Recipe = "",
    accelerator: Accelerator = "",
    redo: Annotated[list[str] | None, typer.Option(help="Stage to run again.")] = None,
    as_json: Json = False,
) -> None:
    """Find out which layers of MODEL a task needs, as the model is.

    One pass over the audio gives every layer's convexity, for every labelling, and the likeness of
    every two layers. Then layers and spans are really removed, every rule's choice is measured on
    the same clips, and the report says which rule won. --quick leaves the measuring out.
    """
    from edgeprune.console import Terminal
    from edgeprune.score_report import score_report
    from edgeprune.scoring import score_only

    if quick and finetune:
        raise EdgepruneError("Both --quick and --finetune were given.", "Use one of them.")
    task, *others = label or [""]
    settings = _settings(
        recipe,
        {"accelerator": accelerator or None,
         "max_drop": None if max_drop is None else max_drop / 100},
        clips={"label": task or None, "group": group or None, "window_seconds": window,
               "context": "file" if frames else None},
        score={"labelings": tuple(others) or None},
    )  # fmt: skip
    folder = score_only(
        model, data, out, settings, Terminal(), tuple(redo or ()), quick=quick, trained=finetune
    )
    done = score_report(folder, out)
    _print(done, done["text"], as_json)


@app.command(epilog="Example: edgeprune verify runs/birds/bundle birds/labels.csv --teacher "
             "runs/birds/seed-0/export-teacher/bundle")  # fmt: skip
def verify(
    bundle: BundleArgument,
    data: Data,
    teacher: Annotated[Path | None, typer.Option(help="Its teacher's bundle, to compare.")] = None,
    label: Label = "",
    group: Group = "",
    split: Annotated[str, typer.Option(help="train, valid, test, or all clips.")] = "test",
    max_drop: Annotated[float, typer.Option(help="Points of accuracy that may be lost.")] = 1.0,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write verify.json here.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a bundle's own accuracy on clips, through the recorder's runtime.

    The baseline is the teacher's bundle if it is given, otherwise the teacher's accuracy that the
    bundle records. Ends with status 1 if the bundle is more than --max-drop points under it.
    """
    from edgeprune.console import Terminal
    from edgeprune.verify import verify_command

    done = verify_command(
        bundle, data, teacher, label=label, group=group, split=split, max_drop=max_drop / 100,
        out=out, track=Terminal().track,
    )  # fmt: skip
    _print(done, done["text"], as_json)
    if not done["held"]:
        raise EdgepruneError(done["verdict"], "Allow more with --max-drop.", 1)


app.command(epilog=cli_listen.EPILOG)(cli_listen.listen)


@app.command(epilog="Example: edgeprune devices")
def devices(as_json: Json = False) -> None:
    """List the inputs that listen can record from."""
    from edgeprune_device.audio.devices import list_aside, table

    found = list_aside()
    _print({"devices": [one.as_dict() for one in found]}, table(found), as_json)


@app.command(epilog="Example: edgeprune demo -o runs/demo")
def demo(
    out: Out = Path("runs/demo"),
    as_json: Json = False,
) -> None:
    """Run everything on recordings and a model made here, offline, in a few minutes."""
    from edgeprune.console import Terminal
    from edgeprune.demo import demo as run

    done = run(out, Terminal())
    _print(done, done["text"], as_json)


app.add_typer(cli_calibration.app, name="calibration")
app.command(
    epilog="Example: edgeprune calibrate runs/birds/bundle night.wav --truth night.csv "
    "--false-alarms-per-hour 1 -o runs/birds/calibrated"
)(cli_calibration.calibrate)
app.command(epilog=cli_sensitivity.EPILOG)(cli_sensitivity.sensitivity)
cli_journal.register(app)
cli_operate.register(app)
app.command(epilog=cli_bench.EPILOG)(cli_bench.bench)
cli_bundle.register(app)
cli_keep.register(app)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Take the options before the command."""
    if version:
        typer.echo(f"edgeprune {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; the only place that prints an error or picks an exit status."""
    try:
        app()
    except EdgepruneError as error:
        fail(str(error), error.hint, error.status)
    except SystemExit as end:  # typer turns Ctrl-C into this status and says nothing
        if end.code == INTERRUPTED:
            fail(
                "Interrupted.",
                "Run the same command again; what can be resumed goes on.",
                INTERRUPTED,
            )
        raise
    except OSError as error:
        if error.filename is None:  # no file was named: a defect of ours
            raise
        fail(f"{error.filename}: {error.strerror}.", "", BAD_INPUT)
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if name not in EXTRAS:
            raise
        hint = f"pip install 'edgeprune[{EXTRAS[name]}]'"
        fail(f"This command needs {name}, which is not installed.", hint, NOT_INSTALLED)


def fail(message: str, hint: str, status: int) -> None:
    """Print one error and end the program."""
    sys.stderr.write(f"error: {message}\n" + (f"hint: {hint}\n" if hint else ""))
    sys.stderr.flush()
    raise SystemExit(status)


def _settings(recipe: str, top: dict[str, Any], **tables: dict[str, Any]) -> Any:
    """Merge the recipe and the options that were given, for the whole and for each stage."""
    from edgeprune.recipes import build_settings, find_recipe, read_recipe

    given = _present(top)
    given |= {name: found for name, values in tables.items() if (found := _present(values))}
    return build_settings(read_recipe(find_recipe(recipe)) if recipe else {}, given)


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise EdgepruneError(
            f"{text!r} is not a list of whole numbers.", "Example: 0,1,3"
        ) from None


if __name__ == "__main__":
    main()
