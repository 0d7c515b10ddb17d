"""What a bundle says of clips through the recorder's own runtime, and how right that is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tiny_bundle import make_bundle
from tiny_recordings import RATE, TONES, tone

from edgeprune.deployment.evaluate import BundleScores, compare, measure, score_clips
from edgeprune.metrics.statistics import bootstrap_interval
from edgeprune_calibration.dataset import read_data, untracked
from edgeprune_calibration.manifest import Clip
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import golden_files, write_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.ctc import BLANK_NAME
from edgeprune_device.inference.runtime import check_golden, open_model
from edgeprune_device.recorder.listen import listen

FRAME, FRAMES = 1600, 8
WINDOW = FRAME * FRAMES
LETTERS = (BLANK_NAME, *TONES)


def remake(folder: Path, nodes: Any, **changes: Any) -> Path:
    """Write the tiny bundle again, with other nodes behind its powers, and other entries."""
    import onnx

    made = read_bundle(make_bundle(folder))
    model = onnx.load_from_string(made.model_bytes)
    nodes(model.graph)
    onnx.checker.check_model(model)
    manifest = {k: v for k, v in made.manifest.items() if k != "files"} | changes
    manifest["golden"] = []
    data = model.SerializeToString()
    session = run_of(data)
    window = manifest["model"]["input"]["shape"][1]
    inputs = [tone(pitch, window / RATE, n) for n, pitch in enumerate(TONES.values())]
    files, manifest["golden"] = golden_files(inputs, [session(x) for x in inputs], 1e-4)
    write_bundle(folder, manifest, {"model.onnx": data, **files})
    return folder


def run_of(data: bytes) -> Any:
    import onnxruntime

    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    return lambda x: session.run(None, {"samples": x[None]})[0][0]


@pytest.fixture(scope="module")
def tagger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that answers sigmoid(power at each pitch - 3)."""
    from onnx import helper, numpy_helper

    def nodes(graph: Any) -> None:
        last = graph.node.pop()
        graph.node.extend([helper.make_node("Sub", ["logits", "floor"], ["over"]),
                           helper.make_node("Sigmoid", ["over"], list(last.output))])  # fmt: skip
        graph.initializer.append(numpy_helper.from_array(np.full((1, 1), 3.0, np.float32), "floor"))

    return remake(tmp_path_factory.mktemp("bundle") / "tagger", nodes, activation="sigmoid")


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle that answers softmax(3, power at each pitch) for every tenth of a second."""
    from onnx import TensorProto, helper, numpy_helper

    def nodes(graph: Any) -> None:
        graph.node.pop()  # the softmax
        graph.node.insert(0, helper.make_node("Reshape", ["samples", "cut"], ["frames"]))
        graph.node[1].input[0] = "frames"
        graph.node.extend([
            helper.make_node("Concat", ["blank", "logits"], ["all"], axis=2),
            helper.make_node("Softmax", ["all"], ["scores"], axis=-1),
        ])  # fmt: skip
        graph.initializer.extend([
            numpy_helper.from_array(np.array([1, FRAMES, FRAME], np.int64), "cut"),
            numpy_helper.from_array(np.full((1, FRAMES, 1), 3.0, np.float32), "blank"),
        ])  # fmt: skip
        del graph.input[:], graph.output[:]
        graph.input.append(helper.make_tensor_value_info("samples", TensorProto.FLOAT, [1, WINDOW]))
        shape = [1, FRAMES, len(LETTERS)]
        graph.output.append(helper.make_tensor_value_info("scores", TensorProto.FLOAT, shape))

    folder = tmp_path_factory.mktemp("bundle") / "reader"
    made = read_bundle(make_bundle(folder)).manifest
    model = dict(made["model"]) | {
        "input": {"name": "samples", "shape": [1, WINDOW], "dtype": "float32"},
        "output": {"name": "scores", "shape": [1, FRAMES, len(LETTERS)], "dtype": "float32"},
    }
    seconds = WINDOW / RATE
    return remake(
        folder, nodes, activation="ctc", tokens="words", labels=list(LETTERS), model=model,
        audio={"sample_rate": RATE, "channels": 1, "window_seconds": seconds, "hop_seconds": seconds},
        decision={"thresholds": {}, "smoothing_windows": 1, "refractory_seconds": 0, "ignore": []},
    )  # fmt: skip


def chord(pitches: list[str], seconds: float, seed: int) -> NDArray[np.float32]:
    parts = [tone(TONES[p], seconds, seed + n) for n, p in enumerate(pitches)]
    return np.asarray(sum(parts, np.zeros(round(seconds * RATE))), np.float32)


def hear(
    bundle: Path, sound: NDArray[np.float32], folder: Path
) -> tuple[list[Any], dict[str, Any]]:
    soundfile.write(folder / "s.wav", sound, RATE, subtype="FLOAT")
    stats = listen(bundle, folder / "j", source="wav", from_wav=folder / "s.wav",
                   say=lambda _: None)  # fmt: skip
    lines = (folder / "j" / "detections.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines], stats


def test_two_tags_at_a_time_are_two_detections(tagger: Path, tmp_path: Path) -> None:
    sound = 0.003 * np.random.default_rng(0).standard_normal(6 * RATE).astype(np.float32)
    sound[RATE : RATE + 4800] += chord(["low", "high"], 0.3, 1)
    sound[4 * RATE : 4 * RATE + 4800] += chord(["low"], 0.3, 3)
    found, stats = hear(tagger, sound, tmp_path)
    assert sorted((d["label"], int(d["start_seconds"] + 0.06)) for d in found) == [
        ("high", 1), ("low", 1), ("low", 4),
    ]  # fmt: skip
    assert stats["detections"] == {"high": 1, "low": 2}


def melody(said: str, seed: int = 0) -> NDArray[np.float32]:
    """A window in which each pitch sounds for a tenth of a second, with a tenth of rest before."""
    sound = np.zeros(WINDOW, np.float32)
    for place, pitch in enumerate(said.split()):
        first = (2 * place + 1) * FRAME
        sound[first : first + FRAME] = tone(TONES[pitch], 0.1, 5 + seed + place)
    return sound


def test_what_was_said_is_written_window_by_window(reader: Path, tmp_path: Path) -> None:
    said = ["low high", "", "middle middle low"]
    found, stats = hear(reader, np.concatenate([melody(text) for text in said]), tmp_path)
    seconds = WINDOW / RATE
    assert [(d["label"], d["start_seconds"]) for d in found] == [
        ("low high", 0.0), ("middle middle low", pytest.approx(2 * seconds)),
    ]  # fmt: skip
    assert stats["detections"] == {"transcripts": 2}
    assert stats["windows"] == 3


@pytest.fixture(scope="module")
def melodies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("melodies")
    texts = ["low high", "middle", "high low middle", "low low", "high nothing"]
    lines = ["path,label"]
    for number, text in enumerate(texts):
        sung = " ".join(word for word in text.split() if word in TONES)
        soundfile.write(folder / f"{number}.wav", melody(sung, number), RATE, subtype="FLOAT")
        lines.append(f"{number}.wav,{text}")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder / "labels.csv"


def test_a_recogniser_is_measured_by_its_errors(reader: Path, melodies: Path) -> None:
    clips = read_data(melodies, task="ctc", tokens="words").clips
    heard = score_clips(read_bundle(reader), clips, untracked)
    assert [" ".join(tokens) for tokens in heard.transcripts][:2] == ["low high", "middle"]
    found = measure(heard, clips)
    assert found["metrics"]["token error rate"]["value"] == pytest.approx(1 / 10)  # "nothing"
    assert found["score"] == pytest.approx(0.9)
    assert set(found["metrics"]) == {"1 - TER", "token error rate"}
    own = compare(heard, heard, clips)
    assert (own["agreement"], own["difference"], own["difference_interval"]) == (1.0, 0.0, [0, 0])


def test_a_tagger_is_measured_label_by_label(tagger: Path, tmp_path: Path) -> None:
    lines = ["path,label"]
    for number, tags in enumerate(["low", "low;high", "", "high", "middle", "middle;low"]):
        chosen = tags.split(";") if tags else []
        soundfile.write(
            tmp_path / f"{number}.wav", chord(chosen, 0.1, number), RATE, subtype="FLOAT"
        )
        lines.append(f"{number}.wav,{tags}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n", "utf-8")
    clips = read_data(tmp_path / "labels.csv", task="tags").clips
    found = measure(score_clips(read_bundle(tagger), clips, untracked), clips)
    assert (found["metric"], found["score"]) == ("mAP", 1.0)
    assert found["per_label"]["low"] == {
        "clips": 3, "average_precision": 1.0, "recall": 1.0, "precision": 1.0,
    }  # fmt: skip


def test_both_answer_their_golden_inputs(tagger: Path, reader: Path) -> None:
    for path, shape in ((tagger, (3,)), (reader, (FRAMES, 4))):
        bundle = read_bundle(path)
        assert bundle.output_shape == shape
        assert check_golden(bundle, open_model(bundle)) < 1e-5


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"tokens": "syllables"}, "its tokens 'syllables' are not known"),
        ({"activation": "softmax"}, "4 labels and scores of shape"),
        ({"decision": {"thresholds": {"low": 0.5}, "smoothing_windows": 1, "refractory_seconds": 0,
                       "ignore": []}}, "thresholds do not cover"),
        ({"labels": list(TONES)}, "3 labels and scores of shape"),
    ],
)  # fmt: skip
def test_a_manifest_that_contradicts_its_transcripts_is_refused(
    changes: dict[str, Any], sentence: str, reader: Path, tmp_path: Path
) -> None:
    made = read_bundle(reader)
    manifest = {k: v for k, v in made.manifest.items() if k != "files"} | changes
    files = {name: (reader / name).read_bytes() for name in made.manifest["files"]}
    with pytest.raises(EdgepruneError, match=sentence):
        write_bundle(tmp_path / "b", manifest, files)


CLIPS = [Clip(Path(__file__), label, f"s{i % 3}") for i, label in enumerate("aabbbb")]


def answers(said: str) -> BundleScores:
    scores = np.array([[0.9, 0.1] if letter == "a" else [0.2, 0.8] for letter in said], np.float32)
    return BundleScores(scores, ("a", "b"), 0.0)


def test_accuracy_recall_precision_and_f1_are_those_counted_by_hand() -> None:
    found = measure(answers("abbbba"), CLIPS)  # right: 1st, 3rd, 4th, 5th
    assert (found["correct"], found["clips"]) == (4, 6)
    assert found["per_label"]["a"] == {"recall": 0.5, "precision": 0.5}
    assert found["per_label"]["b"] == {"recall": 0.75, "precision": 0.75}
    assert found["metrics"]["macro F1"]["value"] == pytest.approx(0.625)
    low, high = found["interval"]
    assert (low, high) == pytest.approx((0.2999, 0.9032), abs=5e-4)  # Wilson for 4 of 6


def test_accuracys_interval_is_drawn_over_groups_where_clips_have_them() -> None:
    """Clips of a group are all right or all wrong: Wilson would take each for a draw of its own."""
    clips = [Clip(Path(__file__), "a", f"s{i // 10}") for i in range(40)]
    found = measure(answers("a" * 20 + "b" * 20), clips)
    assert found["interval_over"] == "groups"
    right = np.array([1.0] * 20 + [0.0] * 20)
    expected = bootstrap_interval(right, [str(clip.group) for clip in clips])
    assert found["interval"] == pytest.approx(list(expected))
    assert found["metrics"]["accuracy"]["interval"] == found["interval"]
    low, high = found["interval"]
    assert (low, high) == (0.0, 1.0)  # of four groups, two right


def test_agreement_of_tags_is_what_each_bundle_would_report() -> None:
    clips = [Clip(Path(__file__), "a"), Clip(Path(__file__), "b")]
    scores = np.array([[0.4, 0.1], [0.2, 0.6]], np.float32)
    own, teacher = (
        BundleScores(scores, ("a", "b"), 0.0, "sigmoid", {"a": least, "b": 0.5})
        for least in (0.3, 0.7)
    )
    assert compare(own, own, clips)["agreement"] == 1.0
    assert compare(own, teacher, clips)["agreement"] == 0.75  # the first clip's a alone differs


def test_agreement_and_the_paired_difference() -> None:
    found = compare(answers("abbbba"), answers("aabbba"), CLIPS)
    assert found["agreement"] == pytest.approx(5 / 6)
    assert found["difference"] == pytest.approx(-1 / 6)
    low, high = found["difference_interval"]
    assert low <= -1 / 6 <= high <= 0
