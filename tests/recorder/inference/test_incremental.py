"""Overlapping windows scored from kept frames: the whole model's answer, whatever the stream does.

The model is made by hand: 23 (or, its edges reflected, 26) frames of a strided convolution, then a
product over all of them. What it must answer is computed in numpy from the whole window.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bundle.frame_overlap import FrameOverlap
from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.bundle.writer import golden_files, with_alternative, write_bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference.incremental import (
    IncrementalScorer,
    incremental_problem,
    open_incremental,
    open_incremental_unchecked,
)

WINDOW, STEP, REACH, HOP, CHANNELS = 200, 8, 20, 24, 5
PAD = {"plain": 0, "reflected": REACH // 2}
EDGES = {"plain": 0, "reflected": 2}
LABELS = ("a", "b", "c")
Samples = NDArray[np.float32]
RANDOM = np.random.default_rng(0)
KERNEL = (RANDOM.standard_normal((CHANNELS, 1, REACH)) / 4).astype(np.float32)
SOUND = RANDOM.standard_normal(4000).astype(np.float32)


def frames_of(samples: Samples, pad: int) -> Samples:
    """Return the frames (frames, channels) in numpy."""
    padded = np.pad(samples, pad, mode="reflect") if pad else samples
    rows = np.lib.stride_tricks.sliding_window_view(padded, REACH)[::STEP]
    return np.asarray(np.tanh(rows @ KERNEL[:, 0].T), dtype=np.float32)


def matrix(pad: int) -> Samples:
    count = frames_of(np.zeros(WINDOW, np.float32), pad).size
    drawn = np.random.default_rng(1).standard_normal((count, len(LABELS)))
    return (drawn / 3).astype(np.float32)


def oracle(samples: Samples, pad: int) -> Samples:
    """Return the scores of a whole window in numpy."""
    logits = frames_of(samples, pad).ravel() @ matrix(pad)
    powers = np.exp(logits - logits.max())
    return np.asarray(powers / powers.sum(), dtype=np.float32)


def graph(part: str, pad: int, samples: int, frames: int) -> bytes:
    """Return the ``front``, the ``back`` or the ``whole`` model as an ONNX file."""
    from onnx import TensorProto, helper, numpy_helper

    value = helper.make_tensor_value_info
    source = value("samples", TensorProto.FLOAT, [1, samples])
    middle = value("frames", TensorProto.FLOAT, [1, CHANNELS, frames])
    target = value("scores", TensorProto.FLOAT, [1, len(LABELS)])
    front = [
        helper.make_node("Unsqueeze", ["samples", "one"], ["apart"]),
        helper.make_node("Pad", ["apart", "pads"], ["padded"], mode="reflect"),
        helper.make_node("Conv", ["padded", "kernel"], ["heard"], strides=[STEP]),
        helper.make_node("Tanh", ["heard"], ["frames"]),
    ]
    back = [
        helper.make_node("Transpose", ["frames"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("Reshape", ["turned", "flat"], ["row"]),
        helper.make_node("MatMul", ["row", "matrix"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
    ]
    nodes, inputs, outputs = {
        "front": (front, source, middle), "back": (back, middle, target),
        "whole": ([*front, *back], source, target),
    }[part]  # fmt: skip
    constants = {
        "one": np.array([1]), "pads": np.array([0, 0, pad, 0, 0, pad]), "kernel": KERNEL,
        "flat": np.array([1, -1]), "matrix": matrix(pad),
    }  # fmt: skip
    read = {name for node in nodes for name in node.input}
    stored = [numpy_helper.from_array(v, k) for k, v in constants.items() if k in read]
    opset = [helper.make_opsetid("", 17)]
    made = helper.make_graph(nodes, part, [inputs], [outputs], stored)
    data: bytes = helper.make_model(made, opset_imports=opset, ir_version=10).SerializeToString()
    return data


def write(folder: Path, kind: str, **changes: Any) -> Path:
    """Write a bundle with its model's halves; ``changes`` are to the manifest's ``incremental``."""
    pad, edge = PAD[kind], EDGES[kind]
    frames = len(frames_of(SOUND[:WINDOW], pad))
    chunk = HOP // STEP + 2 * edge
    plan = FrameOverlap(frames, chunk, STEP, WINDOW, edge, edge)
    half = {"dtype": "float32"}
    samples = {"name": "samples", "shape": [1, plan.chunk_samples], **half}
    entry = {
        "step": STEP, "left": edge, "right": edge, "axis": 2,
        "front": {"file": "front.onnx", "input": samples,
                  "output": {"name": "frames", "shape": [1, CHANNELS, chunk], **half}},
        "back": {"file": "back.onnx",
                 "input": {"name": "frames", "shape": [1, CHANNELS, frames], **half},
                 "output": {"name": "scores", "shape": [1, len(LABELS)], **half}},
    } | changes  # fmt: skip
    inputs = [SOUND[i * 500 : i * 500 + WINDOW] for i in range(2)]
    files, golden = golden_files(inputs, [oracle(x, pad) for x in inputs], 1e-4)
    manifest = {
        "name": kind, "edgeprune_version": "0", "golden": golden,
        "model": {
            "file": "model.onnx", "format": "onnx", "opset": 17, "quantization": "none",
            "parameters": 0, "layers": 1, "family": "tiny", "incremental": entry,
            "input": {"name": "samples", "shape": [1, WINDOW], "dtype": "float32"},
            "output": {"name": "scores", "shape": [1, len(LABELS)], "dtype": "float32"},
        },
        "audio": {"sample_rate": 1000, "channels": 1, "window_seconds": WINDOW / 1000,
                  "hop_seconds": HOP / 1000},
        "labels": list(LABELS), "activation": "softmax",
        "decision": {"thresholds": dict.fromkeys(LABELS, 0.8), "smoothing_windows": 1,
                     "refractory_seconds": 0.5, "ignore": []},
        "requirements": {}, "provenance": {}, "licence": "test",
    }  # fmt: skip
    contents = {
        "model.onnx": graph("whole", pad, WINDOW, frames),
        "front.onnx": graph("front", pad, plan.chunk_samples, chunk),
        "back.onnx": graph("back", pad, WINDOW, frames), **files,
    }  # fmt: skip
    write_bundle(folder, manifest, contents)
    return folder


@pytest.fixture(scope="module", params=list(PAD))
def bundle(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(write(tmp_path_factory.mktemp("pair") / request.param, request.param))


def changed(bundle: Bundle, folder: Path, change: Callable[[dict[str, Any]], None]) -> Bundle:
    """Return the bundle written again with another manifest."""
    manifest = json.loads(json.dumps(dict(bundle.manifest)))
    change(manifest)
    names = manifest.pop("files")
    write_bundle(folder, manifest, {name: (bundle.path / name).read_bytes() for name in names})
    return read_bundle(folder)


def windows_of(sound: Samples, hop: int, blocks: list[int], lost: int) -> list[tuple[int, Samples]]:
    """Return a stream's windows, pushed in blocks of these sizes, some samples lost behind each third."""
    windower, found, start, number = Windower(WINDOW, hop), [], 0, 0
    while start < len(sound):
        size = blocks[number % len(blocks)]
        found += list(windower.push(sound[start : start + size]))
        start, number = start + size, number + 1
        if lost and number % 3 == 0:
            windower.gap(lost)
    return [*found, *windower.flush()]


