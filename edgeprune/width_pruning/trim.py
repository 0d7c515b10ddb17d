"""The step ``trim``: remove units of a student until a share of its cost is gone.

In every round

1. the units are ranked: by gates learned with the model against the teacher (as in Genova, Esling
   and Hurlin, "Keep what you need"), or by a criterion (``importance``);
2. the threshold is placed where the remaining cost is closest to the target;
3. the units below it are removed (``removal``);
4. the trimmed model is distilled from the teacher.

See ``budget`` for the costs, and for when a target is met. A target that no choice of units can
meet is rejected before any training; a target that was not met is reported, also in ``step.json``.
"""

from __future__ import annotations

import copy
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeprune.core import distributed
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.files import read_json, write_json
from edgeprune.core.settings import Trim
from edgeprune.data.windows import Windows, load_windows
from edgeprune.models import loading
from edgeprune.models.checkpoints import first_line
from edgeprune.training import loop
from edgeprune.training.closed_form_head import refit_head
from edgeprune.training.distill import Teacher
from edgeprune.training.step_records import StepContext, read_step, write_step
from edgeprune.width_pruning import cost_model, latency_model
from edgeprune.width_pruning.budget import (
    check_possible,
    choose,
    cost_of,
    cost_terms,
    describe_kept,
    is_met,
)
from edgeprune.width_pruning.masking import masks, masks_of
from edgeprune.width_pruning.removal import trim_to
from edgeprune.width_pruning.trim_training import TrimContext, rank, recover
from edgeprune.width_pruning.units import Group, groups_of, make_trimmable, refusals
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

EXACT = 1e-5
"""Largest difference between trimmed and masked logits, as a share of the largest logit; both are
computed in double precision to exclude rounding."""


def trim(
    teacher: Path, student: Path, clips: Path, context: StepContext, *, out: Path, settings: Trim,
    ui: Ui,
) -> None:  # fmt: skip
    """Write the trimmed and recovered student ``model/``, and ``step.json``.

    Its ``met`` says whether the removed share is within two percentage points of the requested one.

    Parameters
    ----------
    teacher, student, clips : Path
        Folders of the earlier stages.
    context : StepContext
        Context of the step.

    Raises
    ------
    EdgepruneError
        The model has no units of the allowed kinds, or they have a lower cost than is to be
        removed; both are checked before any training.

    """
    device = distributed.choose_device(context.accelerator)
    master, model = (loading.load_model(str(f / "model")) for f in (teacher, student))
    make_trimmable(model)
    groups = _groups(model, settings)
    for why in refusals(model, settings.what):
        ui.say(f"  {why}")
    windows = load_windows(clips)
    known = Teacher(master, device, context.distill.views)
    trimming = TrimContext(known, windows, loading.labels_of(model), context, settings, device, ui)
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    before = _before(model, groups, windows.window_samples, trimming, work)
    terms = cost_terms(model, groups, windows.window_samples, settings.of, before["prices"])
    check_possible(groups, terms, before[settings.of] * (1 - settings.ratio), settings, ui)
    curve: list[dict[str, float]] = []
    for number in range(1, settings.rounds + 1):
        goal = before[settings.of] * (1 - settings.ratio * number / settings.rounds)
        model, learned = one_round(model, trimming, goal, before, number, work / f"round-{number}")
        curve += [{**row, "epoch": len(curve) + place + 1} for place, row in enumerate(learned)]
    score = loop.evaluate(model, windows.split("valid"), trimming.labels, device)
    loading.save(model.to("cpu"), out / "model")
    _report(out, model, trimming, before, curve, score, read_step(student))
    shutil.rmtree(work, ignore_errors=True)


def one_round(
    model: Any,
    trimming: TrimContext,
    goal: float,
    before: Mapping[str, Any],
    number: int,
    work: Path,
) -> tuple[Any, list[dict[str, float]]]:
    """Rank, choose, trim and recover once; return the model and its learning curve."""
    torch.manual_seed(trimming.step.seed * 1009 + number)
    s, groups = trimming.settings, _groups(model, trimming.settings)
    work.mkdir(parents=True, exist_ok=True)
    terms = cost_terms(model, groups, trimming.windows.window_samples, s.of, before["prices"])
    curve, scores = rank(model, groups, terms, goal, trimming, work)
    model.to("cpu")
    if not (work / "keep.json").exists():
        write_json(
            work / "keep.json",
            distributed.broadcast_from_main(
                choose(model, terms, scores, goal, trimming.windows.window_samples, s, trimming.ui)
            ),
        )
    keep = read_json(work / "keep.json")
    _trim_exactly(model, groups, keep, trimming.windows)
    trimming.ui.say(f"  round {number} of {s.rounds}: kept {describe_kept(keep, groups)}")
    refit_head(model, trimming.windows, trimming.labels, trimming.device, trimming.ui)
    if s.recovery_epochs:
        curve += recover(model, trimming, work / "recover")
    return model, curve


