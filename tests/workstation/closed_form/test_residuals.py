"""Residual streams: found by their sums, before or after the norms, and not where there is none."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from shaken_models import shaken
from slow_cases import families
from tiny_models import FAMILY_NAMES, heard_by, make_model
from torch import nn

from edgeprune.closed_form.removable_units import removable_units
from edgeprune.closed_form.residuals import residual_sources
from edgeprune.models import loading

LABELS = ("a", "b", "c")
WITHOUT = ("cnn14", "edgeprune-student")
"""Families without heads and feed-forward columns."""


def sources(model: Any) -> dict[str, str]:
    found = removable_units(model, ("heads", "feed-forward"))
    paths = {name: one.path for name, one in found.items()}
    return residual_sources(model, paths, heard_by(model, 2))


def test_before_its_norms_a_block_adds_to_what_they_take(tmp_path: Path) -> None:
    model = shaken(make_model(tmp_path, "whisper", LABELS))
    found = sources(model)
    assert found["heads.1"].endswith("encoder.layers.1.self_attn_layer_norm")
    assert found["feed-forward.1"].endswith("encoder.layers.1.final_layer_norm")


def test_after_its_norms_a_block_adds_to_what_its_parts_take(tmp_path: Path) -> None:
    """wav2vec2: norm(x + attention(x)), then norm(y + feed_forward(y))."""
    model = shaken(make_model(tmp_path, "wav2vec2", LABELS))
    found = sources(model)
    inputs = {path: _input_of(model, path) for path in found.values()}
    block = model.base_model.encoder.layers[1]
    assert torch.equal(inputs[found["heads.1"]], _input_of(model, _path(model, block)))
    feed = _path(model, block.feed_forward)
    assert torch.equal(inputs[found["feed-forward.1"]], _input_of(model, feed))


@pytest.mark.parametrize("family", families(n for n in FAMILY_NAMES if n not in WITHOUT))
def test_every_source_is_what_the_output_is_added_to(family: str, tmp_path: Path) -> None:
    model = shaken(make_model(tmp_path, family, LABELS))
    for name, source in sources(model).items():
        if not source:
            assert "conformer" in family or family in ("wav2vec2-bert", "clap_audio_model"), name
            continue
        path = removable_units(model, ("heads", "feed-forward"))[name].path
        stream, given = _input_of(model, source), _output_of(model, path)
        assert stream.shape == given.shape


def _path(model: Any, module: nn.Module) -> str:
    return next(str(path) for path, other in model.named_modules() if other is module)


def _input_of(model: Any, path: str) -> torch.Tensor:
    caught: list[torch.Tensor] = []

    def note(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> None:
        caught.append(args[0] if args else options["hidden_states"])

    hook = model.get_submodule(path).register_forward_pre_hook(note, with_kwargs=True)
    with torch.inference_mode():
        loading.logits_of(model, heard_by(model, 2))
    hook.remove()
    return caught[0]


def _output_of(model: Any, path: str) -> torch.Tensor:
    caught: list[torch.Tensor] = []
    hook = model.get_submodule(path).register_forward_hook(lambda _, __, out: caught.append(out))
    with torch.inference_mode():
        loading.logits_of(model, heard_by(model, 2))
    hook.remove()
    return caught[0]
