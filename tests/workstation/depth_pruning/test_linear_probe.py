"""The linear probe: it tells classes apart on clips it has not seen."""

from __future__ import annotations

from pathlib import Path

from measured_models import CPU, LABELS

from edgeprune.core.console import Silent
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.ablation import measure_subsets
from edgeprune.depth_pruning.evaluator import Evaluator
from edgeprune.depth_pruning.layer_stack import Stack
from edgeprune.depth_pruning.linear_probe import fit_probe
from edgeprune.models import loading


def test_a_probe_on_an_untrained_model_tells_tones_apart(
    model_folder: Path, windows: Windows
) -> None:
    stack = Stack(loading.load_model(str(model_folder)))
    stack.head = fit_probe(stack, windows, LABELS, CPU, Silent())
    right = measure_subsets(
        Evaluator(stack, windows.split("test"), LABELS, CPU, Silent()), [(0, 1, 2)]
    )
    assert right[0, 1, 2].mean() > 0.6
