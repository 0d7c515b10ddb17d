"""Front ends alone: how many frames hang on an edge, and which can never be cut off."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from streamed_models import (
    WINDOW,
    model_of,
)
from tiny_models import make_model
from tiny_recordings import TONES
from torch import nn

from edgeprune.deployment import streaming_frontend
from edgeprune.deployment.streaming_frontend import plan_for
from edgeprune.export.model_rewrites import shape
from edgeprune.models import loading


def test_frames_at_a_reflected_edge_are_counted(tmp_path: Path) -> None:
    """Whisper: frames of 400 samples around each 160th; two reach over each edge."""
    plan, _ = plan_for(model_of("whisper", tmp_path), WINDOW, 1600)
    assert plan is not None
    assert (plan.left, plan.right, plan.step, plan.frames) == (2, 2, 160, 51)
    ast, _ = plan_for(model_of("audio-spectrogram-transformer", tmp_path), WINDOW, 1600)
    assert ast is not None
    assert (ast.left, ast.right, ast.step, ast.frames) == (0, 0, 160, 48)


def test_what_depends_on_the_whole_window_is_refused_in_a_sentence(tmp_path: Path) -> None:
    grouped = loading.load_model(str(make_model(tmp_path / "w", "wav2vec2", tuple(TONES))))
    grouped.config.edgeprune_normalize = True
    assert "zero mean and unit variance" in plan_for(grouped, WINDOW, 1600)[1]
    grouped.config.edgeprune_normalize = False
    assert "group norm" in plan_for(grouped, WINDOW, 1600)[1]
    clap = loading.load_model(
        str(make_model(tmp_path / "c", "clap_audio_model", tuple(TONES))), window_samples=WINDOW
    )
    assert "repeats" in plan_for(clap, WINDOW, 1600)[1]


def test_the_measurement_alone_finds_what_the_sentences_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Were group norm and normalisation not known, no chunk would have the window's frames."""
    monkeypatch.setattr(streaming_frontend, "reason_against", lambda model: "")
    model = loading.load_model(str(make_model(tmp_path / "w", "wav2vec2", tuple(TONES))))

    def front(classifier: Any, window: int) -> Any:
        return streaming_frontend.chunk_front(classifier, window), ""

    monkeypatch.setattr(streaming_frontend, "window_front_end", front)
    for normalize in (False, True):
        model.config.edgeprune_normalize = normalize
        plan, why = plan_for(model, WINDOW, 1600)
        assert plan is None
        assert "depends on the whole window" in why


def test_a_front_end_that_looks_at_one_far_sample_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loudest sample of a window moves every frame by a millionth: that is found."""
    model = model_of("wav2vec2", tmp_path)

    class Loudest(nn.Module):
        def __init__(self, part: nn.Module) -> None:
            super().__init__()
            self.part = part

        def forward(self, samples: torch.Tensor) -> Any:
            return self.part(samples * (1 + 1e-6 * samples.abs().amax()))

    def shaped(*given: Any) -> Any:
        made = shape(*given)
        made.base_model.feature_extractor.first = Loudest(made.base_model.feature_extractor.first)
        return made

    assert plan_for(model, WINDOW, 1600)[0] is not None
    monkeypatch.setattr(streaming_frontend, "shape", shaped)
    assert plan_for(model, WINDOW, 1600)[0] is None


def test_a_hop_is_a_number_of_frames_or_rounded_down_to_one(tmp_path: Path) -> None:
    model = model_of("wav2vec2", tmp_path)
    assert "is not a multiple of the frame step of 320 samples" in plan_for(model, WINDOW, 2000)[1]
    plan, _ = plan_for(model, WINDOW, 2000, round_down=True)
    assert plan is not None
    assert plan.new * plan.step == 1920
    assert "share too few frames" in plan_for(model, WINDOW, WINDOW)[1]
    assert "is not a multiple" in plan_for(model, WINDOW, 100, round_down=True)[1]
    assert "too few frames to tell" in plan_for(model, 1200, 320)[1]  # three frames
