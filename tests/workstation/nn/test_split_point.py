"""The seam of a model: one in every family, and nothing in its graph."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch
from tiny_recordings import RATE
from torch import nn

from edgeprune.export.model_rewrites import shape
from edgeprune.export.onnx import to_onnx
from edgeprune.models import loading
from edgeprune.nn.split_point import Seam, seam_of


def test_every_family_has_one_seam_and_its_graph_computes_what_it_did(family_folder: Path) -> None:
    from edgeprune.export.onnx import Scorer, traced

    window = RATE
    model = loading.load_model(str(family_folder), window_samples=window)
    scorer = Scorer(shape(model, window, "onnx"))
    assert isinstance(seam_of(scorer), Seam)
    with_name, without = (onnx.load_from_string(x) for x in (
        to_onnx(model, window, 18), traced(scorer, window, ["scores"], 18)))  # fmt: skip
    kinds = [
        [(node.op_type, node.name) for node in file.graph.node] for file in (with_name, without)
    ]
    assert kinds[0] == kinds[1]
    assert [output.name for output in with_name.graph.output] == ["scores"]
    assert sum("frames" in node.output for node in with_name.graph.node) == 1


def test_a_seam_passes_frames_on_as_they_are() -> None:
    frames = torch.randn(2, 3, 4)
    assert Seam(320, axis=2)(frames) is frames
    assert not list(Seam(320).parameters())


@pytest.mark.parametrize("count", [0, 2])
def test_a_model_without_one_seam_has_none(count: int) -> None:
    parts = [nn.Linear(1, 1), *(Seam(320) for _ in range(count))]
    assert seam_of(nn.Sequential(*parts)) is None
    one = Seam(160, axis=2)
    assert seam_of(nn.Sequential(nn.Linear(1, 1), one)) is one