@settings(max_examples=60, deadline=None)
@given(
    hop=st.sampled_from([1, 7, STEP, 16, HOP, 40, 56, WINDOW, 260]),
    blocks=st.lists(st.integers(1, 700), min_size=1, max_size=4),
    lost=st.sampled_from([0, 0, 3, STEP, 1000]),
)
def test_any_hop_any_blocks_and_any_gap_give_the_whole_models_scores(
    bundle: Bundle, hop: int, blocks: list[int], lost: int
) -> None:
    scorer, pad = open_incremental_unchecked(bundle), PAD[bundle.name]
    sound = SOUND[: 600 if hop < STEP else 2500]
    for first, window in windows_of(sound, hop, blocks, lost):
        assert np.abs(scorer(first, window) - oracle(window, pad)).max() < 1e-5


MOVES = st.one_of(
    st.tuples(st.just("go"), st.integers(-300, 300)),
    st.tuples(st.just("go"), st.integers(0, 20).map(lambda n: n * STEP)),
    st.tuples(st.just("gap"), st.integers(0, 9).map(lambda n: n * STEP)),
    st.tuples(st.just("lie"), st.integers(0, 12).map(lambda n: n * STEP)),
    st.tuples(st.just("touch"), st.integers(0, WINDOW - 1)),
)


