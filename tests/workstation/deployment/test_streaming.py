"""Models cut in two at their front end's seam: exact where they are said to be, refused elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from tiny_models import FAMILY_NAMES, enliven, make_model, tiny_config
from tiny_recordings import RATE, TONES, tone
from torch import nn

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.core.settings import FrontEnd
from edgeprune.data.windows import Windows
from edgeprune.deployment import streaming, streaming_frontend
from edgeprune.deployment.streaming import add_halves, compare, opened
from edgeprune.deployment.streaming_frontend import plan_for
from edgeprune.deployment.streaming_split import back_of, halves_of
from edgeprune.export.bundle_writer import describe, golden_inputs, write
from edgeprune.export.model_rewrites import shape
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.nn.split_point import Seam, seam_of
from edgeprune.pipeline.compress import compress
from edgeprune.quantization.methods import method_of
from edgeprune.quantization.module_scopes import scopes_of
from edgeprune.replacement.frontend_placement import put_light
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.incremental import open_incremental, why_not
from edgeprune_device.inference.runtime import open_model

WINDOW = 8000
LAYER_NORMED = ("wav2vec2", "hubert", "wavlm", "unispeech-sat", "sew", "wav2vec2-conformer")
OTHERS = tuple(x for x in FAMILY_NAMES if x not in (*LAYER_NORMED, "clap_audio_model", "kwt"))


def stream(seconds: float = 3.0) -> NDArray[np.float32]:
    """Return tones and noise at many levels, with silences between them."""
    parts = [tone(p, 0.25, i) * (0.02, 1.0, 0.3)[i % 3]
             for i, p in enumerate([300, 900, 2500, 440, 5000] * 3)]  # fmt: skip
    parts.insert(4, np.zeros(1000, np.float32))
    return np.asarray(np.concatenate(parts)[: round(seconds * RATE)], dtype=np.float32)


def model_of(family: str, folder: Path, window: int = WINDOW) -> Any:
    """Return a tiny classifier that hears samples as they are, layer-normed where it can be."""
    from transformers import AutoModelForAudioClassification

    if family in LAYER_NORMED:
        config = tiny_config(family)
        config.feat_extract_norm, config.num_labels, config.edgeprune_normalize = "layer", 3, False
        torch.manual_seed(0)
        model = AutoModelForAudioClassification.from_config(config)
        enliven(model)
        model.save_pretrained(folder / family)
    else:
        make_model(folder / family, family, tuple(TONES))
    model = loading.load_model(str(folder / family), window_samples=window)
    if hasattr(model.config, "edgeprune_normalize"):
        model.config.edgeprune_normalize = False
    return model


def scorer_of(model: Any, window: int, hop: int, method: str = "none") -> tuple[Any, Any, int]:
    """Return halves that are opened, the whole file's runner, and the hop."""
    plan, why = plan_for(model, window, hop, round_down=True)
    assert plan is not None, why
    scopes, quantized = scopes_of(family_of(model.config.model_type)), method_of("onnx", method)
    clips = stream()[: 3 * window].reshape(3, window)
    data = quantized(to_onnx(model, window, 18), scopes, clips)
    halves, why = halves_of(model, data, plan, quantized, scopes, clips, 18)
    assert halves is not None, why
    return opened(halves), onnx_runner(data), plan.new * plan.step


