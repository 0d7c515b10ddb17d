"""The step ``peers_trim``: structured pruning by torch-pruning, as its users would, at equal MACs.

torch-pruning 1.6 (Fang et al. 2023, DepGraph, arXiv 2301.12900) is a peer, not a dependency:
``pip install torch-pruning``. Its dependency graph needs the positional convolution's weight norm
folded, and ``head_dim`` set after it has pruned the heads' width. Its pruning ratio is found by
bisection so that the requested share of the multiply-accumulates is removed.
"""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from edgeprune.core import distributed
from edgeprune.core.console import Ui, format_percent
from edgeprune.core.settings import Trim
from edgeprune.data.windows import Windows, load_windows
from edgeprune.export.model_rewrites import fold_weight_norm
from edgeprune.models import loading
from edgeprune.models.families import family_of, layers_of, submodule
from edgeprune.nn import losses
from edgeprune.training import loop
from edgeprune.training.distill import Teacher
from edgeprune.training.step_records import StepContext, count_macs, write_step
from edgeprune.width_pruning.trim_training import TrimContext, recover

CLIPS = 512  # that Taylor's gradients are taken over
HALVINGS = 12


class Net(nn.Module):
    """A classifier as torch-pruning traces it: samples to logits."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, samples: Tensor) -> Tensor:
        """Return logits (batch, labels)."""
        return loading.logits_of(self.model, samples)


def peers_trim(
    teacher: Path, student: Path, clips: Path, context: StepContext, *, out: Path, settings: Trim,
    ui: Ui,
) -> None:  # fmt: skip
    """Write the student, pruned and recovered, as the step ``trim`` would."""
    windows = load_windows(clips)
    whole = loading.load_model(str(student / "model"))
    length = windows.window_samples
    wanted = (1 - settings.ratio) * count_macs(whole, length)
    low, high, pruned = 0.0, 0.95, whole
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        pruned = prune_by(whole, settings.method, middle, windows)
        low, high = (middle, high) if count_macs(pruned, length) > wanted else (low, middle)
    gone = 1 - count_macs(pruned, length) / count_macs(whole, length)
    ui.say(f"  torch-pruning, {settings.method}: {100 * gone:.1f} % of the MACs gone")
    device = distributed.choose_device(context.accelerator)
    master = loading.load_model(str(teacher / "model"))
    trimming = TrimContext(Teacher(master, device, context.distill.views), windows,
                           loading.labels_of(pruned), context, settings, device, ui)  # fmt: skip
    torch.manual_seed(context.seed)
    curve = recover(pruned, trimming, out / "work")  # as after a trim of ours
    score = loop.evaluate(pruned, windows.split("valid"), loading.labels_of(pruned), device)
    ui.say(f"  after recovery: {format_percent(score)} on the validation clips")
    loading.save(pruned.to("cpu"), out / "model")
    write_step(out, pruned, length, step="torch-pruning", valid_score=score, metric="accuracy",
               curve=curve, requested=settings.ratio, of="macs", reached={"macs": gone})  # fmt: skip


def prune_by(whole: Any, criterion: str, ratio: float, windows: Windows) -> Any:
    """Return a copy of a model with a share of every group of channels removed."""
    import torch_pruning as tp

    model = copy.deepcopy(whole).eval().requires_grad_(True)
    fold_weight_norm(model)
    net = Net(model)
    last = [m for name, m in model.named_children() if name in ("head", "classifier")]
    fixed = [model.frontend] if hasattr(model, "frontend") else []
    attention: list[Any] = [b.attention for b in layers_of(model) if hasattr(b, "attention")]
    heads = {p: a.num_heads for a in attention for p in (a.q_proj, a.k_proj, a.v_proj)}
    tokens = [
        (getattr(model, name), 2) for name in ("cls_token", "pos_embed") if hasattr(model, name)
    ]
    train_windows = windows.split("train")
    chosen = np.sort(np.random.default_rng(0).permutation(len(train_windows.clip))[:CLIPS])
    samples = torch.from_numpy(train_windows.read(chosen))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pruner = tp.pruner.BasePruner(
            net, samples[:1], ignored_layers=[*last, *fixed], num_heads=heads,
            importance=tp.importance.GroupMagnitudeImportance(p=2) if criterion == "magnitude"
            else tp.importance.GroupTaylorImportance(),
            pruning_ratio=ratio, prune_head_dims=True, unwrapped_parameters=tokens or None,
        )  # fmt: skip
    if criterion == "taylor":
        targets = torch.from_numpy(train_windows.targets(loading.labels_of(model))[chosen])
        losses.label_loss(net(samples), targets, 0.0).backward()  # type: ignore[no-untyped-call]
    pruner.step()
    for part in attention:
        part.head_dim = part.q_proj.out_features // part.num_heads
    if path := family_of(model.config.model_type).weight_norm:  # as the folder is to hold it again
        nn.utils.parametrizations.weight_norm(submodule(model, path), name="weight", dim=2)
    model.zero_grad()
    return model
