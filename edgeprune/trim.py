"""Trim a student to a share of its cost: the step ``trim`` of a recipe, see ``steps``.

In every round

1. the units are ranked: by gates learned with the model against the teacher (Genova's masks; Seed
   4), or by a criterion (``criteria``);
2. the threshold is put where the cost that is left is the one that was asked;
3. the units under it are trimmed away for good (``trimming``);
4. the rest is trained against the teacher again.

The cost is parameters, multiply-accumulates or the latency of the ONNX file here. The last is
predicted (``latencies``) and then measured, and the choice corrected until what was measured is
within two points of what was asked.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edgeprune import compute, costs, latencies, models, train
from edgeprune.audio import Windows, load_windows
from edgeprune.augment import to_augment
from edgeprune.budget import choose, cost_of, cost_terms, in_words
from edgeprune.console import Ui, points
from edgeprune.criteria import unit_importance
from edgeprune.distill import WEIGHT_DECAY, Teacher
from edgeprune.imitation import imitation_loss, matched
from edgeprune.learning import (
    GATES,
    MULTIPLIER_RATE,
    MULTIPLIERS,
    Gates,
    gated,
    gated_loss,
    ranks_of,
    state_mask_of,
)
from edgeprune.masking import masks, masks_of
from edgeprune.settings import Distill, Trim
from edgeprune.stages import write_json
from edgeprune.steps import read_step, write_step
from edgeprune.tasks import Task, task_of
from edgeprune.trimming import trim_to
from edgeprune.units import Group, groups_of, ready, refusals
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError

RECOVERY_SPEED = 2.0  # learning rate after a trim, as a multiple of teaching's
TAYLOR_BATCHES = 16
EXACT = 1e-4  # largest difference of trimmed and masked logits, as a share of the largest logit


@dataclass(frozen=True)
class Workshop:
    """What every round works with."""

    teacher: Teacher
    windows: Windows
    labels: tuple[str, ...]
    shared: Mapping[str, Any]
    settings: Trim
    device: torch.device
    ui: Ui

    @property
    def task(self) -> Task:
        """What the clips' labels are."""
        return task_of(self.windows.task)

    @property
    def distill(self) -> Distill:
        """How a student is trained against its teacher."""
        return Distill(**self.shared["distill"])


def trim(
    teacher: Path, student: Path, clips: Path, shared: dict[str, Any], *, out: Path, settings: Trim,
    ui: Ui,
) -> None:  # fmt: skip
    """Write the trimmed and recovered student ``model/``, and ``step.json``.

    Parameters
    ----------
    teacher, student, clips : Path
        Folders of the earlier stages.
    shared : dict
        ``distill`` (that stage's settings), ``seed``, ``accelerator``, ``augment``.

    Raises
    ------
    EdgepruneError
        The model has no unit of the kinds that may go, or they cost less than what is to go.

    """
    device = compute.choose_device(shared["accelerator"])
    master, model = (models.load_classifier(str(f / "model")) for f in (teacher, student))
    ready(model)
    groups = _groups(model, settings)
    for why in refusals(model, settings.what):
        ui.say(f"  {why}")
    windows = load_windows(clips)
    known = Teacher(master, device, Distill(**shared["distill"]).views)
    shop = Workshop(known, windows, models.labels_of(model), shared, settings, device, ui)
    work = out / "work"
    work.mkdir(parents=True, exist_ok=True)
    before = _before(model, groups, windows.window_samples, shop, work)
    curve: list[dict[str, float]] = []
    for number in range(1, settings.rounds + 1):
        goal = before[settings.of] * (1 - settings.ratio * number / settings.rounds)
        model, learned = one_round(model, shop, goal, before, number, work / f"round-{number}")
        curve += [{**row, "epoch": len(curve) + place + 1} for place, row in enumerate(learned)]
    score = train.evaluate(model, windows.split("valid"), shop.labels, device)
    models.save(model.to("cpu"), out / "model")
    _report(out, model, shop, before, curve, score, read_step(student))
    shutil.rmtree(work, ignore_errors=True)


