"""The command ``score``: clips, states, score, measure, finetune, scores."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from edgeprune.core.console import Ui, default_ui
from edgeprune.core.files import read_json
from edgeprune.core.recipe import settings_of
from edgeprune.core.settings import Settings
from edgeprune.data.windows import read_description
from edgeprune.depth_pruning.finetune import finetune as tune
from edgeprune.depth_pruning.measure import measure
from edgeprune.depth_pruning.rule_comparison import write_scores
from edgeprune.depth_pruning.score import score as layer_scores
from edgeprune.depth_pruning.selection_rules import evidence_of
from edgeprune.depth_pruning.states import EVERY_SPLIT, points_of, states
from edgeprune.pipeline.inputs import open_command
from edgeprune.reports.results import ScoreResult
from edgeprune.reports.score_report import score_report
from edgeprune_device.errors import EdgepruneError

STAGES = ("clips", "states", "score", "measure", "finetune")


def score(
    model: str | Path, data: str | Path, out: str | Path, settings: Settings | str | Path | None = None, *,
    ui: Ui | None = None, redo: Sequence[str] = (), ablation: bool = True, finetune: bool = False,
) -> ScoreResult:  # fmt: skip
    """Measure which layers of a model a task needs, without changing the model; write a report.

    Parameters
    ----------
    model, data, out, settings, ui, redo
        As for ``compress``.
    ablation : bool
        Measure the accuracy without every layer and span, and of the layers that every rule keeps.
        False: only compare hidden states (convexity, similarity).
    finetune : bool
        Also fine-tune every layer subset, which takes long.

    Returns
    -------
    ScoreResult

    Raises
    ------
    EdgepruneError
        The input has an error; or fine-tuning was requested without ablation, on segments of files,
        or on transcripts.

    """
    if finetune and not ablation:
        raise EdgepruneError(
            "--finetune needs the ablation, which --quick leaves out.", "Use one of them."
        )
    model, data, out = str(model), Path(data), Path(out)
    settings, ui = settings_of(settings), ui or default_ui()
    if settings.clips.context == "file" and finetune:
        raise EdgepruneError(
            "--finetune cannot train on segments of files (--frames).",
            "Leave out --finetune, or --frames.",
        )
    if settings.clips.task == "ctc":
        raise EdgepruneError(
            "Transcripts have no classes by which layers could be scored.",
            "Score another column (--label), or phones with their times (--frames).",
        )
    if settings.clips.context == "file":  # nothing is trained on segments: all are scored
        every = dataclasses.replace(settings.score, split=EVERY_SPLIT)
        settings = dataclasses.replace(settings, score=every)
    run, source, clip_folder = open_command(
        "score", model, data, out, settings, ui, tuple(redo), STAGES
    )
    s, where = settings, settings.accelerator
    heard = run.stage(states, points_of(s.score), source, clip_folder, where, name="states")
    scores = run.stage(layer_scores, s.score, clip_folder, heard, "", name="score")
    measured: Path | str = ""
    after: Path | str = ""
    if read_description(clip_folder)["unit"] != "clips":
        ui.say("  no ablation: there is no head for segments of files")
    elif settings.clips.task == "tags":
        ui.say("  no ablation: it needs classes, not tags")
    elif ablation:
        layers = read_json(scores / "layers.json")
        known = evidence_of(layers, s.prune.tolerance)
        measured = run.stage(measure, s.measure, source, clip_folder, known, where, name="measure")
        if finetune:
            after = run.stage(
                tune, s.finetune, source, clip_folder, measured, asdict(s.teach),
                s.measure.clips, where, name="finetune",
            )  # fmt: skip
    folder = run.stage(
        write_scores, settings, str(source), clip_folder, scores, measured, after, name="scores"
    )
    return score_report(folder, out)
