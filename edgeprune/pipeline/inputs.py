"""Start of ``compress`` and ``score``: check the inputs, open the run, read the clips."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgeprune.core import distributed
from edgeprune.core.console import Ui
from edgeprune.core.recipe import to_toml
from edgeprune.core.settings import Settings
from edgeprune.core.stages import RECIPE, Run, open_run
from edgeprune.data.windows import load_windows
from edgeprune.depth_pruning.prune import fixed_layers
from edgeprune.depth_pruning.score import choose_labelings
from edgeprune.depth_pruning.states import choose_points
from edgeprune.models.checkpoints import read_checkpoint
from edgeprune.models.families import check_keep
from edgeprune.pipeline.clips import clips
from edgeprune_calibration.dataset import read_data
from edgeprune_device.errors import EdgepruneError


def open_command(
    command: str, model: str, data: Path, out: Path, settings: Settings, ui: Ui,
    redo: tuple[str, ...], known: Sequence[str],
) -> tuple[Run, str | Path, Path]:  # fmt: skip
    """Open the run and read the clips; an error in model or data leaves nothing behind.

    Parameters
    ----------
    command : str
        ``compress`` or ``score``.
    model, data, out, settings, ui, redo
        As for ``pipeline.compress``.
    known : sequence of str
        Names of the command's stages.

    Returns
    -------
    run : Run
        The run.
    source : Path or str
        The model: a folder's full path, or a hub id.
    clip_folder : Path
        Folder of the stage ``clips``.

    Raises
    ------
    EdgepruneError
        The input has an error.

    """
    _check_stages(redo, known)
    checkpoint = read_checkpoint(model)
    if keep := fixed_layers(settings.prune, checkpoint.depth):
        check_keep(checkpoint.config, keep, checkpoint.depth)
    if command == "compress":
        _check_steps(checkpoint.config, settings)
    in_files = settings.clips.context == "file"
    if in_files and command == "compress":
        raise EdgepruneError(
            'clips.context = "file" is for edgeprune score only: segments cannot be trained on.',
            "Remove clips.context: rows with start and end are then separate clips.",
        )
    if command == "compress" and settings.score.split in ("test", "all"):
        raise EdgepruneError(
            f"score.split = {settings.score.split!r} would choose layers on the test clips.",
            "Use valid or train.",
        )
    checkpoint.check_task(settings.clips.task)
    dataset = read_data(
        data, settings.clips.label, settings.clips.group or None, segments=in_files,
        task=settings.clips.task, tokens=settings.clips.tokens,
    )  # fmt: skip
    distributed.choose_device(settings.accelerator)
    source: str | Path = Path(model).resolve() if Path(model).exists() else model
    identity = {"command": command, "model": str(source), "data": str(data.resolve()),
                "label": settings.clips.label}  # fmt: skip
    digest = dataset.digest(ui.track)
    with distributed.main_first():
        run = open_run(out, identity, ui)
        if not distributed.rank():
            _forget(run, redo, settings.seeds)
            (out / RECIPE).write_text(to_toml(settings), "utf-8")
    try:
        folder = run.stage(clips, settings.clips, source, data, digest, name="clips")
        windows = load_windows(folder)
        _, points = choose_points(windows, settings.score)
        wanted = settings.score.labelings
        choose_labelings(windows, points, settings.clips.label, dataset.group_column, wanted)
    except EdgepruneError:
        run.delete_if_unused("clips")
        raise
    return run, source, folder


def _check_steps(config: Any, settings: Settings) -> None:
    """Raise if a step cannot work on the model, before hours of training."""
    from edgeprune.replacement.frontend_placement import check_front_end
    from edgeprune.replacement.mimic_placement import check_mimic

    if "student" in settings.steps:  # the following steps work on edgeprune's own model
        return
    if "mimic" in settings.steps:
        shortened = "depth" in settings.steps
        check_mimic(config, settings.mimic, shortened, settings.teach.head)
    if "frontend" in settings.steps:
        check_front_end(config, settings.frontend)


def _check_stages(names: Sequence[str], known: Sequence[str]) -> None:
    """Raise if a stage is not known."""
    for name in names:
        if name not in known:
            raise EdgepruneError(f"--redo {name!r} is not a stage.", f"Known: {', '.join(known)}.")


def _forget(run: Run, redo: Sequence[str], seeds: int) -> None:
    for name in redo:
        for folder in [f"seed-{seed}/{name}" for seed in range(seeds)] + [name]:
            run.delete_stage(folder)
