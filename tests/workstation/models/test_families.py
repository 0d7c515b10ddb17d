"""Every family in the table: load, score, drop layers, train, save, reload, export, quantize."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_sounds import sounds
from slow_cases import families
from tiny_models import FAMILY_NAMES, enliven, heard_by, make_model, tone_batch
from tiny_recordings import TONES
from transformers import AutoModelForAudioClassification

from edgeprune.core.console import Silent
from edgeprune.core.settings import Clips
from edgeprune.data.windows import load_windows
from edgeprune.depth_pruning.states import layer_states
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import (
    FAMILIES,
    depth_of,
    family_of,
    fixed_layers_of,
    keep_layers,
    layers_of,
)
from edgeprune.pipeline.clips import clips
from edgeprune.quantization.dynamic_onnx import to_int8
from edgeprune.training.teach import freeze
from edgeprune_calibration.dataset import read_data
from edgeprune_device.errors import EdgepruneError


def cut_of(model: Any) -> list[int]:
    """Name two layers of three to keep, or all where none can go."""
    return list(fixed_layers_of(model.config)) if len(fixed_layers_of(model.config)) > 1 else [0, 2]


def test_the_table_holds_the_families_that_the_readme_promises() -> None:
    assert set(FAMILY_NAMES) == set(FAMILIES)


@pytest.mark.parametrize("family", families(FAMILY_NAMES))
def test_a_family_goes_the_whole_way(family: str, recordings: Path, tmp_path: Path) -> None:
    """Clips, fresh head, states, cut, a training step, save, reload, export, int8."""
    source = make_model(tmp_path / "backbone", family)
    clips(
        str(source), recordings, read_data(recordings).digest(), out=tmp_path, settings=Clips(),
        ui=Silent(),
    )  # fmt: skip
    found = load_windows(tmp_path)
    model, labels, own = loading.load_for(
        str(source), found.labels, window_samples=found.window_samples
    )
    assert (labels, own) == (found.labels, False)
    enliven(model)
    states, cosines, _ = layer_states(model, found, np.arange(6), torch.device("cpu"), Silent())
    assert states.shape[:2] == (4, 6)
    assert np.isfinite(states).all()
    np.testing.assert_allclose(np.diagonal(cosines), 1.0, atol=1e-4)
    keep_layers(model, cut_of(model))
    samples = torch.from_numpy(np.array(found.samples[:4]))
    freeze(model, "whole")
    weights = [p for p in model.parameters() if p.requires_grad]
    model.train()
    loss = torch.nn.functional.cross_entropy(loading.logits_of(model, samples), torch.arange(4) % 3)
    loss.backward()  # type: ignore[no-untyped-call]
    torch.optim.SGD(weights, lr=0.01).step()
    model.eval()
    loading.save(model, tmp_path / "student")
    again = loading.load_model(str(tmp_path / "student"), window_samples=found.window_samples)
    with torch.inference_mode():
        expected = loading.logits_of(model, samples)
        torch.testing.assert_close(loading.logits_of(again, samples), expected, rtol=0, atol=0)
    assert float(expected.std(dim=0).max()) > 1e-3  # its answers differ from clip to clip
    data = to_onnx(again, found.window_samples, 18)
    run = onnx_runner(data)
    for sample, scores in zip(samples.numpy(), torch.softmax(expected, dim=-1), strict=True):
        np.testing.assert_allclose(run(sample[None])[0], scores, rtol=0, atol=1e-4)
    small = onnx_runner(to_int8(data, family_of(model.config.model_type).float_scopes))
    scores = small(samples[:1].numpy())
    assert np.isfinite(scores).all()
    assert scores.sum() == pytest.approx(1.0, abs=1e-5)


@pytest.mark.parametrize(
    "family_folder",
    families(name for name in FAMILY_NAMES if not FAMILIES[name].whole),
    indirect=True,
)
def test_a_pruned_model_computes_what_its_kept_blocks_compute(family_folder: Path) -> None:
    """An oracle of its own: the full model with the other blocks replaced by the identity."""
    pruned, full = (loading.load_model(str(family_folder)) for _ in range(2))
    sounds = heard_by(full, 2)
    keep_layers(pruned, [0, 1])
    last = layers_of(full)[2]

    def pass_through(_module: object, inputs: tuple[torch.Tensor, ...], out: object) -> object:
        return inputs[0] if isinstance(out, torch.Tensor) else (inputs[0], *out[1:])  # type: ignore[index]

    for block in getattr(last, "blocks", [last]):
        block.register_forward_hook(pass_through)
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(pruned, sounds), loading.logits_of(full, sounds), rtol=0, atol=1e-5
        )


def test_a_front_end_is_no_part_of_the_weights(family_folder: Path) -> None:
    model = loading.load_model(str(family_folder))
    if family_of(model.config.model_type).frontend:
        assert not [name for name in model.state_dict() if name.startswith("frontend")]
        fixed = {id(tensor) for tensor in model.frontend.buffers()}
        assert not fixed & {id(parameter) for parameter in model.parameters()}


def test_a_pruned_folder_is_read_by_transformers_own_auto_class(
    family_folder: Path, tmp_path: Path
) -> None:
    model = loading.load_model(str(family_folder))
    keep = cut_of(model)
    keep_layers(model, keep)
    loading.save(model, tmp_path / "one")
    again = AutoModelForAudioClassification.from_pretrained(tmp_path / "one")
    assert depth_of(again.config) == len(keep) == len(layers_of(again))
    assert tuple(again.config.id2label.values()) == tuple(TONES)


@pytest.mark.parametrize("keep", [[], [1, 0], [0, 0], [0, 3], [-1, 0]])
def test_layers_that_are_not_there_cannot_be_kept(family_folder: Path, keep: list[int]) -> None:
    with pytest.raises(EdgepruneError, match="cannot be kept"):
        keep_layers(loading.load_model(str(family_folder)), keep)


def test_wavlm_keeps_the_block_that_owns_the_position_bias(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "wavlm", tuple(TONES))))
    with pytest.raises(EdgepruneError, match="Layer 0 of a wavlm model cannot be removed"):
        keep_layers(model, [1, 2])


def test_a_weighted_sum_over_layers_loses_the_weights_of_the_layers_that_go(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "hubert", tuple(TONES))))
    model.config.use_weighted_layer_sum = True
    model.layer_weights = torch.nn.Parameter(torch.arange(4.0))
    keep_layers(model, [0, 2])
    assert model.layer_weights.tolist() == [0.0, 1.0, 3.0]
    loading.save(model, tmp_path / "pruned")
    again = loading.load_model(str(tmp_path / "pruned"))
    with torch.inference_mode():
        torch.testing.assert_close(
            loading.logits_of(again, tone_batch()), loading.logits_of(model, tone_batch())
        )


def test_an_unknown_family_is_named_with_the_known_ones() -> None:
    with pytest.raises(EdgepruneError, match="Model type 'bert' is not supported") as error:
        family_of("bert")
    assert all(name in error.value.hint for name in FAMILY_NAMES)


LABELS = tuple(TONES)


def test_a_clap_stage_may_lose_all_its_pairs(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "clap_audio_model", LABELS)))
    keep_layers(model, [1, 2])
    assert model.config.depths == [0, 4]
    loading.save(model, tmp_path / "cut")
    again = loading.load_model(str(tmp_path / "cut"))
    heard = sounds(model, 0.5)
    with torch.inference_mode():
        expected, states = loading.logits_and_states(model, heard)
        torch.testing.assert_close(loading.logits_of(again, heard), expected, rtol=0, atol=0)
    assert len(states) == 3
