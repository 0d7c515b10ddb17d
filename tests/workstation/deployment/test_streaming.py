"""Models cut in two at their front end's seam: exact where they are said to be, refused elsewhere."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from streamed_models import (
    WINDOW,
    model_of,
    recordings_of,
    scorer_of,
    stream,
)
from tiny_models import tiny_config

from edgeprune.core.console import Silent
from edgeprune.core.recipe import build_settings
from edgeprune.deployment import streaming
from edgeprune.deployment.streaming import add_halves, compare
from edgeprune.export.bundle_writer import describe, golden_inputs, write
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models.families import family_of
from edgeprune.pipeline.compress import compress
from edgeprune.quantization.methods import method_of
from edgeprune.quantization.module_scopes import scopes_of
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.incremental import incremental_problem, open_incremental
from edgeprune_device.inference.runtime import open_model


def test_halves_of_another_model_are_found_out(tmp_path: Path) -> None:
    scorer, _, hop = scorer_of(model_of("wav2vec2", tmp_path), WINDOW, 1000)
    _, run, _ = scorer_of(model_of("hubert", tmp_path), WINDOW, 1000)
    assert (
        "differs from the model's by 0.02 (allowed: 0.0001)."
        in compare(scorer, run, stream(), hop)[1]
    )


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
            with pytest.raises(EdgepruneError, match="because products round their inputs"):
                add_halves(manifest, data, model, windows, windows.samples, "on", **given)
        else:
            made, _ = add_halves(manifest, data, model, windows, windows.samples, "on", **given)
            assert made["model"]["incremental"]["measured"]["difference"] == 0


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
            assert ("'off'" if asked == "off" else "repeats") in incremental_problem(bundle)


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
        assert said == ("" if kept else "It saves too little: 81 ms per window instead of 100 ms.")


def test_where_it_was_asked_for_and_cannot_be_a_sentence_says_why(tmp_path: Path) -> None:
    windows, model = recordings_of(), model_of("clap_audio_model", tmp_path)
    manifest = describe(
        "tones", model, windows, quantization="none", opset=18, licence="test", hop_seconds=0.0
    )
    with pytest.raises(EdgepruneError, match=r"not possible for this model[.] CLAP repeats"):
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