def one_round(
    model: Any, shop: Workshop, goal: float, before: Mapping[str, Any], number: int, work: Path
) -> tuple[Any, list[dict[str, float]]]:
    """Rank, choose, trim and recover once; returns the model and its learning curve."""
    torch.manual_seed(shop.shared["seed"] * 1009 + number)
    s, groups = shop.settings, _groups(model, shop.settings)
    work.mkdir(parents=True, exist_ok=True)
    terms = cost_terms(model, groups, shop.windows.window_samples, s.of, before["prices"])
    curve, scores = _rank(model, groups, terms, goal, shop, work)
    model.to("cpu")
    if not (work / "keep.json").exists():
        write_json(
            work / "keep.json",
            compute.same(
                choose(model, terms, scores, goal, shop.windows.window_samples, s, shop.ui)
            ),
        )
    keep = json.loads((work / "keep.json").read_text("utf-8"))
    _trim_exactly(model, groups, keep, shop.windows)
    shop.ui.say(f"  round {number} of {s.rounds}: {in_words(keep, groups)}")
    if s.recovery_epochs:
        curve += recover(model, shop, work / "recover")
    return model, curve


def recover(model: Any, shop: Workshop, work: Path) -> list[dict[str, float]]:
    """Train a trimmed model against the teacher and on the labels, in place; returns the curve."""
    epochs = shop.settings.recovery_epochs
    narrowed = any(group.states for group in _groups(model, shop.settings))
    with matched(model, shop.teacher, shop.windows.split("train"), always=narrowed):
        loss = imitation_loss(shop.task, shop.teacher, shop.labels, shop.distill, lambda: None)
        return _fit(model, loss, _plan(model, shop, epochs, RECOVERY_SPEED), work, shop, "recover")


def _rank(
    model: Any, groups: Sequence[Group], terms: Sequence[costs.Term], goal: float, shop: Workshop,
    work: Path,
) -> tuple[list[dict[str, float]], dict[str, Tensor]]:  # fmt: skip
    """Return a learning curve (of the gates, if any) and every unit's score."""
    s, seed = shop.settings, int(shop.shared["seed"])
    if s.method != "masks":
        model.to(shop.device)
        batches = _some_batches(shop, seed) if s.method == "taylor" else ()
        return [], unit_importance(s.method, model, groups, batches, _label_loss(shop.task), seed)
    windows = shop.windows.split("train")
    steps = s.epochs * math.ceil(len(windows.samples) / shop.distill.batch_size)
    plan = _plan(model, shop, s.epochs, 1.0)
    rates = {GATES: s.gate_rate / plan.learning_rate,
             MULTIPLIERS: MULTIPLIER_RATE / plan.learning_rate}  # fmt: skip
    table = costs.tabulate(terms)
    ranks = None
    if s.mask_loss != "genova":
        model.to(shop.device)
        known = unit_importance("taylor", model, groups, _some_batches(shop, seed),
                                _label_loss(shop.task), seed)  # fmt: skip
        ranks = ranks_of(known, groups, table)
    share = goal / float(costs.total(table, {}))
    trained = [p for p in model.parameters() if p.requires_grad]
    if s.encoder == "frozen":
        head = {id(p) for p in models.head_parameters(model)}
        for parameter in trained:
            parameter.requires_grad_(id(parameter) in head)
    made = Gates(groups, s.gate, steps, table, share, s.mask_loss == "budget", ranks)
    with (
        matched(model, shop.teacher, windows, always=True),
        gated(model, groups, made) as gates,
    ):
        task = imitation_loss(shop.task, shop.teacher, shop.labels, shop.distill,
                              state_mask_of(groups, gates))  # fmt: skip
        loss = gated_loss(task, share, s.mask_loss)
        plan = train.Plan(**{**vars(plan), "rates": rates, "last": True})
        curve = _fit(model, loss, plan, work / "gates", shop, "masks")
        scores = gates.scores()
    for parameter in trained:
        parameter.requires_grad_(True)
    return curve, scores


def _trim_exactly(
    model: Any, groups: Sequence[Group], keep: Mapping[str, Sequence[int]], windows: Windows
) -> None:
    """Trim, and compare with the masked model on real windows."""
    samples = torch.from_numpy(np.array(windows.samples[:4]))
    model.eval()
    with torch.no_grad(), masks(model, groups, masks_of(groups, keep)):
        expected = models.logits_of(model, samples)
    trim_to(model, keep)
    try:
        with torch.no_grad():
            apart = float((models.logits_of(model, samples) - expected).abs().max())
    except RuntimeError:  # shapes that do not fit
        apart = math.inf
    if not apart <= EXACT * max(1.0, float(expected.abs().max())):
        raise EdgepruneError(
            f"The trimmed model differs from the masked one by {apart:.1e}: it has a part that "
            "reads trimmed units in a way that is not known.",
            "Please report this with the model's config.json; trim.what names kinds of units.",
            FAILED_CHECK,
        )


