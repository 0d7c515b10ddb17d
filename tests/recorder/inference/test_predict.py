"""A bundle from Python: what it predicts is what the recorder hears, however the sound is given.

The oracle cuts windows by hand and asks onnx's own reference evaluator, which is numpy.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from bundle_edits import contents, edit, zipped
from numpy.typing import NDArray
from tiny_recordings import RATE, TONES, tone

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import golden_files, write_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.predict import LoadedBundle, load_bundle, open_model, to_mono
from edgeprune_device.recorder.listen import listen
from edgeprune_device.settings_reader import build_settings

Samples = NDArray[np.float32]
WINDOW, HOP = 1600, 800


@pytest.fixture(scope="module")
def model(tiny_bundle: Path) -> LoadedBundle:
    return load_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def sound() -> Samples:
    """A tone of each label in noise; 16 bits hold it; half a window is left over at its end."""
    made = 0.003 * np.random.default_rng(0).standard_normal(3 * RATE + 700)
    for number, (label, pitch) in enumerate(TONES.items()):
        made[number * RATE + 4000 :][:4800] += tone(pitch, 0.3, len(label))
    return (np.rint(made * 32767) / 32768).astype(np.float32)


def by_hand(bundle: Path, sound: Samples) -> tuple[list[float], Samples]:
    """Return starts in seconds and scores of a sound at the model's rate, without our code."""
    from onnx.reference import ReferenceEvaluator

    starts = [*range(0, len(sound) - WINDOW + 1, HOP)]
    if 2 * (len(sound) - starts[-1] - WINDOW) >= HOP:
        starts.append(len(sound) - WINDOW)
    run = ReferenceEvaluator(str(bundle / "model.onnx")).run
    scores = [run(None, {"samples": sound[first : first + WINDOW][None]})[0][0] for first in starts]
    return [first / RATE for first in starts], np.array(scores)


def test_every_window_has_the_scores_of_the_model_and_its_place(
    model: LoadedBundle, tiny_bundle: Path, sound: Samples
) -> None:
    found = model.predict(sound, RATE)
    starts, scores = by_hand(tiny_bundle, sound)
    assert found.start_seconds.tolist() == starts
    np.testing.assert_allclose(found.scores, scores, atol=1e-5)
    assert (found.labels, found.window_seconds) == (tuple(TONES), 0.1)
    assert len(starts) == 60  # 48,700 samples: 59 windows, and 700 more at the end


@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_the_recorder_journals_the_same_scores_of_the_same_file(
    rate: int, model: LoadedBundle, tiny_bundle: Path, sound: Samples, tmp_path: Path
) -> None:
    heard = sound if rate == RATE else soxr.resample(sound, RATE, rate)
    soundfile.write(tmp_path / "s.wav", heard, rate, subtype="FLOAT")
    settings = build_settings({"decide": {"threshold": 0.5, "refractory_seconds": 0.0}}, "the test")
    listen(tiny_bundle, tmp_path / "j", settings, source="wav", from_wav=tmp_path / "s.wav",
           say=lambda _: None)  # fmt: skip
    lines = (tmp_path / "j" / "detections.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    windows = {round(p.start_seconds, 4): p for p in model.predict(tmp_path / "s.wav")}
    assert {row["label"] for row in rows} == set(TONES)
    for row in rows:  # each names its most certain window
        window = windows[row["start_seconds"]]
        assert (window.label, round(window.end_seconds, 4)) == (row["label"], row["end_seconds"])
        assert window.score == pytest.approx(row["score"], abs=1e-4)


def test_a_file_an_array_and_integers_of_one_sound_are_scored_alike(
    model: LoadedBundle, sound: Samples, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "s.wav", sound, RATE, subtype="PCM_16")
    whole = np.rint(sound * 32768).astype(np.int16)
    wanted = model.predict(sound, RATE)
    others: tuple[Any, ...] = (
        model.predict(tmp_path / "s.wav"), model.predict(str(tmp_path / "s.wav")),
        model.predict(whole, RATE), model.predict(whole.astype(np.int32) * 65_536, RATE),
        model.predict(sound.astype(np.float64), RATE), model.predict(sound.tolist(), RATE),
    )  # fmt: skip
    for found in others:
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-6)
        np.testing.assert_array_equal(found.start_seconds, wanted.start_seconds)