@settings(max_examples=150, deadline=None)
@given(moves=st.lists(MOVES, min_size=1, max_size=12))
def test_no_order_of_windows_brings_a_frame_of_other_sound_into_one(
    bundle: Bundle, moves: list[tuple[str, int]]
) -> None:
    """Forward, backward, repeated, gaps, a wrong position, one sample changed: always the oracle's."""
    scorer, pad = open_incremental_unchecked(bundle), PAD[bundle.name]
    place = claimed = 1000
    for kind, size in moves:
        touched = None
        if kind == "gap":
            scorer.gap()
        if kind == "touch":  # the window of before, with one sample changed
            touched = size
        else:
            claimed += size
            place = int(np.clip(place + size + (333 if kind == "lie" else 0), 0, 3800))
        window = SOUND[place : place + WINDOW].copy()
        if touched is not None:
            window[touched] += 1
        found = scorer(claimed, window)
        assert np.abs(found - oracle(window, pad)).max() < 1e-5, (kind, size)


def test_at_the_bundles_hop_only_the_new_frames_and_the_edges_are_computed(bundle: Bundle) -> None:
    scorer, edge = open_incremental_unchecked(bundle), EDGES[bundle.name]
    calls: list[int] = []
    front = scorer.front

    def counted(samples: Samples) -> Samples:
        calls.append(len(samples))
        return front(samples)

    scorer.front = counted
    for number in range(21):
        if number == 1:
            calls.clear()
            scorer.computed = scorer.kept = 0
        scorer(number * HOP, SOUND[number * HOP : number * HOP + WINDOW])
    assert len(calls) == 20 * (2 if edge else 1)
    assert calls[0] == scorer.plan.chunk_samples < WINDOW
    assert scorer.kept == 20 * (scorer.plan.frames - 2 * edge - HOP // STEP)


def test_without_the_comparison_of_samples_the_answers_would_be_wrong(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail: frames kept by position alone give other scores."""
    scorer = open_incremental_unchecked(bundle)
    scorer(0, SOUND[:WINDOW])
    monkeypatch.setattr(scorer, "_shift", lambda first, window: 3)
    other = SOUND[1000 : 1000 + WINDOW]
    assert np.abs(scorer(HOP, other) - oracle(other, PAD[bundle.name])).max() > 0.01


def test_a_runtime_that_fails_half_way_leaves_nothing_kept(bundle: Bundle) -> None:
    scorer, front = open_incremental_unchecked(bundle), open_incremental_unchecked(bundle).front
    scorer(0, SOUND[:WINDOW])

    def fails(_: Samples) -> Samples:
        raise RuntimeError("out of memory")

    scorer.front = fails
    with pytest.raises(RuntimeError):
        scorer(HOP, SOUND[HOP : HOP + WINDOW])
    scorer.front, scorer.kept = front, 0
    window = SOUND[HOP : HOP + WINDOW]
    assert np.abs(scorer(HOP, window) - oracle(window, PAD[bundle.name])).max() < 1e-5
    assert scorer.kept == 0


def test_what_is_no_number_is_never_kept(bundle: Bundle) -> None:
    scorer, sick = open_incremental_unchecked(bundle), SOUND[:WINDOW].copy()
    sick[150] = np.nan
    scorer(0, sick)
    scorer(HOP, np.concatenate([sick[HOP:], SOUND[WINDOW : WINDOW + HOP]]))
    assert scorer.kept == 0


def test_the_caller_may_reuse_its_window_and_the_answer_is_its_own(bundle: Bundle) -> None:
    scorer, buffer = open_incremental_unchecked(bundle), SOUND[:WINDOW].copy()
    first = scorer(0, buffer)
    stood = first.copy()
    buffer[:] = SOUND[HOP : HOP + WINDOW]
    second = scorer(HOP, buffer)
    assert np.abs(second - oracle(buffer, PAD[bundle.name])).max() < 1e-5
    np.testing.assert_array_equal(first, stood)


def test_a_bundle_is_opened_where_its_hop_is_a_number_of_frames(bundle: Bundle) -> None:
    scorer = open_incremental(bundle)
    assert isinstance(scorer, IncrementalScorer)
    assert (scorer.computed, scorer.kept) == (0, 0)
    assert incremental_problem(bundle) == ""
    for hop, said in ((25, "not a multiple of the 8 samples"), (WINDOW + STEP, "share no frame")):
        assert said in incremental_problem(bundle, hop)
        assert open_incremental(bundle, hop_samples=hop) is None


def test_a_bundle_without_halves_says_why(
    tiny_bundle: Path, bundle: Bundle, tmp_path: Path
) -> None:
    plain = read_bundle(tiny_bundle)
    assert open_incremental(plain) is None
    assert incremental_problem(plain) == "The bundle has no incremental files of model.onnx."
    manifest = {**plain.manifest, "model": {**plain.manifest["model"], "not_incremental": "No."}}
    assert incremental_problem(Bundle(tmp_path, manifest, b"", (), "")) == "No."


def test_halves_that_answer_otherwise_than_the_golden_outputs_are_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    def swap(manifest: dict[str, Any]) -> None:  # each input with the other's output
        first, second = manifest["golden"]
        first["output"], second["output"] = second["output"], first["output"]

    wrong = changed(bundle, tmp_path / "wrong", swap)
    with pytest.raises(EdgepruneError, match="have other scores than its model") as error:
        open_incremental(wrong)
    assert error.value.status == FAILED_CHECK


def test_edges_that_the_manifest_leaves_out_are_found_when_the_bundle_is_opened(
    tmp_path: Path,
) -> None:
    """A plan without its two edge frames keeps what it must not; golden windows tell."""
    wrong = read_bundle(write(tmp_path / "pair", "reflected", left=0, right=0))
    with pytest.raises(EdgepruneError, match="have other scores than its model"):
        open_incremental(wrong)


def test_a_half_of_other_shapes_than_the_manifests_is_refused(
    bundle: Bundle, tmp_path: Path
) -> None:
    def rename(manifest: dict[str, Any]) -> None:
        manifest["model"]["incremental"]["front"]["output"]["name"] = "others"

    with pytest.raises(
        EdgepruneError, match=r"front.onnx of bundle .* has another input or output"
    ):
        open_incremental(changed(bundle, tmp_path / "renamed", rename))


def test_halves_are_hashed_and_listed_like_every_file(bundle: Bundle, tmp_path: Path) -> None:
    names = {"front.onnx", "back.onnx"}
    assert set(bundle.incremental_files) == names <= set(bundle.manifest["files"])
    copy = changed(bundle, tmp_path / "copy", lambda manifest: None).path
    data = bytearray((copy / "front.onnx").read_bytes())
    data[40] ^= 1
    (copy / "front.onnx").write_bytes(bytes(data))
    with pytest.raises(EdgepruneError, match="SHA-256 differs"):
        read_bundle(copy)


def test_the_halves_of_an_alternative_go_with_it(
    bundle: Bundle, tiny_bundle: Path, tmp_path: Path
) -> None:
    def renamed(manifest: dict[str, Any]) -> None:
        manifest["model"].pop("incremental")

    manifest = json.loads(json.dumps(dict(bundle.manifest)))
    renamed(manifest)
    names = [n for n in manifest.pop("files") if n not in bundle.incremental_files]
    files = {name: (bundle.path / name).read_bytes() for name in names}
    manifest["model"]["file"] = "other.onnx"
    files["other.onnx"] = files.pop("model.onnx")
    whole, contents = with_alternative(manifest, files, bundle)
    write_bundle(tmp_path / "two", whole, contents)
    first, other = read_bundle(tmp_path / "two").variants
    assert open_incremental(first) is None
    assert open_incremental(other) is not None