def _fit(
    model: Any, loss: train.Loss, plan: train.Plan, work: Path, shop: Workshop, title: str
) -> list[dict[str, float]]:
    return train.fit(
        model, shop.windows.split("train"), shop.windows.split("valid"), shop.labels, loss, plan,
        work=work, device=shop.device, ui=shop.ui, title=title,
    )  # fmt: skip


def _plan(model: Any, shop: Workshop, epochs: int, speed: float) -> train.Plan:
    d = shop.distill
    usual = train.default_learning_rate(models.count_parameters(model))
    return train.Plan(
        epochs, d.batch_size, d.learning_rate or usual * speed, WEIGHT_DECAY, epochs,
        int(shop.shared["seed"]), d.views, to_augment(dict(shop.shared)),
    )  # fmt: skip


def _groups(model: Any, settings: Trim) -> tuple[Group, ...]:
    found = groups_of(model, settings.what)
    if not found:
        raise EdgepruneError(
            f"A {model.config.model_type} model has none of {', '.join(settings.what) or '()'} "
            "left to trim.",
            "Name other kinds of units in trim.what.",
        )
    return found


def _some_batches(shop: Workshop, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield some batches of training windows and their targets."""
    windows, size = shop.windows.split("train"), shop.distill.batch_size
    targets = shop.task.targets(windows, shop.labels)
    order = np.random.default_rng(seed).permutation(len(windows.samples))
    for start in range(0, min(len(order), TAYLOR_BATCHES * size), size):
        rows = np.sort(order[start : start + size])
        samples = torch.from_numpy(np.array(windows.samples[rows]))
        yield samples.to(shop.device), targets[torch.from_numpy(rows)].to(shop.device)


def _label_loss(task: Task) -> train.Loss:
    """Return the task's loss on the labels alone."""

    def loss(model: Any, samples: Tensor, targets: Tensor, _: int) -> Tensor:
        return task.loss(models.logits_of(model, samples), targets)

    return loss


def _report(
    out: Path, model: Any, shop: Workshop, before: Mapping[str, Any], curve: list[dict[str, float]],
    score: float, given: Mapping[str, Any],
) -> None:  # fmt: skip
    """Write ``step.json`` and say what was reached."""
    s, window = shop.settings, shop.windows.window_samples
    after = compute.same(cost_of(model, window))
    reached = {name: 1 - after[name] / before[name] for name in after}
    write_step(
        out, model, window, step="trim", valid_score=score, metric=shop.task.metric, curve=curve,
        requested=s.ratio, of=s.of, reached=reached, method=s.method, rounds=s.rounds,
        valid_score_before=given["valid_score"],
        latency_ms={"before": before["latency"], "after": after["latency"]},
        units={group.name: group.units for group in groups_of(model)},
    )  # fmt: skip
    shop.ui.say(
        f"  trimmed: {points(reached['macs'])} of the multiply-accumulates and "
        f"{points(reached['parameters'])} of the parameters are gone, {before['latency']:.2f} ms "
        f"became {after['latency']:.2f} ms; "
        f"{shop.task.metric} {points(score)} on the validation clips"
    )


def _before(
    model: Any, groups: Sequence[Group], window_samples: int, shop: Workshop, work: Path
) -> dict[str, Any]:
    """Return what the given student costs, and the prices of work where latency was asked."""
    record = work / "before.json"
    if not record.exists():
        found = cost_of(model, window_samples)
        prices: dict[str, float] = {}
        if shop.settings.of == "latency":
            terms = costs.mac_terms(model, groups, window_samples)
            prices = latencies.fit_prices(
                model, groups, terms, window_samples, int(shop.shared["seed"]), shop.ui
            )
        write_json(record, compute.same({**found, "prices": prices}))
    known: dict[str, Any] = json.loads(record.read_text("utf-8"))
    return known
