"""Every way of making a file smaller, of both formats: it answers alike, and where not, says why."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper
from slow_cases import some_of
from tiny_models import enliven, tiny_config
from tiny_recordings import RATE, TONES, tone

from edgeprune.export.model_rewrites import shape
from edgeprune.export.onnx import Scorer, onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.quantization.methods import METHODS, method_of
from edgeprune.quantization.module_scopes import Scopes, scopes_of
from edgeprune_calibration.clipping_ranges import METHODS as RANGES
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.system.native_output import capture_native_output

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


@dataclass
class Made:
    """A small classifier, and sounds."""

    family: str
    model: Any
    window: int
    scopes: Scopes
    clips: NDArray[np.float32]
    _shaped: dict[str, Any] = field(default_factory=dict)
    _files: dict[str, bytes] = field(default_factory=dict)

    def shaped(self, form: str) -> Any:
        if form not in self._shaped:
            self._shaped[form] = shape(self.model, self.window, form)
        return self._shaped[form]

    def file(self, form: str) -> bytes:
        """Return its float file, made once: a conversion to TFLite takes seconds."""
        if form not in self._files:
            self._files[form] = (to_onnx(self.model, self.window, 18) if form == "onnx"
                                 else lite(self.shaped(form), self.window))  # fmt: skip
        return self._files[form]


@pytest.fixture(
    scope="module", params=["wav2vec2", pytest.param(FAMILIES[1], marks=pytest.mark.slow)]
)
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
    return Made(family, model, window, scopes_of(family_of(family)), clips)


def lite(shaped: Any, window: int) -> bytes:
    litert_torch = pytest.importorskip("litert_torch")
    with warnings.catch_warnings(), capture_native_output():
        warnings.simplefilter("ignore")
        edge = litert_torch.convert(Scorer(shaped).eval(), (torch.randn(1, window) * 0.1,))
        return bytes(edge.model_content())


def answers(form: str, data: bytes, clips: NDArray[np.float32]) -> NDArray[np.float32]:
    if form == "onnx":
        run = onnx_runner(data)
        return np.concatenate([run(clip[None]) for clip in clips])
    from ai_edge_litert.interpreter import Interpreter

    with capture_native_output():
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
    data = made.file(form)
    small = METHODS[form][name](data, made.scopes, made.clips)
    blocks = 4 * sum(
        part.weight.numel() for path, part in made.shaped("onnx").named_modules()
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
    small = METHODS[form][name](made.file(form), made.scopes, made.clips)
    part = made.shaped(form).get_submodule(FLOAT_PARTS[made.family])
    before = [np.sort(x.ravel()) for x in constants(form, made.file(form))]
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
    small = METHODS[form][name](made.file(form), made.scopes, made.clips)
    assert sum(x.size == 64 * 192 for x in constants(form, made.file(form))) >= 4
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
        METHODS[form]["static"](made.file(form), made.scopes, spoil(made.clips).astype(np.float32))
    assert error.value.status == 2


@pytest.mark.parametrize("calibrate", some_of(RANGES, "mse"))
@pytest.mark.parametrize("form", METHODS)
def test_ranges_are_chosen_as_asked(made: Made, form: str, calibrate: str) -> None:
    small = method_of(form, "static", calibrate)(made.file(form), made.scopes, made.clips)
    expected = answers(form, made.file(form), made.clips)
    assert np.abs(answers(form, small, made.clips) - expected).max() <= BOUNDS["static"]


def test_tflite_methods_keep_the_terminal_clear(
    made: Made, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in METHODS["tflite"]:
        METHODS["tflite"][name](made.file("tflite"), made.scopes, made.clips)
    assert capfd.readouterr() == ("", "")


def test_an_unknown_format_method_or_range_is_named_with_those_that_are() -> None:
    for asked in (
        ("gguf", "dynamic", "mse"),
        ("onnx", "weights2", "mse"),
        ("onnx", "static", "max"),
    ):
        with pytest.raises(EdgepruneError, match=r"gguf|weights2|max"):
            method_of(*asked)(b"", Scopes(), np.zeros((1, 1), np.float32))
