"""Bridges: what the regression finds, and that a model with bridges saves, reloads and exports."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from slow_cases import families
from tiny_models import FAMILY_NAMES
from tiny_recordings import TONES

from edgeprune.core.console import Silent
from edgeprune.data.windows import Windows
from edgeprune.depth_pruning.fit_bridges import fit_bridges, used_bridges
from edgeprune.depth_pruning.layer_stack import Stack, run_subsets
from edgeprune.models import loading
from edgeprune.models.bridges import attach
from edgeprune.models.families import FAMILIES, keep_layers, layers_of
from edgeprune_device.errors import EdgepruneError

one_width = pytest.mark.parametrize(
    "family_folder",
    families(name for name in FAMILY_NAMES if FAMILIES[name].bridges),
    indirect=True,
)
"""Every family whose states have one width, in turn."""


def windows(count: int = 12, seed: int = 0) -> Windows:
    samples = np.random.default_rng(seed).normal(0, 0.1, (count, 16000)).astype(np.float32)
    sound = np.tile([[0, 16000]], (count, 1))
    rows = tuple({"label": "low", "split": "train", "group": "", "columns": {}} for _ in samples)
    return Windows(samples, sound, np.arange(count), rows, tuple(TONES), 16000)


@pytest.mark.parametrize("keep", [(0, 2), (0,)])
@one_width
def test_a_model_with_bridges_reloads_and_answers_as_it_was_measured(
    family_folder: Path, keep: tuple[int, ...], tmp_path: Path
) -> None:
    model = loading.load_model(str(family_folder))
    table = fit_bridges(Stack(model), windows(), torch.device("cpu"), Silent())
    heard = torch.from_numpy(windows(3, seed=1).samples)
    with torch.inference_mode():
        measured = run_subsets(Stack(model), heard, [keep], table)[keep]
        plain = run_subsets(Stack(model), heard, [keep])[keep]
    keep_layers(model, keep)
    attach(model, used_bridges(table, keep, 3))
    loading.save(model, tmp_path / "bridged")
    reloaded = loading.load_model(str(tmp_path / "bridged"))
    assert reloaded.config.edgeprune_bridges == [0]
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(reloaded, heard), measured, atol=1e-5, rtol=1e-4
        )
    assert float((plain - measured).abs().max()) > 5e-6
    assert loading.count_parameters(reloaded) == loading.count_parameters(model)


@one_width
def test_bridges_move_with_their_blocks_when_the_model_is_cut_again(
    family_folder: Path, tmp_path: Path
) -> None:
    model = loading.load_model(str(family_folder))
    one = (torch.eye(16) * 2, torch.ones(16))
    attach(model, {0: one, 2: one})
    keep_layers(model, (0, 2))
    assert model.config.edgeprune_bridges == [0, 1]
    loading.save(model, tmp_path / "again")
    reloaded = loading.load_model(str(tmp_path / "again"))
    assert [hasattr(block, "bridge") for block in layers_of(reloaded)] == [True, True]
    heard = torch.from_numpy(windows(2).samples)
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(reloaded, heard), loading.logits_of(model, heard)
        )


@one_width
def test_a_bridge_behind_a_bridge_is_one_map_after_the_other(family_folder: Path) -> None:
    model = loading.load_model(str(family_folder))
    generator = torch.Generator().manual_seed(0)
    maps = [(torch.randn(16, 16, generator=generator), torch.randn(16, generator=generator))
            for _ in range(2)]  # fmt: skip
    for one in maps:
        attach(model, {1: one})
    stack, heard = Stack(loading.load_model(str(family_folder))), windows(2).samples
    with torch.inference_mode():
        batch = stack.run_front_end(torch.from_numpy(heard))
        state = stack.states(batch)[2]
        for weight, bias in maps:
            state = state @ weight.T + bias
        expected = stack.run_head([stack.block(2, state, batch)], (0, 1, 2))
        found = loading.logits_of(model, torch.from_numpy(heard))
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@one_width
def test_weights_without_the_bridges_that_the_config_names_are_refused(
    family_folder: Path, tmp_path: Path
) -> None:
    model = loading.load_model(str(family_folder))
    model.config.edgeprune_bridges = [1]
    loading.save(model, tmp_path / "model")
    with pytest.raises(EdgepruneError, match=r"lack .*bridge.*, which config.json describes"):
        loading.load_model(str(tmp_path / "model"))


@one_width
def test_bridges_are_part_of_the_exported_graph(family_folder: Path) -> None:
    import onnxruntime

    from edgeprune.export.onnx import to_onnx

    model = loading.load_model(str(family_folder))
    attach(model, {1: (torch.randn(16, 16), torch.randn(16))})
    heard = windows(1).samples
    session = onnxruntime.InferenceSession(to_onnx(model, 16000, 18))
    (scores,) = session.run(None, {"samples": heard})
    with torch.inference_mode():
        expected = loading.logits_of(model, torch.from_numpy(heard)).softmax(dim=-1)
    np.testing.assert_allclose(scores, expected.numpy(), atol=1e-4)
