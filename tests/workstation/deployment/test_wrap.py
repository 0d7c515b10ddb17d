"""Models nobody here made: wrapped as they are, and what comes out is what they say themselves."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import soundfile
import torch
from ai_edge_litert.interpreter import Interpreter
from mlperf_features import mfcc
from numpy.typing import NDArray
from onnx import TensorProto, helper
from typer.testing import CliRunner

from edgeprune.cli.app import app
from edgeprune.deployment.wrap import Wrap, wrap
from edgeprune_device.audio.sound_files import read_clip
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import check_golden, open_model
from edgeprune_device.recorder.listen import listen

Array = NDArray[Any]
Shared = Callable[[str], Path]


def heard(bundle: Path, wav: Path, out: Path) -> list[dict[str, Any]]:
    listen(bundle, out, source="wav", from_wav=wav, say=lambda _: None)
    lines = (out / "detections.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def test_yamnet_says_speech_of_its_own_speech(models: Shared, tmp_path: Path) -> None:
    path, wav = (models(f"yamnet/{name}") for name in
                 ("yamnet_audio_classifier_with_metadata.tflite", "speech.wav"))  # fmt: skip
    done = wrap(path, tmp_path / "yamnet", Wrap(golden=wav, speech=("Speech", "Conversation")))
    assert (done["labels"], done["activation"]) == (521, "sigmoid")
    assert done["golden"] == ["Speech"] * 3
    names = (path.parent / "yamnet_521_labels.txt").read_text("utf-8").splitlines()
    bundle = read_bundle(tmp_path / "yamnet")
    assert list(bundle.labels) == names  # from the file's own metadata
    assert bundle.manifest["privacy"] == {"labels": ["Speech", "Conversation"]}
    detections = heard(tmp_path / "yamnet", wav, tmp_path / "journal")
    assert {d["label"] for d in detections} == {"Speech"}
    interpreter: Any = Interpreter(str(path))
    interpreter.allocate_tensors()
    window = read_clip(wav, 16000)[8000 : 8000 + 15600]
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], window)
    interpreter.invoke()
    direct = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    assert np.array_equal(open_model(bundle)(window), direct)


def silero(path: Path, sound: Array) -> Array:
    """Run silero directly, a frame at a time, as its own README does; (frames,)."""
    session = onnxruntime.InferenceSession(path)
    asks = {given.name for given in session.get_inputs()}
    state, context, voices = np.zeros((2, 1, 128), np.float32), np.zeros(64, np.float32), []
    for first in range(0, len(sound) - 511, 512):
        frame = sound[first : first + 512]
        feeds = {"input": np.concatenate([context, frame])[None], "state": state}
        if "sr" in asks:
            feeds["sr"] = np.array(16000, np.int64)
        voice, state = session.run(["output", "stateN"], feeds)
        voices.append(float(voice[0, 0]))
        context = frame[-64:]
    return np.array(voices)


@pytest.mark.parametrize(
    "name", ["silero_vad.onnx", "silero_vad_16k_op15.onnx", "silero_vad_half.onnx"]
)
def test_silero_answers_as_silero_does_frame_by_frame(
    name: str, models: Shared, tmp_path: Path
) -> None:
    path, wav = models(f"silero_vad/{name}"), models("silero_vad/test.wav")
    wrap(path, tmp_path / "voice", Wrap(kind="silero-vad", golden=wav))
    bundle, sound = read_bundle(tmp_path / "voice"), read_clip(wav, 16000)
    run, size, hop = open_model(bundle), bundle.window_samples, bundle.hop_samples
    starts = range(0, len(sound) - size + 1, 5 * hop)
    direct = [silero(path, sound[start : start + size])[32:].max() for start in starts]
    mine = np.array([run(sound[start : start + size])[0] for start in starts])
    assert len(starts) > 10
    assert np.abs(mine - direct).max() < 1e-6
    if name == "silero_vad.onnx":  # and as silero does that never begins anew
        voices = silero(path, sound)
        endless = [voices[start // 512 + 32 : start // 512 + 64].max() for start in starts]
        assert ((mine > 0.5) == (np.array(endless) > 0.5)).all()
    run(sound[hop : hop + size])
    assert run(sound[:size])[0] == mine[0]  # nothing of one window is left for the next


@pytest.mark.parametrize("name", ["kws_ref_model.tflite", "kws_ref_model_float32.tflite"])
def test_the_keyword_model_gets_its_features_and_gives_its_scores(
    name: str, models: Shared, tmp_path: Path
) -> None:
    path = models(f"mlperf_tiny/{name}")
    wrap(path, tmp_path / "kws", Wrap(kind="mlperf-keywords"))
    bundle = read_bundle(tmp_path / "kws")
    interpreter: Any = Interpreter(str(path))
    interpreter.allocate_tensors()
    (source,), (target,) = interpreter.get_input_details(), interpreter.get_output_details()
    rng = np.random.default_rng(2)
    for _ in range(5):
        samples = (0.1 * rng.standard_normal(16000) * np.hanning(16000)).astype(np.float32)
        given = mfcc(samples).reshape(1, 49, 10, 1)
        if source["dtype"] == np.int8:
            scale, zero = source["quantization"]
            given = np.clip(np.rint(given / scale) + zero, -128, 127)
        interpreter.set_tensor(source["index"], given.astype(source["dtype"]))
        interpreter.invoke()
        direct = interpreter.get_tensor(target["index"])[0].astype(float)
        if target["dtype"] == np.int8:
            scale, zero = target["quantization"]
            direct = (direct - zero) * scale
        assert np.abs(open_model(bundle)(samples) - direct).max() < 0.012  # 3 steps of its scores
    assert bundle.labels[0] == "down"
    assert bundle.manifest["decision"]["ignore"] == ["silence", "unknown"]


def test_the_wake_word_model_runs_in_int8(models: Shared, tmp_path: Path) -> None:
    path = models("mlperf_tiny/str_ww_ref_model.tflite")
    done = wrap(path, tmp_path / "ww", Wrap(kind="mlperf-wakeword"))
    assert done["labels"] == 3
    bundle = read_bundle(tmp_path / "ww")
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000)  # what it was taught as silence
    assert bundle.labels[int(open_model(bundle)(noise.astype(np.float32)).argmax())] == "silence"
    assert open_model(bundle)(np.zeros(16000, np.float32))[0] < 0.1  # and nothing is no marvin


def test_logits_of_a_foreign_transformer_become_probabilities(
    models: Shared, tmp_path: Path
) -> None:
    path = models("kwt1_speech_commands/kwt1.tflite")
    labels = tuple((path.parent / "labels.txt").read_text("utf-8").split())
    with pytest.raises(EdgepruneError, match="not 0 to 1") as error:
        wrap(path, tmp_path / "kwt", Wrap(labels=labels))
    assert "--logits" in error.value.hint
    wrap(path, tmp_path / "kwt", Wrap(labels=labels, logits=True))
    samples = np.random.default_rng(0).standard_normal(16000).astype(np.float32) * 0.1
    interpreter: Any = Interpreter(str(path))
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], samples[None])
    interpreter.invoke()
    logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0]
    expected = torch.tensor(logits).softmax(-1).numpy()
    assert np.abs(open_model(read_bundle(tmp_path / "kwt"))(samples) - expected).max() < 1e-6


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("mlperf_tiny/ad01_int8.tflite", {"labels": ("odd", "normal")}, "it is not a classifier"),
        ("mlperf_tiny/kws_ref_model.tflite", {"labels": ("a",) * 12}, "an array of 1 x 49 x 10 x 1"),
        ("mlperf_tiny/kws_ref_model.tflite", {"kind": "kws"}, "kind = 'kws' is not known"),
        ("mlperf_tiny/kws_ref_model.tflite", {"kind": "mlperf-wakeword"}, "3 labels"),
        ("kwt1_speech_commands/kwt1.tflite", {}, "has 12 scores without names"),
        ("kwt1_speech_commands/kwt1.tflite", {"labels": ("a", "b")}, "There are 2 labels"),
        ("kwt1_speech_commands/labels.txt", {}, "is not a .onnx or .tflite file"),
        ("silero_vad/silero_vad.onnx", {"labels": ("voice",)}, "has the inputs input, state, sr"),
        ("yamnet/yamnet_audio_classifier_with_metadata.tflite", {"ignore": ("owl",)}, "no label"),
        ("yamnet/yamnet_audio_classifier_with_metadata.tflite", {"speech": ("owl",)}, "no label"),
    ],
)  # fmt: skip
def test_what_cannot_be_wrapped_is_said_in_a_sentence(
    name: str, given: dict[str, Any], words: str, models: Shared, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match=words) as error:
        wrap(models(name), tmp_path / "b", Wrap(**given))
    assert error.value.status == 2
    assert not list(tmp_path.iterdir())


def foreign(path: Path, shape: list[Any], out: list[Any], kind: int = TensorProto.FLOAT) -> Path:
    """Write a file that answers with the mean of the two halves of its sound, whatever its shape."""
    flat = helper.make_node("Reshape", ["sound", "rows"], ["halves"])
    mean = helper.make_node("ReduceMean", ["halves"], ["mean"], axes=[1], keepdims=0)
    shaped = helper.make_node("Reshape", ["mean", "shape"], ["scores"])
    sizes = [size if isinstance(size, int) else 1 for size in out]
    graph = helper.make_graph(
        [flat, mean, shaped], "g", [helper.make_tensor_value_info("sound", kind, shape)],
        [helper.make_tensor_value_info("scores", kind, out)],
        [onnx.numpy_helper.from_array(np.array([2, -1]), "rows"),
         onnx.numpy_helper.from_array(np.array(sizes), "shape")],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("shape", "out"),
    [([800], [2]), ([1, 800], [1, 2]), ([1, 800, 1], [1, 1, 2]), ([1, 1, 800], [2, 1]),
     (["batch", "time"], ["batch", 2]), ([None, 1, None], [1, 2])],
)  # fmt: skip
def test_sound_of_any_rank_goes_in_and_scores_of_any_rank_come_out(
    shape: list[Any], out: list[Any], tmp_path: Path
) -> None:
    model = foreign(tmp_path / "m.onnx", shape, out)
    settings = Wrap(labels=("first", "second"), sample_rate=8000, activation="sigmoid",
                    logits=True, window_seconds=0.1 if shape[-1] in ("time", None) else 0)  # fmt: skip
    wrap(model, tmp_path / "b", settings)
    bundle = read_bundle(tmp_path / "b")
    assert (bundle.sample_rate, bundle.window_samples, bundle.hop_samples) == (8000, 800, 400)
    samples = np.concatenate([np.full(400, 1.0), np.full(400, -2.0)]).astype(np.float32)
    expected = 1 / (1 + np.exp([-1.0, 2.0]))
    assert np.abs(open_model(bundle)(samples) - expected).max() < 1e-6


def test_a_length_left_open_must_be_said(tmp_path: Path) -> None:
    model = foreign(tmp_path / "m.onnx", [None, None], [1, 2])
    with pytest.raises(EdgepruneError, match="windows of any length") as error:
        wrap(model, tmp_path / "b", Wrap(labels=("a", "b")))
    assert "--window" in error.value.hint


def test_wrap_bench_and_listen_run_from_the_command_line(models: Shared, tmp_path: Path) -> None:
    path = models("mlperf_tiny/kws_ref_model_float32.tflite")
    runner, out = CliRunner(), str(tmp_path / "kws")
    soundfile.write(
        tmp_path / "s.wav", 0.01 * np.random.default_rng(0).standard_normal(48000), 16000
    )
    for arguments in (
        ["wrap", str(path), "--kind", "mlperf-keywords", "-o", out, "--licence", "Apache-2.0"],
        ["bench", out, "-o", str(tmp_path / "bench"), "--threads", "1", "--seconds", "0.2"],
        ["listen", out, "--from-wav", str(tmp_path / "s.wav"), "-o", str(tmp_path / "journal")],
    ):
        result = runner.invoke(app, arguments, catch_exceptions=False)
        assert result.exit_code == 0, result.output
    bundle = read_bundle(tmp_path / "kws")
    assert check_golden(bundle, open_model(bundle)) == 0.0
    assert bundle.manifest["licence"] == "Apache-2.0"
    (tmp_path / "labels.txt").write_text("a\nb\n\n", "utf-8")
    other = foreign(tmp_path / "m.onnx", [800], [2])
    arguments = ["wrap", str(other), "--labels", str(tmp_path / "labels.txt"), "--rate", "8000",
                 "--logits", "--activation", "sigmoid", "-o", str(tmp_path / "b")]  # fmt: skip
    assert runner.invoke(app, arguments, catch_exceptions=False).exit_code == 0
    assert read_bundle(tmp_path / "b").labels == ("a", "b")
