"""What ``edgeprune score`` runs, stage by stage: clips, states, score, measure, finetune, scores."""

from __future__ import annotations

import dataclasses
from dataclasses import asdict
from pathlib import Path

from edgeprune.core.console import Ui
from edgeprune.core.files import read_json
from edgeprune.core.settings import Settings
from edgeprune.data.windows import read_description
from edgeprune.depth_pruning.finetune import finetune
from edgeprune.depth_pruning.measure import measure
from edgeprune.depth_pruning.rule_comparison import join
from edgeprune.depth_pruning.score import score
from edgeprune.depth_pruning.selection_rules import evidence_of
from edgeprune.depth_pruning.states import EVERY_SPLIT, points_of, states
from edgeprune.pipeline.inputs import open_command
from edgeprune_device.errors import EdgepruneError

STAGES = ("clips", "states", "score", "measure", "finetune")


def score_only(
    model: str, data: Path, out: Path, settings: Settings, ui: Ui, redo: tuple[str, ...] = (), *,
    quick: bool = False, trained: bool = False,
) -> Path:  # fmt: skip
    """Score a model's layers as it is.

    Parameters
    ----------
    model, data, out, settings, ui, redo
        As for ``compress``.
    quick : bool
        Only what the states say; no cut is measured.
    trained : bool
        Fine-tune after each cut, too.

    Returns
    -------
    Path
        The folder with ``scores.json``.

    """
    if settings.clips.context == "file" and trained:
        raise EdgepruneError(
            "Stretches heard in their files can be scored, not fine-tuned on.",
            "Leave out --finetune, or --frames.",
        )
    if settings.clips.task == "ctc":
        raise EdgepruneError(
            "Transcripts are no classes, so layers cannot be scored by them.",
            "Score another column (--label), or phones with their times (--frames).",
        )
    if settings.clips.context == "file":  # nothing is trained on stretches: all are scored
        every = dataclasses.replace(settings.score, split=EVERY_SPLIT)
        settings = dataclasses.replace(settings, score=every)
    run, source, clip_folder = open_command("score", model, data, out, settings, ui, redo, STAGES)
    s, where = settings, settings.accelerator
    heard = run.stage(states, points_of(s.score), source, clip_folder, where, name="states")
    scores = run.stage(score, s.score, clip_folder, heard, "", name="score")
    measured: Path | str = ""
    after: Path | str = ""
    if read_description(clip_folder)["unit"] != "clips":
        ui.say("  stretches have no head to measure: cuts are not ablated")
    elif settings.clips.task == "tags":
        ui.say("  cuts are measured on classes only: tags are scored, not ablated")
    elif not quick:
        layers = read_json(scores / "layers.json")
        known = evidence_of(layers, s.prune.tolerance)
        measured = run.stage(measure, s.measure, source, clip_folder, known, where, name="measure")
        if trained:
            after = run.stage(
                finetune, s.finetune, source, clip_folder, measured, asdict(s.teach),
                s.measure.clips, where, name="finetune",
            )  # fmt: skip
    return run.stage(
        join, settings, str(source), clip_folder, scores, measured, after, name="scores"
    )