def test_channels_are_averaged(model: LoadedBundle, sound: Samples, tmp_path: Path) -> None:
    other = np.roll(sound, 5000)
    stereo = np.stack([sound, other], axis=1)
    soundfile.write(tmp_path / "s.wav", stereo, RATE, subtype="FLOAT")
    wanted = model.predict((sound + other) / 2, RATE).scores
    np.testing.assert_allclose(model.predict(stereo, RATE).scores, wanted, atol=1e-5)
    np.testing.assert_allclose(model.predict(tmp_path / "s.wav").scores, wanted, atol=1e-5)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_another_rate_is_resampled_as_a_whole_would_be(
    rate: int, model: LoadedBundle, sound: Samples, tmp_path: Path
) -> None:
    heard = soxr.resample(sound, RATE, rate)
    soundfile.write(tmp_path / "s.wav", heard, rate, subtype="FLOAT")
    wanted = model.predict(soxr.resample(heard, rate, RATE, quality="HQ"), RATE)
    for found in (model.predict(heard, rate), model.predict(tmp_path / "s.wav")):
        np.testing.assert_array_equal(found.start_seconds, wanted.start_seconds)
        np.testing.assert_allclose(found.scores, wanted.scores, atol=1e-4)


def test_a_sound_shorter_than_a_window_stands_in_the_middle_of_noughts(
    model: LoadedBundle, tiny_bundle: Path
) -> None:
    short = tone(TONES["high"], 0.06, 1)
    found = model.predict(short, RATE)
    window = np.zeros(WINDOW, np.float32)
    window[(WINDOW - len(short)) // 2 :][: len(short)] = short
    np.testing.assert_allclose(found.scores, by_hand(tiny_bundle, window)[1], atol=1e-5)
    assert found.start_seconds.tolist() == [0]


def test_a_sound_shorter_than_half_a_hop_gives_no_window(model: LoadedBundle) -> None:
    found = model.predict(np.zeros(HOP // 2 - 1, np.float32), RATE)
    assert (len(found), found.scores.shape, str(found)) == (0, (0, 3), "")
    assert len(model.predict(np.zeros(HOP // 2, np.float32), RATE)) == 1


def test_the_bundles_temperature_is_applied(
    model: LoadedBundle, tiny_bundle: Path, sound: Samples, tmp_path: Path
) -> None:
    manifest, files = contents(tiny_bundle)
    write_bundle(tmp_path / "b", manifest, files)
    edit(tmp_path / "b", lambda m: m["decision"].update(temperature=2.0))
    plain = model.predict(sound, RATE).scores.astype(np.float64)
    roots = np.sqrt(np.maximum(plain, 1e-7))  # p ** (1 / 2), made to sum to one
    np.testing.assert_allclose(
        load_bundle(tmp_path / "b").predict(sound, RATE).scores,
        roots / roots.sum(axis=1, keepdims=True), atol=1e-4,
    )  # fmt: skip


def test_transcripts_keep_their_frames_and_are_read(tmp_path: Path) -> None:
    """A model of four frames: which of three pitches is loudest in each, as a character."""
    letters = ("<pad>", "a", "b")
    score = reading_bundle(tmp_path / "b", letters)
    model = load_bundle(tmp_path / "b")
    sound = np.concatenate([np.full(400, level, np.float32) for level in (1.0, 1.0, -1.0, 0.0)])
    found = model.predict(sound, RATE)
    assert found.scores.shape == (1, 4, 3)
    np.testing.assert_allclose(found.scores[0], score(sound), atol=1e-5)
    assert [p.label for p in found] == ["ab"]  # a a b blank


def reading_bundle(folder: Path, letters: tuple[str, ...]) -> Any:
    """Write a bundle of transcripts: the mean of a frame is its label's logit, up or down."""
    from onnx import TensorProto, helper, numpy_helper

    weights = np.zeros((400, 3), np.float32)
    weights[:, 1], weights[:, 2] = 8 / 400, -8 / 400
    bias = np.array([4, 0, 0], np.float32)

    def score(sound: Samples) -> Samples:
        logits = sound.reshape(4, 400) @ weights + bias
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)

    graph = helper.make_graph(
        [helper.make_node("Reshape", ["samples", "shape"], ["frames"]),
         helper.make_node("MatMul", ["frames", "weights"], ["products"]),
         helper.make_node("Add", ["products", "bias"], ["logits"]),
         helper.make_node("Softmax", ["logits"], ["scores"], axis=-1)],
        "reading",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, [1, WINDOW])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 4, 3])],
        [numpy_helper.from_array(np.array([1, 4, 400]), "shape"),
         numpy_helper.from_array(weights, "weights"), numpy_helper.from_array(bias, "bias")],
    )  # fmt: skip
    onnx = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    sound = np.linspace(-1, 1, WINDOW, dtype=np.float32)
    files, golden = golden_files([sound], [score(sound)], 1e-4)
    manifest = {
        "name": "reading", "edgeprune_version": "0", "golden": golden, "labels": list(letters),
        "model": {"file": "model.onnx", "format": "onnx", "opset": 17, "quantization": "none",
                  "parameters": 0, "layers": 1, "family": "tiny",
                  "input": {"name": "samples", "shape": [1, WINDOW], "dtype": "float32"},
                  "output": {"name": "scores", "shape": [1, 4, 3], "dtype": "float32"}},
        "audio": {"sample_rate": RATE, "channels": 1, "window_seconds": 0.1, "hop_seconds": 0.1},
        "activation": "ctc", "tokens": "characters",
        "decision": {"thresholds": {}, "smoothing_windows": 1, "refractory_seconds": 0, "ignore": []},
        "requirements": {}, "provenance": {}, "licence": "test",
    }  # fmt: skip
    write_bundle(folder, manifest, {"model.onnx": onnx.SerializeToString(), **files})
    return score


BAD: list[tuple[Any, Any, str]] = [
    (np.zeros(1600, np.float32), None, r"sample_rate is missing: an array does not say"),
    (np.zeros(1600, np.float32), 16, r"sample_rate = 16 is out of range .*1000 to 768000 Hz"),
    (np.zeros(1600, np.float32), "16k", r"sample_rate = '16k' is not a whole number of Hz"),
    (np.full(1600, 32767.0), RATE, r"a sample of 32767, but floats must be in \[-1, 1\]"),
    (np.zeros((2, 1600), np.float32), RATE, "more channels than samples"),
    (np.zeros((1, 2, 3), np.float32), RATE, r"shape \(1, 2, 3\) is not audio"),
    (np.zeros(0, np.float32), RATE, r"shape \(0,\) is not audio"), (1.0, RATE, "is not audio"),
    (np.zeros(1600, np.uint8), RATE, "type uint8 are not supported"),
    (np.zeros(1600, np.complex64), RATE, "type complex64 are not supported"),
    (np.full(1600, np.nan, np.float32), RATE, "samples that are not finite"),
    ("/no/such/file.wav", None, "There is no sound file /no/such/file.wav"),
    ("/no/such/file.wav", RATE, "A file has its own sample rate; 16000 Hz was given"),
]  # fmt: skip


@pytest.mark.parametrize(("sound", "rate", "words"), BAD, ids=[words for *_, words in BAD])
def test_what_is_not_audio_is_one_sentence(
    sound: Any, rate: Any, words: str, model: LoadedBundle
) -> None:
    with pytest.raises(EdgepruneError, match=words) as caught:
        model.predict(sound, rate)
    assert caught.value.status == 2
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_audio_is_one_sentence(model: LoadedBundle, tmp_path: Path) -> None:
    (tmp_path / "s.wav").write_bytes(b"no sound")
    with pytest.raises(EdgepruneError, match=r"s\.wav cannot be read as audio"):
        model.predict(tmp_path / "s.wav")


def test_integers_are_shares_of_their_own_full_scale() -> None:
    assert to_mono(np.array([-32768, 16384], np.int16)).tolist() == [-1, 0.5]
    assert to_mono(np.array([-(2**31), 2**30], np.int32)).tolist() == [-1, 0.5]
    assert to_mono(np.array([[0.5, -0.25], [1, 0]])).tolist() == [0.125, 0.5]
    assert to_mono(np.array([[0.5, 0.25, 0.75]]).T).dtype == np.float32


def test_a_bundle_says_what_it_takes_and_is_opened_by_its_path_or_as_it_is(
    model: LoadedBundle, tiny_bundle: Path, tmp_path: Path
) -> None:
    assert (model.name, model.labels, model.sample_rate) == ("tiny", tuple(TONES), RATE)
    assert (model.window_seconds, model.hop_seconds) == (0.1, 0.05)
    assert repr(model) == "LoadedBundle('tiny', 3 labels, 16000 Hz, windows of 0.1 s)"
    assert load_bundle(str(zipped(tiny_bundle, tmp_path / "b.zip"))).bundle.digest \
        == model.bundle.digest  # fmt: skip
    window = tone(TONES["low"], 0.1, 0)
    wanted = by_hand(tiny_bundle, window)[1][0]
    for way in (tiny_bundle, str(tiny_bundle), read_bundle(tiny_bundle), model):
        np.testing.assert_allclose(open_model(way)(window), wanted, atol=1e-5)
    with pytest.raises(EdgepruneError, match="There is no bundle at"):
        load_bundle(tmp_path / "nothing")


def test_a_model_with_other_scores_here_is_not_opened(tiny_bundle: Path, tmp_path: Path) -> None:
    manifest, files = contents(tiny_bundle)
    bundle = read_bundle(tiny_bundle)
    other, golden = golden_files([g.samples for g in bundle.golden],
                                 [np.roll(g.scores, 1) for g in bundle.golden], 1e-4)  # fmt: skip
    write_bundle(tmp_path / "b", {**manifest, "golden": golden}, {**files, **other})
    with pytest.raises(EdgepruneError, match="has other scores on this machine") as caught:
        load_bundle(tmp_path / "b")
    assert caught.value.status == 1
