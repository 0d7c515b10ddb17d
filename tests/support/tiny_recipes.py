"""Recipes that go through every stage of ``compress`` in seconds."""

from __future__ import annotations

from typing import Any

CLASSES_RECIPE: dict[str, Any] = {
    "seeds": 2,
    "max_drop": 0.5,
    "teach": {"epochs": 15, "batch_size": 8, "learning_rate": 3e-3},
    "score": {"neighbours": 3, "permutations": 5},
    "prune": {"recovery_epochs": 2},
    "distill": {"epochs": 4, "label_epochs": 1, "batch_size": 8, "learning_rate": 3e-3},
    "bench": {"seconds": 0.05, "threads": [1], "rounds": 3},
}


TASKS_RECIPE: dict[str, Any] = {
    "seeds": 1, "max_drop": 0.9,
    "score": {"neighbours": 3, "permutations": 5},
    "prune": {"recovery_epochs": 1, "keep": 2},
    "bench": {"seconds": 0.05, "threads": [1], "rounds": 3},
    # A band that is silenced, or noise, may be all there is of a tone.
    "augment": {"mask_share": 0.0, "noise_share": 0.0, "shift_seconds": 0.02},
}  # fmt: skip
QUICK_TOML = """\
seeds = 1
max_drop = 0.9
[teach]
epochs = 2
[score]
neighbours = 3
permutations = 3
split = "train"
[measure]
random_orders = 1
[finetune]
epochs = 1
rules = ["backward"]
[prune]
recovery_epochs = 1
[distill]
epochs = 1
label_epochs = 0
[bench]
seconds = 0.05
rounds = 3
threads = [1]
"""
"""A recipe file that makes ``compress`` and ``score`` quick on tiny models."""
