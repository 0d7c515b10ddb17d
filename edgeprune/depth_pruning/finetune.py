"""The stage ``finetune``: accuracy of the rules' layer subsets after fine-tuning.

Each distinct subset is trained once, on the labels alone (arXiv 2408.11858, figure 2), starting
from the given model. Every finished subset is saved, so that an interrupted run resumes there.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeprune.core import distributed
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import read_json, write_json
from edgeprune.core.settings import Finetune, Teach
from edgeprune.data.clip_subsets import balanced_subset, groups_of_clips
from edgeprune.data.tasks import task_of
from edgeprune.data.windows import load_windows
from edgeprune.depth_pruning.measure import cut_name
from edgeprune.depth_pruning.selection_rules import RULES
from edgeprune.metrics.statistics import bootstrap_interval
from edgeprune.models import loading
from edgeprune.models.families import keep_layers
from edgeprune.training import loop
from edgeprune.training.teach import fine_tune

SEED = 0


def finetune(
    model: str | Path, clips: Path, measured: Path, teaching: dict[str, Any], most: int,
    accelerator: str, *, out: Path, settings: Finetune, ui: Ui,
) -> None:  # fmt: skip
    """Write ``finetuned.json``: accuracies after fine-tuning by layer subset, and ``right/*.npy``.

    Parameters
    ----------
    model : Path or str
        Model folder or hub id.
    clips, measured : Path
        Folders of the stages ``clips`` and ``measure``.
    teaching : dict
        Settings of the stage ``teach``, except for the epochs.
    most : int
        Largest number of test clips, as for ``measure``.
    accelerator : str
        ``auto``, ``cpu``, ``cuda`` or ``mps``.

    """
    keeps = read_json(measured / "measured.json")["keeps"]
    windows = load_windows(clips)
    device = distributed.choose_device(accelerator)
    valid, test = windows.split("valid"), balanced_subset(windows, "test", most)
    plan = replace(Teach(**teaching), epochs=settings.epochs)
    groups = groups_of_clips(test)
    (out / "right").mkdir(exist_ok=True)
    found: dict[str, dict[str, Any]] = {}
    cuts = wanted_cuts(keeps, settings.rules)
    for number, keep in enumerate(cuts, 1):
        name = cut_name(keep)
        record = out / "right" / f"{name}.json"
        if not record.exists():
            torch.manual_seed(SEED)  # for the weights of a new head
            student, labels, _ = loading.load_for(
                str(model), windows.labels, window_samples=windows.window_samples
            )
            keep_layers(student, keep)
            session = loop.TrainingSession(
                out / "work" / name, device, ui, f"layer subset {number} of {len(cuts)}"
            )
            fine_tune(student, windows, labels, plan, SEED, session)
            logits = loop.predict(student.to(device), test, device)
            right = task_of(test.task).correctness(logits, test, labels)
            np.save(out / "right" / f"{name}.npy", right)
            facts = {"keep": list(keep), "accuracy": float(right.mean()),
                     "interval": list(bootstrap_interval(right, groups)),
                     "valid_accuracy": loop.evaluate(student, valid, labels, device)}  # fmt: skip
            write_json(record, facts)
            shutil.rmtree(out / "work")
        found[name] = read_json(record)
        ui.say(f"  layer subset {number} of {len(cuts)} ({len(keep):>2} layers), fine-tuned: "
               f"{format_percent(found[name]['accuracy'])} on the test clips")  # fmt: skip
    write_json(out / "finetuned.json", found)


def wanted_cuts(
    keeps: Mapping[str, Mapping[str, Sequence[int]]], rules: Sequence[str]
) -> list[tuple[int, ...]]:
    """Return the distinct layer subsets of some rules, the largest first.

    Without ``rules``: those of all rules except those that need bridges, which are not fine-tuned.
    """
    wanted = rules or [name for name, rule in RULES.items() if rule.measured != "bridged"]
    chosen = [depths for rule, depths in keeps.items() if rule.split()[0] in wanted]
    cuts = {tuple(keep) for depths in chosen for keep in depths.values()}
    return sorted(cuts, key=lambda cut: (-len(cut), cut))
