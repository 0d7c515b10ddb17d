"""Scale and shift: little is trained, and nothing of it is left when it is folded."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_cases import families
from steps_fixture import make_inputs
from tiny_models import FAMILY_NAMES, make_model
from tiny_recordings import RATE, TONES

from edgeprune.core.console import Silent
from edgeprune.core.settings import Teach
from edgeprune.data.windows import load_windows
from edgeprune.models import loading
from edgeprune.training import loop, ssf
from edgeprune.training.teach import fine_tune


def load(folder: Path, family: str) -> Any:
    return loading.load_model(str(make_model(folder, family, tuple(TONES))), window_samples=RATE)


def stir(model: Any) -> int:
    """Give every factor and offset another value; returns how many tensors that were."""
    generator, changed = torch.Generator().manual_seed(3), set()
    with torch.no_grad():
        for module in model.modules():
            for name in ("scale", "shift"):
                own = getattr(module, name, None)
                if isinstance(module, ssf.Scaled | ssf.Shifted) and own is not None:
                    own.add_(0.2 * torch.randn(own.shape, generator=generator))
                    changed.add(id(own))
    return len(changed)


@pytest.mark.parametrize("family", families(FAMILY_NAMES))
def test_folded_weights_compute_what_factors_and_offsets_did(family: str, tmp_path: Path) -> None:
    model = load(tmp_path / "m", family)
    sound = torch.randn(2, RATE, generator=torch.Generator().manual_seed(0)) * 0.1
    names = list(model.state_dict())
    with torch.inference_mode():
        before = loading.logits_of(model, sound)
    attached = ssf.attach(model)
    with torch.inference_mode():
        torch.testing.assert_close(loading.logits_of(model, sound), before, rtol=0, atol=1e-5)
    assert stir(model) >= len(attached) > 0
    with torch.inference_mode():
        stirred = loading.logits_of(model, sound)
    assert (stirred - before).abs().max() > 1e-4
    ssf.fold(model)
    assert sorted(model.state_dict()) == sorted(names)
    with torch.inference_mode():
        torch.testing.assert_close(loading.logits_of(model, sound), stirred, rtol=0, atol=1e-5)
    loading.save(model, tmp_path / "folded")
    again = loading.load_model(str(tmp_path / "folded"))
    with torch.inference_mode():
        torch.testing.assert_close(loading.logits_of(again, sound), stirred, rtol=0, atol=1e-5)


def test_a_factor_and_an_offset_are_what_the_paper_says() -> None:
    """Behind the layer: scale times its output, plus shift."""
    layer = torch.nn.Linear(3, 4)
    scaled = ssf.Scaled(4)
    shifted = ssf.Shifted(scaled)
    with torch.no_grad():
        scaled.scale.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]))
        shifted.shift.copy_(torch.tensor([0.5, 0.0, -0.5, 1.0]))
        heard = torch.randn(5, 3)
        expected = layer(heard) * scaled.scale + shifted.shift
        found = heard @ scaled(layer.weight).T + shifted(layer.bias)
    torch.testing.assert_close(found, expected)


def test_only_factors_offsets_and_the_head_are_trained(tmp_path: Path) -> None:
    model = load(tmp_path / "m", "wav2vec2")
    ssf.attach(model)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    head = ("projector.", "classifier.")
    assert all(n.startswith(head) or n.endswith((".scale", ".shift")) for n in trained)
    assert not any("feature_extractor" in name for name in trained)


def test_teaching_with_it_learns_the_tones(tmp_path: Path) -> None:
    teacher, clips = make_inputs(tmp_path, "kwt")
    windows = load_windows(clips)
    model = loading.load_model(str(teacher / "model"), windows.labels)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    curve = fine_tune(
        model, windows, windows.labels, replace(Teach(), tune="ssf", epochs=3, batch_size=12), 0,
        loop.TrainingSession(tmp_path / "work", torch.device("cpu"), Silent(), "ssf"),
    )  # fmt: skip
    assert np.isfinite([epoch["loss"] for epoch in curve]).all()
    assert curve[-1]["loss"] < curve[0]["loss"]
    after = model.state_dict()
    assert set(after) == set(before)
    assert not torch.equal(after["blocks.0.mlp.fc1.weight"], before["blocks.0.mlp.fc1.weight"])
    assert torch.equal(after["pos_embed"], before["pos_embed"])
