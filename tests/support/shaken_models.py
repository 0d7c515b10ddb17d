"""Tiny models whose units all matter, and units to keep, drawn at random."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from edgeprune.models import loading
from edgeprune.width_pruning.units import groups_of, make_trimmable


def shaken(folder: Path) -> Any:
    """Load a model and shake every weight: biases of zero and norms of one hide mistakes."""
    model = loading.load_model(str(folder))
    make_trimmable(model)
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn(parameter.shape, generator=generator)
    return model


def random_keep(model: Any, kinds: tuple[str, ...], seed: int = 0) -> dict[str, list[int]]:
    """Draw, for each group, between one and all but one of its units."""
    generator = np.random.default_rng(seed)
    keep = {}
    for group in groups_of(model, kinds):
        count = int(generator.integers(1, group.units))
        keep[group.name] = sorted(generator.choice(group.units, count, replace=False).tolist())
    return keep
