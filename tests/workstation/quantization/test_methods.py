"""Every way of making a file smaller, of both formats: it answers alike, and where not, says why."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tiny_models import enliven, tiny_config
from tiny_recordings import RATE, TONES, tone

from edgeprune.export.model_rewrites import shape
from edgeprune.export.onnx import Scorer, onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.quantization.activation_ranges import ranges_of
from edgeprune.quantization.int4_fp16_onnx import packed, to_int4
from edgeprune.quantization.methods import METHODS, method_of
from edgeprune.quantization.module_scopes import Scopes, scopes_of, tflite_pattern
from edgeprune_calibration.clipping_ranges import METHODS as RANGES
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.native_output import quiet

FAMILIES = ("wav2vec2", "audio-spectrogram-transformer")
WINDOWS = {"wav2vec2": 4000, "audio-spectrogram-transformer": RATE}
FLOAT_PARTS = {
    "wav2vec2": "wav2vec2.feature_extractor.first",
    "audio-spectrogram-transformer": "frontend",
}
NAMES = [(form, name) for form, names in METHODS.items() for name in names]
SAVED = {"none": 0.0, "dynamic": 0.55, "weights": 0.6, "weights4": 0.65, "half": 0.4, "static": 0.5}
"""Least share of the bytes of the blocks' products that is saved."""
BOUNDS = {"none": 0.0, "dynamic": 0.05, "weights": 0.03, "weights4": 0.2, "half": 0.005,
          "static": 0.15}  # fmt: skip
"""Largest difference of a score."""


@dataclass(frozen=True)
class Made:
    """A small classifier, its float files by format, and sounds."""

    family: str
    shaped: dict[str, Any]
    files: dict[str, bytes]
    scopes: Scopes
    clips: NDArray[np.float32]


@pytest.fixture(scope="module", params=FAMILIES)
def made(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Made:
    from transformers import AutoModelForAudioClassification

    family, window = request.param, WINDOWS[request.param]
    config = tiny_config(family, 2)
    config.hidden_size, config.intermediate_size = 64, 192
    config.id2label = dict(enumerate(TONES))
    torch.manual_seed(0)
    model = AutoModelForAudioClassification.from_config(config)
    enliven(model)
    folder = tmp_path_factory.mktemp("methods") / family
    model.save_pretrained(folder)
    model = loading.load_model(str(folder))
    pitches = [TONES[label] for label in TONES] * 3
    clips = np.stack([tone(p, window / RATE, i) for i, p in enumerate(pitches)])
    shaped = {form: shape(model, window, form) for form in METHODS}
    files = {"onnx": to_onnx(model, window, 18), "tflite": lite(shaped["tflite"], window)}
    return Made(family, shaped, files, scopes_of(family_of(family)), clips)


def lite(shaped: Any, window: int) -> bytes:
    litert_torch = pytest.importorskip("litert_torch")
    with warnings.catch_warnings(), quiet():
        warnings.simplefilter("ignore")
        edge = litert_torch.convert(Scorer(shaped).eval(), (torch.randn(1, window) * 0.1,))
        return bytes(edge.model_content())


def answers(form: str, data: bytes, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    if form == "onnx":
        run = onnx_runner(data)
        return np.concatenate([run(clip[None]) for clip in clips])
    from ai_edge_litert.interpreter import Interpreter

    with quiet():
        interpreter = Interpreter(model_content=data, num_threads=1)
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]["index"]
    target = interpreter.get_output_details()[0]["index"]
    scores = []
    for clip in clips:
        interpreter.set_tensor(source, clip[None])
        interpreter.invoke()
        scores.append(np.array(interpreter.get_tensor(target)))
    return np.concatenate(scores)


def constants(form: str, data: bytes) -> Iterator[NDArray[np.float32]]:
    """Yield a file's float32 constants."""
    if form == "onnx":
        graph = onnx.load_from_string(data).graph
        nodes = [node for node in graph.node if node.op_type == "Constant"]
        inline = [a.t for node in nodes for a in node.attribute if a.name == "value"]
        for tensor in [*graph.initializer, *inline]:
            if tensor.data_type == TensorProto.FLOAT:
                yield numpy_helper.to_array(tensor)
        return
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    for tensor in model.subgraphs[0].tensors:
        buffer = model.buffers[tensor.buffer]
        behind = data[buffer.offset : buffer.offset + buffer.size]  # where large ones may be
        stored = behind if buffer.offset > 1 else buffer.data
        if tensor.type == schema.TensorType.FLOAT32 and stored is not None and len(stored):
            yield np.frombuffer(bytes(stored), np.float32)


@pytest.mark.parametrize(("form", "name"), NAMES)
def test_every_method_answers_nearly_like_the_float_file_in_fewer_bytes(
    made: Made, form: str, name: str
) -> None:
    data = made.files[form]
    small = METHODS[form][name](data, made.scopes, made.clips)
    blocks = 4 * sum(
        part.weight.numel() for path, part in made.shaped["onnx"].named_modules()
        if isinstance(part, torch.nn.Linear) and "layers." in path
    )  # fmt: skip
    assert blocks > 250_000
    assert len(data) - len(small) >= SAVED[name] * blocks
    expected = answers(form, data, made.clips)
    assert np.ptp(expected, axis=0).max() > 0.02  # the answers tell the sounds apart
    assert np.abs(answers(form, small, made.clips) - expected).max() <= BOUNDS[name]


@pytest.mark.parametrize(("form", "name"), [x for x in NAMES if x != ("onnx", "weights")])
def test_what_hears_raw_samples_stays_in_float(made: Made, form: str, name: str) -> None:
    """The oracle: the weights of the torch modules, wherever they are in the file."""
    small = METHODS[form][name](made.files[form], made.scopes, made.clips)
    part = made.shaped[form].get_submodule(FLOAT_PARTS[made.family])
    before = [np.sort(x.ravel()) for x in constants(form, made.files[form])]
    after = [np.sort(x.ravel()) for x in constants(form, small)]
    tensors = [*part.parameters(), *part.buffers()]
    wanted = [np.sort(x.detach().numpy().ravel()) for x in tensors if x.dim() > 1]
    there = [x for x in wanted if any(np.array_equal(x, y) for y in before)]
    assert there
    for values in there:
        assert any(np.array_equal(values, other) for other in after)


@pytest.mark.parametrize("form", METHODS)
@pytest.mark.parametrize("name", ["dynamic", "weights4", "static"])
def test_the_products_of_the_blocks_do_not_stay_in_float(made: Made, form: str, name: str) -> None:
    small = METHODS[form][name](made.files[form], made.scopes, made.clips)
    assert sum(x.size == 64 * 192 for x in constants(form, made.files[form])) >= 4
    assert not any(x.size == 64 * 192 for x in constants(form, small))


@pytest.mark.parametrize("form", METHODS)
@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda clips: 0 * clips, "silent"),
        (
            lambda clips: np.where(np.arange(len(clips))[:, None] == 1, np.nan, clips),
            "1 of 9 .* NaN",
        ),
        (lambda clips: clips[:0], "no calibration clips"),
        (lambda clips: clips[:, :-1], "samples, the model's window"),
    ],
    ids=["silence", "nan", "none", "short"],
)
def test_static_refuses_clips_of_no_use(made: Made, form: str, spoil: Any, sentence: str) -> None:
    with pytest.raises(EdgepruneError, match=sentence) as error:
        METHODS[form]["static"](made.files[form], made.scopes, spoil(made.clips).astype(np.float32))
    assert error.value.status == 2


