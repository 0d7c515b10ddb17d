"""``edgeprune compress``, ``score``, ``verify`` and ``demo``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from edgeprune.cli.options import Json, print_done
from edgeprune_device.errors import EdgepruneError

Model = Annotated[
    str, typer.Argument(help="Model: a folder (config.json, model.safetensors) or a hub id.")
]
Data = Annotated[
    Path, typer.Argument(help="Labelled clips: a folder per class, or a CSV/TSV manifest.")
]
BundleArgument = Annotated[Path, typer.Argument(help="Bundle: a folder, or the same as one .zip.")]
Out = Annotated[Path, typer.Option("--out", "-o", help="Output folder.")]
Label = Annotated[str, typer.Option(help="Label column of the manifest (default: label).")]
Group = Annotated[
    str, typer.Option(help="Column whose values stay in one split: speaker, recording, site.")
]
Recipe = Annotated[
    str,
    typer.Option(help="Preset (quick, depth, trim, mimic, light, tiny, paper-...) or a TOML file."),
]
Accelerator = Annotated[str, typer.Option(help="Device: auto, cpu, cuda or mps (default: auto).")]
Window = Annotated[
    float | None,
    typer.Option(help="Window length in seconds (default: the model's, or the longest clip's)."),
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
    seeds: Annotated[int | None, typer.Option(help="Number of random seeds (default: 3).")] = None,
    max_drop: Annotated[
        float | None, typer.Option(help="Maximum accuracy drop, in percentage points (default: 1).")
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Keep the first N layers instead of searching.")
    ] = None,
    layers: Annotated[
        str, typer.Option(help="Keep these layers (from 0) instead of searching: 0,1,3")
    ] = "",
    pick: Annotated[
        str, typer.Option(help="Layer-selection rule (default: convexity-plateau).")
    ] = "",
    bridge: Annotated[
        bool,
        typer.Option(
            "--bridge", help="Put a linear bridge (ridge regression) in place of removed layers."
        ),
    ] = False,
    steps: Annotated[
        str,
        typer.Option(
            help="Compression steps, in order: depth, trim, reconstruct, mimic, frontend, student "
            "(default: depth)."
        ),
    ] = "",
    ratio: Annotated[
        float | None, typer.Option(help="trim: percentage of the cost to remove (default: 50).")
    ] = None,
    of: Annotated[
        str, typer.Option(help="trim: cost to reduce: macs, parameters or latency (default: macs).")
    ] = "",
    mask_loss: Annotated[
        str, typer.Option(help="trim: mask loss: budget, lagrangian or genova (default: budget).")
    ] = "",
    task: Annotated[
        str,
        typer.Option(
            help="classes, tags (several labels per clip) or ctc (transcripts) (default: classes)."
        ),
    ] = "",
    tokens: Annotated[
        str,
        typer.Option(
            help="ctc: tokens are characters or words, such as phones (default: characters)."
        ),
    ] = "",
    precision: Annotated[
        str, typer.Option(help="Training precision: full or bf16 (default: full).")
    ] = "",
    format: Annotated[
        str, typer.Option(help="Export format: onnx, tflite or onnx,tflite (default: onnx).")
    ] = "",
    together: Annotated[
        bool,
        typer.Option(
            "--together", help="Put both formats in one bundle; each device uses the faster one."
        ),
    ] = False,
    target: Annotated[
        str,
        typer.Option(
            help="Processor to choose the file for: pi4, pi5, x86 or here (default: here)."
        ),
    ] = "",
    recover: Annotated[
        int | None,
        typer.Option(help="Epochs of distillation after the steps (default: the recipe's)."),
    ] = None,
    recipe: Recipe = "",
    accelerator: Accelerator = "",
    redo: Annotated[
        list[str] | None,
        typer.Option(help="Run this stage again although nothing changed. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Compress MODEL into a bundle for the recorder.

    Fits a head and fine-tunes the model on the labels if needed, selects the layers the task needs, distills,
    quantizes, exports, verifies the file on the test clips, measures its speed, and writes a
    report. After an interruption, run the same command again: it resumes. Ends with status 1 if the
    bundle loses more accuracy than --max-drop allows.
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
        distill={"epochs": recover},
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
        list[str] | None, typer.Option(help="Label column; the first one is the task. Repeatable.")
    ] = None,
    group: Group = "",
    window: Window = None,
    frames: Annotated[
        bool,
        typer.Option(
            "--frames", help="Rows with start and end are segments scored within their file."
        ),
    ] = False,
    max_drop: Annotated[
        float | None, typer.Option(help="Maximum accuracy drop, in percentage points (default: 1).")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Skip the layer-removal ablation.")
    ] = False,
    finetune: Annotated[
        bool, typer.Option("--finetune", help="Also fine-tune after each removal (long).")
    ] = False,
    recipe: Recipe = "",
    accelerator: Accelerator = "",
    redo: Annotated[
        list[str] | None,
        typer.Option(help="Run this stage again although nothing changed. Repeatable."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find out which layers of MODEL a task needs.

    MODEL itself is not changed. One pass over the audio gives the graph convexity of each layer,
    for each label column, and the similarity of each pair of layers. Then layers and spans are
    removed one by one, each rule's layer subset is measured on the same clips, and the report
    compares the rules.
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
    teacher: Annotated[
        Path | None, typer.Option(help="The teacher's bundle, to compare with.")
    ] = None,
    label: Label = "",
    group: Group = "",
    split: Annotated[str, typer.Option(help="Split to use: train, valid, test or all.")] = "test",
    max_drop: Annotated[
        float | None,
        typer.Option(
            help="Maximum accuracy drop, in percentage points (default: the recipe's that made "
            "BUNDLE, else 1)."
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for verify.json.")] = None,
    as_json: Json = False,
) -> None:
    """Measure a bundle's accuracy on labelled clips.

    The scores come from the recorder's own runtime. The baseline is the teacher's bundle, or
    without one the teacher's accuracy recorded in BUNDLE. Ends with status 1 if the accuracy is
    more than --max-drop percentage points below it.
    """
    from edgeprune.core.console import Terminal
    from edgeprune.deployment.verify import verify as run

    done = run(
        bundle, data, teacher, label=label, group=group, split=split,
        max_drop=None if max_drop is None else max_drop / 100, out=out, track=Terminal().track,
    )  # fmt: skip
    print_done(done, done["text"], as_json)
    if not done["held"]:
        raise EdgepruneError(done["verdict"], "Allow more with --max-drop.", 1)


def demo(
    out: Out = Path("runs/demo"),
    as_json: Json = False,
) -> None:
    """Run everything on synthetic recordings, offline.

    Makes recordings, compresses a small model, verifies and measures the bundle, and listens to a
    stream with it; about 3 minutes.
    """
    from edgeprune.core.console import Terminal
    from edgeprune.pipeline.demo import demo as run

    done = run(out, Terminal())
    print_done(done, done["text"], as_json)


def _settings(recipe: str, top: dict[str, Any], **tables: dict[str, Any]) -> Any:
    """Merge the recipe and the options that were given, for the whole and for each stage."""
    from edgeprune.core.recipe import RENAMED, load_recipe

    if recipe in RENAMED and not Path(recipe).exists():
        typer.echo(f"note: the preset {recipe} is now called {RENAMED[recipe]}.", err=True)
    given = _present(top)
    given |= {name: found for name, values in tables.items() if (found := _present(values))}
    return load_recipe(recipe, **given)


def _present(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise EdgepruneError(
            f"{text!r} is not a list of whole numbers.", "Example: 0,1,3"
        ) from None
