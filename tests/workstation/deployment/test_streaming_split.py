"""Files cut in two at the front end's seam: exact where they are said to be, refused elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from slow_cases import families
from streamed_models import (
    LAYER_NORMED,
    OTHERS,
    WINDOW,
    model_of,
    scorer_of,
    stream,
    worst,
)
from tiny_models import enliven
from tiny_recordings import RATE

from edgeprune.core.settings import FrontEnd
from edgeprune.deployment.streaming_frontend import plan_for
from edgeprune.deployment.streaming_split import back_of, halves_of
from edgeprune.export.onnx import to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.quantization.methods import method_of
from edgeprune.quantization.module_scopes import scopes_of
from edgeprune.replacement.frontend_placement import insert_light_frontend


@pytest.mark.parametrize("family", families([*LAYER_NORMED, *OTHERS]))
def test_every_other_family_scores_overlapping_windows_as_the_whole_file(
    family: str, tmp_path: Path
) -> None:
    scorer, run, hop = scorer_of(model_of(family, tmp_path), WINDOW, 1000)
    difference, moved = worst(scorer, run, hop, stream())
    assert difference < 1e-5
    assert moved > 1e-3, "scores that never change would prove nothing"
    assert scorer.kept > scorer.computed / 2


def test_kwt_scores_overlapping_windows_as_the_whole_file(kwt_folder: Path) -> None:
    model = loading.load_model(str(kwt_folder))
    scorer, run, hop = scorer_of(model, RATE, 2000)
    difference, moved = worst(scorer, run, hop, stream())
    assert (scorer.plan.left, scorer.plan.right, hop) == (0, 0, 1920)
    assert difference < 1e-5
    assert moved > 0.1


@pytest.mark.parametrize(
    ("family", "kind"),
    [("wav2vec2", "log-mel"), ("wav2vec2", "mfcc"), ("wav2vec2", "narrow"), ("kwt", "log-mel")],
)
def test_a_light_front_end_in_place_of_the_models_is_cut_too(
    family: str, kind: str, tmp_path: Path
) -> None:
    model = model_of(family, tmp_path, RATE)
    enliven(model)
    settings = FrontEnd(kind=kind, width=8, mels=12, layers=1, hop_ms=20.0)
    samples = torch.from_numpy(stream()[None, :RATE])
    seen: list[torch.Tensor] = []
    part = model.frontend if family == "kwt" else model.base_model.feature_extractor
    part.register_forward_hook(lambda _, __, out: seen.append(out))
    with torch.no_grad():
        loading.logits_of(model, samples)
    insert_light_frontend(model, seen[0], RATE, settings)
    scorer, run, hop = scorer_of(model.eval(), RATE, 4000)
    assert worst(scorer, run, hop, stream())[0] < 1e-5


@pytest.mark.parametrize("front_end", ["log-mel", "mfcc", "waveform", "cnn"])
def test_every_stem_of_a_student_is_cut(front_end: str) -> None:
    from edgeprune.nn.stems import cnn_frames
    from edgeprune.nn.student import StudentConfig, StudentForAudioClassification

    cnn = front_end == "cnn"
    config = StudentConfig(
        front_end=front_end, hidden_size=32 if cnn else 16, num_mel_bins=12, num_mfcc=6,
        num_hidden_layers=0 if cnn else 2, num_labels=3, pooling="flatten" if cnn else "mean",
        pooled_frames=cnn_frames(WINDOW), stem_channels=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = StudentForAudioClassification(config).eval()
    model.config.edgeprune_normalize = False
    scorer, run, hop = scorer_of(model, WINDOW, 1000)
    assert worst(scorer, run, hop, stream())[0] < 1e-5


@pytest.mark.parametrize("method", ["none", "dynamic", "weights", "weights4", "static"])
@pytest.mark.parametrize("family", ["wav2vec2", "edgeprune-student"])
def test_quantized_files_are_cut_and_answer_alike(family: str, method: str, tmp_path: Path) -> None:
    scorer, run, hop = scorer_of(model_of(family, tmp_path), WINDOW, 1000, method)
    assert worst(scorer, run, hop, stream())[0] < 1e-4


def test_a_file_whose_samples_go_round_the_seam_is_not_cut() -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info
    nodes = [
        helper.make_node("Relu", ["samples"], ["frames"]),
        helper.make_node("Add", ["frames", "samples"], ["scores"]),
    ]
    sides = [[value(name, TensorProto.FLOAT, [1, 4])] for name in ("samples", "scores")]
    opset = [helper.make_opsetid("", 17)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", *sides), opset_imports=opset, ir_version=10
    )
    clips = np.zeros((1, 4), np.float32)
    assert "not only through its front end" in back_of(model.SerializeToString(), clips)[1]
    nodes[0].output[0] = nodes[1].input[0] = "other"
    model = helper.make_model(
        helper.make_graph(nodes, "g", *sides), opset_imports=opset, ir_version=10
    )
    assert "no longer has a tensor" in back_of(model.SerializeToString(), clips)[1]


def test_half_precision_is_refused(tmp_path: Path) -> None:
    model = model_of("edgeprune-student", tmp_path)
    plan, _ = plan_for(model, WINDOW, 1280)
    assert plan is not None
    scopes, method = scopes_of(family_of(model.config.model_type)), method_of("onnx", "half")
    clips = stream()[None, :WINDOW]
    data = method(to_onnx(model, WINDOW, 18), scopes, clips)
    halves, why = halves_of(model, data, plan, method, scopes, clips, 18)
    assert halves is None
    assert "single precision" in why