@pytest.mark.parametrize("calibrate", RANGES)
@pytest.mark.parametrize("form", METHODS)
def test_ranges_are_chosen_as_asked(made: Made, form: str, calibrate: str) -> None:
    small = method_of(form, "static", calibrate)(made.files[form], made.scopes, made.clips)
    expected = answers(form, made.files[form], made.clips)
    assert np.abs(answers(form, small, made.clips) - expected).max() <= BOUNDS["static"]


def test_tflite_methods_keep_the_terminal_clear(
    made: Made, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in METHODS["tflite"]:
        METHODS["tflite"][name](made.files["tflite"], made.scopes, made.clips)
    assert capfd.readouterr() == ("", "")


def test_a_missing_quantizer_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_quantizer.qtyping", None)
    with pytest.raises(EdgepruneError, match="ai-edge-quantizer") as error:
        METHODS["tflite"]["dynamic"](b"", Scopes(), np.zeros((0, 1), np.float32))
    assert error.value.status == 3
    assert "edgeprune[tflite]" in error.value.hint


def test_an_unknown_format_method_or_range_is_named_with_those_that_are() -> None:
    for asked in (
        ("gguf", "dynamic", "mse"),
        ("onnx", "weights2", "mse"),
        ("onnx", "static", "max"),
    ):
        with pytest.raises(EdgepruneError, match=r"gguf|weights2|max"):
            method_of(*asked)(b"", Scopes(), np.zeros((1, 1), np.float32))


def test_4_bit_weights_are_within_half_a_step_and_the_operator_reads_them_so() -> None:
    """The oracle: a product with the matrix that the whole numbers stand for."""
    matrix = np.random.default_rng(0).standard_normal((80, 6)).astype(np.float32)
    whole, scale, zero = to_int4(matrix, 32)
    values = (whole - zero[..., None].astype(np.float32)) * scale[..., None]
    stood_for = values.reshape(6, -1)[:, :80].T
    step = np.repeat(scale, 32, axis=1)[:, :80].T
    assert (np.abs(stood_for - matrix) <= 1.001 * step).all()  # the zero is rounded, too
    tensors = packed("w", matrix, 32)
    node = helper.make_node(
        "MatMulNBits", ["x", *(t.name for t in tensors)], ["y"], domain="com.microsoft",
        K=80, N=6, bits=4, block_size=32,
    )  # fmt: skip
    graph = helper.make_graph(
        [node], "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 80])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 6])], tensors,
    )  # fmt: skip
    domains = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=10)
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString())
    x = np.random.default_rng(1).standard_normal((1, 80)).astype(np.float32)
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ stood_for, atol=1e-4)


def test_a_module_is_found_in_tflite_names_and_its_namesakes_are_not() -> None:
    import re

    name = "edgeprune.export.onnx.Scorer/a.Model_base/b.Encoder_feature_extractor/b.First_first"
    block = "edgeprune.export.onnx.Scorer/a.Model_base/b.Encoder_feature_extractor/b.StridedConv_0"
    assert re.search(tflite_pattern("first"), f"{name}/torch.nn.Linear_frame;2")
    assert re.search(tflite_pattern("first"), f"{block};1;{name}@1;3")
    assert not re.search(tflite_pattern("first"), f"{block}/torch.nn.Linear_first_of_all;2")
    assert not re.search(tflite_pattern("first"), f"{block}/torch.nn.Linear_0;2")
    assert re.search(tflite_pattern("feature_extractor/convs"), f"{block}/torch.nn.Linear_0;2")
    assert not re.search(tflite_pattern("feature_extractor/convs"), f"{name};2")


def test_ranges_are_over_all_clips() -> None:
    clips = [{"a": np.array([-1.0, 2.0], np.float32)}, {"a": np.array([0.5, 3.0], np.float32)}]
    found = ranges_of(clips, "minmax")["a"]
    assert (found.low, found.high) == (-1.0, 3.0)
