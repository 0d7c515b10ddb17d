"""Models that are no longer what their config says save, reload and export all the same."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from tiny_models import make_model
from tiny_recordings import TONES
from torch import nn

from edgeprune.models import loading, serialization
from edgeprune.models.families import keep_layers, layers_of
from edgeprune_device.errors import EdgepruneError


class Half(nn.Module):
    """A part for these tests: halves what it is given, after a linear layer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)

    def forward(self, hidden: torch.Tensor, *_: object, **__: object) -> torch.Tensor:
        return torch.as_tensor(0.5 * self.inner(hidden))


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setitem(serialization.PARTS, "half", f"{__name__}:Half")
    monkeypatch.setitem(sys.modules, __name__, SimpleNamespace(Half=Half))
    return loading.load_model(str(make_model(tmp_path / "m", "wav2vec2", tuple(TONES))))


def same_after_reloading(model: Any, folder: Path) -> Any:
    samples = torch.randn(2, 4000, generator=torch.Generator().manual_seed(0))
    loading.save(model, folder)
    again = loading.load_model(str(folder))
    with torch.inference_mode():
        expected, found = (loading.logits_of(m, samples) for m in (model, again))
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert type(again) is type(model)
    return again


def narrow(block: Any, width: int) -> None:
    feed = block.feed_forward
    for layer in (feed.intermediate_dense, feed.output_dense):
        layer.weight = nn.Parameter(
            layer.weight[:width] if layer is feed.intermediate_dense else layer.weight[:, :width]
        )
    feed.intermediate_dense.bias = nn.Parameter(feed.intermediate_dense.bias[:width])
    feed.intermediate_dense.out_features = feed.output_dense.in_features = width


def width_of(block: Any) -> int:
    return int(block.feed_forward.intermediate_dense.out_features)


def test_a_narrower_layer_reloads_by_the_config(model: Any, tmp_path: Path) -> None:
    narrow(layers_of(model)[1], 7)
    again = same_after_reloading(model, tmp_path / "narrow")
    assert width_of(layers_of(again)[1]) == 7


def test_layers_dropped_after_trimming_leave_the_widths_with_their_layers(
    model: Any, tmp_path: Path
) -> None:
    narrow(layers_of(model)[2], 5)
    keep_layers(model, [0, 2])
    again = same_after_reloading(model, tmp_path / "both")
    assert width_of(layers_of(again)[1]) == 5


def test_a_part_in_place_of_a_block_reloads_with_its_weights(model: Any, tmp_path: Path) -> None:
    serialization.replace_module(
        model, "wav2vec2.encoder.layers.1", serialization.make_part({"part": "half", "width": 16})
    )
    again = same_after_reloading(model, tmp_path / "part")
    assert isinstance(layers_of(again)[1], Half)
    twice = same_after_reloading(again, tmp_path / "twice")
    assert isinstance(layers_of(twice)[1], Half)


def test_an_untouched_model_records_nothing(model: Any, tmp_path: Path) -> None:
    loading.save(model, tmp_path / "plain")
    assert "edgeprune_" not in (tmp_path / "plain" / "config.json").read_text().replace(
        "edgeprune_normalize", ""
    )


def test_a_part_nobody_knows_is_named() -> None:
    with pytest.raises(EdgepruneError, match="a part 'whole', which is not known to this version"):
        serialization.make_part({"part": "whole"})