def _trim_exactly(
    model: Any, groups: Sequence[Group], keep: Mapping[str, Sequence[int]], windows: Windows
) -> None:
    """Trim, and compare with the masked model on real windows."""
    samples = torch.from_numpy(np.array(windows.samples[:4]))
    masked = copy.deepcopy(model).double().eval()
    with torch.no_grad(), masks(masked, groups, masks_of(groups, keep)):
        expected = loading.logits_of(masked, samples.double())
    del masked
    trim_to(model, keep)
    unknown = "one of its parts uses trimmed units in an unknown way"
    hint = "Please report this with the model's config.json; trim.what can exclude kinds of units."
    try:
        with torch.no_grad():
            found = loading.logits_of(copy.deepcopy(model).double().eval(), samples.double())
    except RuntimeError as error:  # shapes that do not fit
        raise EdgepruneError(
            f"The trimmed model cannot run: {unknown} ({first_line(error)}).", hint, FAILED_CHECK
        ) from error
    apart = float((found - expected).abs().max())
    if not apart <= EXACT * (largest := float(expected.abs().max())):
        raise EdgepruneError(
            f"The trimmed model differs from the masked one by {apart:.1e}, where the largest "
            f"logit is {largest:.1e}: {unknown}.",
            hint,
            FAILED_CHECK,
        )


def _groups(model: Any, settings: Trim) -> tuple[Group, ...]:
    found = groups_of(model, settings.what)
    if not found:
        raise EdgepruneError(
            f"A {model.config.model_type} model has no units to trim of the kinds in trim.what = "
            f"{', '.join(settings.what) or '()'}.",
            "Add other kinds of units to trim.what.",
        )
    return found


def _report(
    out: Path, model: Any, trimming: TrimContext, before: Mapping[str, Any], curve: list[dict[str, float]],
    score: float, given: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write ``step.json`` and print the result."""
    s, window = trimming.settings, trimming.windows.window_samples
    after = distributed.broadcast_from_main(cost_of(model, window))
    reached = {name: 1 - after[name] / before[name] for name in after}
    write_step(
        out, model, window, step="trim", valid_score=score, metric=trimming.task.metric, curve=curve,
        requested=s.ratio, of=s.of, reached=reached, met=is_met(s.ratio, reached[s.of]),
        method=s.method, rounds=s.rounds,
        valid_score_before=given["valid_score"],
        latency_ms={"before": before["latency"], "after": after["latency"]},
        units={group.name: group.units for group in groups_of(model)},
    )  # fmt: skip
    if not is_met(s.ratio, reached[s.of]):
        trimming.ui.say(f"  target not met: {format_percent(s.ratio)} of the {s.of} requested, "
                        f"{format_percent(reached[s.of])} removed")  # fmt: skip
    trimming.ui.say(
        f"  trimmed: {format_percent(reached['macs'])} of the multiply-accumulates and "
        f"{format_percent(reached['parameters'])} of the parameters removed, latency "
        f"{before['latency']:.2f} ms -> {after['latency']:.2f} ms; "
        f"{trimming.task.metric} {format_percent(score)} on the validation clips"
    )


def _before(
    model: Any, groups: Sequence[Group], window_samples: int, trimming: TrimContext, work: Path
) -> dict[str, Any]:
    """Return the given student's costs, and the prices of operations if latency was requested."""
    record = work / "before.json"
    if not record.exists():
        found = cost_of(model, window_samples)
        prices: dict[str, float] = {}
        if trimming.settings.of == "latency":
            terms = cost_model.mac_terms(model, groups, window_samples)
            prices = latency_model.fit_prices(
                model, groups, terms, window_samples, trimming.step.seed, trimming.ui
            )
        write_json(record, distributed.broadcast_from_main({**found, "prices": prices}))
    known: dict[str, Any] = read_json(record)
    return known