def worst(scorer: Any, run: Any, hop: int, sound: NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest difference of a score, and how far the scores move over the stream."""
    window = scorer.plan.window_samples
    firsts = range(0, len(sound) - window, hop)
    own = np.array([scorer(first, sound[first : first + window]) for first in firsts])
    whole = np.array([run(sound[None, first : first + window])[0] for first in firsts])
    return float(np.abs(own - whole).max()), float(np.ptp(whole, axis=0).max())


@pytest.mark.parametrize("family", [*LAYER_NORMED, *OTHERS])
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
    put_light(model, seen[0], RATE, settings)
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


def test_frames_at_a_reflected_edge_are_counted(tmp_path: Path) -> None:
    """Whisper: frames of 400 samples around each 160th; two reach over each edge."""
    plan, _ = plan_for(model_of("whisper", tmp_path), WINDOW, 1600)
    assert plan is not None
    assert (plan.left, plan.right, plan.step, plan.frames) == (2, 2, 160, 51)
    ast, _ = plan_for(model_of("audio-spectrogram-transformer", tmp_path), WINDOW, 1600)
    assert ast is not None
    assert (ast.left, ast.right, ast.step, ast.frames) == (0, 0, 160, 48)


def test_what_hangs_on_the_whole_window_is_refused_in_a_sentence(tmp_path: Path) -> None:
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
    monkeypatch.setattr(streaming_frontend, "refusal", lambda model: "")
    model = loading.load_model(str(make_model(tmp_path / "w", "wav2vec2", tuple(TONES))))

    def front(classifier: Any, window: int) -> Any:
        return streaming_frontend.chunk_front(classifier, window), ""

    monkeypatch.setattr(streaming_frontend, "fronts_of", front)
    for normalize in (False, True):
        model.config.edgeprune_normalize = normalize
        plan, why = plan_for(model, WINDOW, 1600)
        assert plan is None
        assert "hangs on the whole window" in why


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
    assert "no multiple of the 320" in plan_for(model, WINDOW, 2000)[1]
    plan, _ = plan_for(model, WINDOW, 2000, round_down=True)
    assert plan is not None
    assert plan.new * plan.step == 1920
    assert "share too few frames" in plan_for(model, WINDOW, WINDOW)[1]
    assert "no multiple" in plan_for(model, WINDOW, 100, round_down=True)[1]
    assert "too few to tell" in plan_for(model, 1200, 320)[1]  # three frames


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
    assert "by another way" in back_of(model.SerializeToString(), clips)[1]
    nodes[0].output[0] = nodes[1].input[0] = "other"
    model = helper.make_model(
        helper.make_graph(nodes, "g", *sides), opset_imports=opset, ir_version=10
    )
    assert "no tensor" in back_of(model.SerializeToString(), clips)[1]


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


def test_halves_of_another_model_are_found_out(tmp_path: Path) -> None:
    scorer, _, hop = scorer_of(model_of("wav2vec2", tmp_path), WINDOW, 1000)
    _, run, _ = scorer_of(model_of("hubert", tmp_path), WINDOW, 1000)
    assert "off the model's, and 0.0001 is allowed." in compare(scorer, run, stream(), hop)[1]


def test_where_products_round_the_halves_answer_to_the_last_bit_or_are_refused(
    tmp_path: Path,
) -> None:
    windows = recordings_of()
    for family, refused in (("wav2vec2", False), ("audio-spectrogram-transformer", True)):
        model = model_of(family, tmp_path)
        scopes, method = scopes_of(family_of(model.config.model_type)), method_of("onnx", "dynamic")
        data = method(to_onnx(model, WINDOW, 18), scopes, windows.samples)
        manifest = describe(
            "x", model, windows, quantization="dynamic", opset=18, licence="", hop_seconds=0.0
        )
        given = {"own_hop": True, "calibrate": "mse", "run": onnx_runner(data)}
        if refused:
            with pytest.raises(EdgepruneError, match="where products round what they read"):
                add_halves(manifest, data, model, windows, windows.samples, "on", **given)
        else:
            made, _ = add_halves(manifest, data, model, windows, windows.samples, "on", **given)
            assert made["model"]["incremental"]["measured"]["difference"] == 0


def recordings_of() -> Windows:
    samples = np.stack([stream()[i * 3000 : i * 3000 + WINDOW] for i in range(6)])
    sound = np.tile([0, WINDOW], (6, 1))
    rows = tuple({"label": x, "columns": {}} for x in sorted(TONES) * 2)
    return Windows(samples, sound, np.arange(6) % 3, rows, tuple(sorted(TONES)), RATE)


def test_a_bundle_carries_its_halves_or_the_reason_against_them(tmp_path: Path) -> None:
    windows = recordings_of()
    for family, asked in (("wav2vec2", "on"), ("wav2vec2", "off"), ("clap_audio_model", "auto")):
        model = model_of(family, tmp_path / f"{family}-{asked}")
        data = to_onnx(model, WINDOW, 18)
        manifest = describe(
            "tones", model, windows, quantization="none", opset=18, licence="test", hop_seconds=0.0
        )
        given = {"own_hop": True, "calibrate": "mse", "run": onnx_runner(data)}
        made, files = add_halves(manifest, data, model, windows, windows.samples, asked, **given)
        folder = tmp_path / f"{family}-{asked}" / "bundle"
        write(folder, made, data, golden_inputs(windows), files)
        bundle = read_bundle(folder)
        if asked == "on":
            assert bundle.hop_samples == 1920  # a quarter of a window, in whole frames of 320
            assert open_incremental(bundle) is not None
            measured = made["model"]["incremental"]["measured"]
            assert measured["difference"] < 1e-5
            assert measured["hop_samples"] == 1920
        else:
            assert bundle.hop_samples == 2000
            assert open_incremental(bundle) is None
            assert ("'off'" if asked == "off" else "repeats") in why_not(bundle)


def test_a_recipe_asks_for_halves_of_an_onnx_file_only() -> None:
    asked = {"quantize": {"incremental": "on"}}
    with pytest.raises(EdgepruneError, match=r"export\.formats names no onnx"):
        build_settings(asked, {"export": {"formats": ("tflite",)}})
    build_settings(asked, {"export": {"formats": ("tflite", "onnx")}})
    with pytest.raises(EdgepruneError, match="is not known"):
        build_settings({"quantize": {"incremental": "yes"}})


def test_halves_that_save_less_than_a_fifth_are_left_out_and_the_hop_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows, model = recordings_of(), model_of("wav2vec2", tmp_path)
    data = to_onnx(model, WINDOW, 18)
    manifest = describe(
        "tones", model, windows, quantization="none", opset=18, licence="test", hop_seconds=0.0
    )
    for own, asked, kept in ((81.0, "auto", False), (79.0, "auto", True), (150.0, "on", True)):
        facts = {"difference": 0.0, "milliseconds": own, "whole": 100.0}
        monkeypatch.setattr(streaming, "compare", lambda *_, facts=facts: (facts, ""))
        made, files = add_halves(
            manifest, data, model, windows, windows.samples, asked, own_hop=True,
            calibrate="mse", run=onnx_runner(data),
        )  # fmt: skip
        assert bool(files) == kept
        assert made["audio"]["hop_seconds"] == (0.12 if kept else 0.125)
        said = made["model"].get("not_incremental", "")
        assert said == ("" if kept else "It saves too little: 81 ms a window, and the whole model "
                        "takes 100 ms.")  # fmt: skip


def test_where_it_was_asked_for_and_cannot_be_a_sentence_says_why(tmp_path: Path) -> None:
    windows, model = recordings_of(), model_of("clap_audio_model", tmp_path)
    manifest = describe(
        "tones", model, windows, quantization="none", opset=18, licence="test", hop_seconds=0.0
    )
    with pytest.raises(EdgepruneError, match=r"window to window[.] CLAP repeats"):
        add_halves(manifest, b"", model, windows, windows.samples, "on", own_hop=True,
                   calibrate="mse", run=lambda x: x)  # fmt: skip


@pytest.mark.slow
def test_compress_delivers_the_halves_of_a_layer_normed_model(
    recordings: Path, tmp_path: Path
) -> None:
    from transformers import AutoModel, Wav2Vec2FeatureExtractor

    config = tiny_config("wav2vec2", layers=2)
    config.feat_extract_norm = "layer"
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(tmp_path / "model")
    Wav2Vec2FeatureExtractor(do_normalize=False).save_pretrained(tmp_path / "model")
    recipe = {
        "seeds": 1, "max_drop": 0.9, "prune": {"layers": [0]},
        "teach": {"epochs": 1}, "distill": {"epochs": 0, "label_epochs": 0},
        "score": {"neighbours": 3, "permutations": 5},
        "quantize": {"incremental": "on", "method": "dynamic"},
        "bench": {"seconds": 0.05, "threads": [1], "rounds": 3},
    }  # fmt: skip
    out = tmp_path / "run"
    compress(str(tmp_path / "model"), recordings, out, build_settings(recipe), ui=Silent())
    bundle = read_bundle(out / "bundle")
    assert bundle.hop_samples == 960
    scorer = open_incremental(bundle)
    assert scorer is not None
    run, sound = open_model(bundle), stream()
    for first in range(0, len(sound) - bundle.window_samples, 960):
        window = sound[first : first + bundle.window_samples]
        assert np.abs(scorer(first, window) - run(window)).max() < 1e-4
    assert scorer.kept > 2 * scorer.computed
