"""``edgeprune compress``, ``score``, ``verify`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import Json, print_done
from edgeprune_device.errors import EdgepruneError

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
    typer.Option(help="A preset (depth, trim, mimic, light, tiny, paper-...), or a TOML file."),
]
Accelerator = Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")]
Window = Annotated[
    float | None, typer.Option(help="Window in seconds (the model's, or the clips').")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command(
        epilog="Example: edgeprune compress facebook/wav2vec2-base-960h birds/labels.csv "
        "-o runs/birds"
    )(compress)
    app.command(
        epilog="Example: edgeprune score facebook/wav2vec2-base-960h birds/labels.csv -o "
        "runs/score, or of phones: edgeprune score MODEL timit/phones.csv --label phone --frames "
        "-o runs/phones"
    )(score)
    app.command(
        epilog="Example: edgeprune verify runs/birds/bundle birds/labels.csv --teacher "
        "runs/birds/seed-0/export-teacher/bundle"
    )(verify)
    app.command(epilog="Example: edgeprune demo -o runs/demo")(demo)


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
    from edgeprune.core.console import Terminal
    from edgeprune.core.distributed import rank
    from edgeprune.pipeline.compress import check_floor
    from edgeprune.pipeline.compress import compress as run

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
    done = run(model, data, out, settings, ui=Terminal(), redo=redo or ())
    if rank():  # not the main process of several
        return
    print_done(done.report, str(done), as_json)
    check_floor(done.report, settings.max_drop)


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
    from edgeprune.core.console import Terminal
    from edgeprune.pipeline.score import score as run

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
    done = run(
        model, data, out, settings, ui=Terminal(), redo=redo or (), ablation=not quick,
        finetune=finetune,
    )  # fmt: skip
    print_done(done.scores, done.text, as_json)


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
    from edgeprune.core.console import Terminal
    from edgeprune.deployment.verify import verify as run

    done = run(
        bundle, data, teacher, label=label, group=group, split=split, max_drop=max_drop / 100,
        out=out, track=Terminal().track,
    )  # fmt: skip
    print_done(done, done["text"], as_json)
    if not done["held"]:
        raise EdgepruneError(done["verdict"], "Allow more with --max-drop.", 1)


def demo(
    out: Out = Path("runs/demo"),
    as_json: Json = False,
) -> None:
    """Run everything on recordings and a model made here, offline, in a few minutes."""
    from edgeprune.core.console import Terminal
    from edgeprune.pipeline.demo import demo as run

    done = run(out, Terminal())
    print_done(done, done["text"], as_json)


def _settings(recipe: str, top: dict[str, Any], **tables: dict[str, Any]) -> Any:
    """Merge the recipe and the options that were given, for the whole and for each stage."""
    from edgeprune.core.recipe import RENAMED, build_settings, find_recipe, read_recipe

    if recipe in RENAMED and not Path(recipe).exists():
        typer.echo(f"note: the preset {recipe} is now called {RENAMED[recipe]}.", err=True)
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
