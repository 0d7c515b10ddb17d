"""Tiny models of each family, tiny recordings, a tiny bundle, and the data beside the repository."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

pytest_plugins = ("faults_table", "pulse_fixture", "fake_sound_fixture", "listener_fixture")
hypothesis.settings.register_profile("house", deadline=None)  # a busy machine is no defect
hypothesis.settings.load_profile("house")
SHARED = Path(__file__).resolve().parents[2] / "shared"
RATE = 16000
FAMILY_NAMES = (
    "wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio", "sew", "wav2vec2-conformer",
    "wav2vec2-bert", "audio-spectrogram-transformer", "whisper", "clap_audio_model", "kwt", "cnn14",
    "edgeprune-student",
)  # fmt: skip
TONES = {"low": 300.0, "middle": 900.0, "high": 2500.0}
"""Labels of the tiny recordings, and their pitch in Hz."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--no-shared-is-an-error", action="store_true", help="CI: ../shared is there.")


def shared(path: str, config: pytest.Config) -> Path:
    """Return a path under ``../shared``, or skip the test where that is missing."""
    found = SHARED / path
    if not found.exists():
        if config.getoption("--no-shared-is-an-error"):
            pytest.fail(f"{found} is missing")
        pytest.skip(f"{found} is not here: it holds real recordings and models under own licences")
    return found


@pytest.fixture(scope="session")
def kwt_folder(pytestconfig: pytest.Config) -> Path:
    return shared("models/kwt1_speech_commands", pytestconfig)


@pytest.fixture(scope="session")
def arabic_csv(pytestconfig: pytest.Config) -> Path:
    return shared("data/arabic_speech_commands_20/labels.csv", pytestconfig)


def tiny_config(family: str, layers: int = 3) -> Any:
    """Return a configuration of a family, small enough to train in a second."""
    from transformers import CONFIG_MAPPING

    import edgeprune.nn.clap
    import edgeprune.nn.cnn14
    import edgeprune.nn.kwt
    import edgeprune.nn.student  # noqa: F401  all four register their configs

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": layers,
            "num_attention_heads": 2}  # fmt: skip
    calm = dict.fromkeys(
        ("layerdrop", "hidden_dropout", "attention_dropout", "activation_dropout",
         "feat_proj_dropout", "final_dropout"), 0.0,
    )  # fmt: skip
    waveform = {
        **size, **calm, "conv_dim": (8, 8, 8), "conv_stride": (5, 8, 8), "conv_kernel": (10, 8, 8),
        "num_feat_extract_layers": 3, "num_conv_pos_embeddings": 8,
        "num_conv_pos_embedding_groups": 2, "classifier_proj_size": 16,
    }  # fmt: skip
    conformer = {"conv_depthwise_kernel_size": 3, "conformer_conv_dropout": 0.0}
    own: dict[str, dict[str, Any]] = {
        "kwt": size | {"num_attention_heads": 1},
        "edgeprune-student": size | {"num_mel_bins": 12, "stem_channels": 2},
        "data2vec-audio": waveform | {"num_conv_pos_embeddings": 2, "conv_pos_kernel_size": 5},
        "sew": waveform | {"squeeze_factor": 2},
        "wav2vec2-conformer": waveform | conformer | {"position_embeddings_type": "rotary"},
        "wav2vec2-bert": size | calm | conformer | {
            "classifier_proj_size": 16, "left_max_position_embeddings": 8,
        },
        "audio-spectrogram-transformer": size | {"max_length": 200, "num_mel_bins": 40},
        "whisper": {
            "d_model": 16, "encoder_layers": layers, "encoder_attention_heads": 2,
            "encoder_ffn_dim": 32, "decoder_layers": 1, "decoder_attention_heads": 2,
            "decoder_ffn_dim": 32, "max_source_positions": 100, "num_mel_bins": 40,
            "classifier_proj_size": 16, "vocab_size": 20, "pad_token_id": 0, "bos_token_id": 1,
            "eos_token_id": 2, "decoder_start_token_id": 3,
        },
        "clap_audio_model": {  # stages of 16 and 8 patches a side; a layer is a pair of blocks
            "patch_embeds_hidden_size": 8, "depths": [2, 2 * layers - 2], "hidden_size": 16,
            "num_attention_heads": [2, 2], "num_mel_bins": 16, "spec_size": 64, "window_size": 8,
            "hidden_dropout_prob": 0.0, "mlp_ratio": 2.0,
        },
        "cnn14": {"channels": (4, 8, 16, 16)[-layers:], "fc_size": 16, "block_dropout": 0.0,
                  "head_dropout": 0.0},
    }  # fmt: skip
    return CONFIG_MAPPING[family](**own.get(family, waveform))


def make_model(folder: Path, family: str, labels: tuple[str, ...] = (), layers: int = 3) -> Path:
    """Save a tiny model with seeded weights; with labels it is a classifier, else a backbone."""
    import torch
    from transformers import AutoModel, AutoModelForAudioClassification

    config = tiny_config(family, layers)
    torch.manual_seed(0)
    if labels:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        model = AutoModelForAudioClassification.from_config(config)
    else:
        model = AutoModel.from_config(config)
    if family == "kwt":  # its fixed matrices come with a checkpoint: any will do here
        generator = torch.Generator().manual_seed(1)
        for _, buffer in model.named_buffers():
            if buffer.is_floating_point():
                buffer.copy_(torch.rand(buffer.shape, generator=generator) * 0.1 + 0.01)
    if family not in ("wav2vec2", "hubert", "wavlm", "kwt"):
        enliven(model)
    model.save_pretrained(folder)
    return folder


def enliven(model: Any) -> None:
    """Give a model weights at which its answers differ: as transformers draws them, all are alike."""
    import torch

    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            drawn = torch.randn(parameter.shape, generator=generator)
            if parameter.dim() < 2:
                parameter.add_(0.2 * drawn)
            elif "parametrizations" not in name:
                parameter.copy_(drawn * parameter[0].numel() ** -0.5)


@pytest.fixture(scope="session", params=FAMILY_NAMES)
def family_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny classifier of every family in turn."""
    folder = tmp_path_factory.mktemp("model") / request.param
    return make_model(folder, request.param, tuple(TONES))


@pytest.fixture(scope="session")
def backbone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny wav2vec2 without a head, for the tests that train."""
    return make_model(tmp_path_factory.mktemp("model") / "backbone", "wav2vec2")


def tone(pitch: float, seconds: float, seed: int, rate: int = RATE) -> NDArray[np.float32]:
    """Make a tone in noise, near its pitch, at a level of its own."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    level, near = generator.uniform(0.1, 0.5), pitch * generator.uniform(0.95, 1.05)
    sound = level * np.sin(2 * np.pi * near * time) + 0.01 * generator.standard_normal(len(time))
    return np.asarray(sound, dtype=np.float32)


def make_recordings(folder: Path, speakers: int = 6, each: int = 6, seconds: float = 0.25) -> Path:
    """Write tones as labelled clips of several speakers; returns labels.csv, without splits."""
    (folder / "audio").mkdir(parents=True)
    rows = []
    for speaker in range(speakers):
        for label, pitch in TONES.items():
            for take in range(each):
                name = f"audio/{label}_s{speaker}_{take}.wav"
                seed = 1000 * speaker + 10 * take + len(label)
                soundfile.write(folder / name, tone(pitch, seconds, seed), RATE)
                rows.append((name, label, f"s{speaker}"))
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("path", "label", "speaker"), *rows])
    return folder / "labels.csv"


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("data") / "tones")


def make_bundle(folder: Path, labels: tuple[str, ...] = tuple(TONES), seed: int = 0) -> Path:
    """Write a bundle whose file answers softmax(samples @ matrix): 1,600 samples at 16 kHz."""
    from onnx import TensorProto, helper, numpy_helper

    from edgeprune_device.bundle.writer import golden_files, write_bundle

    window = 1600
    time = np.arange(window) / RATE
    pitches = [TONES.get(label, 500.0 + 400 * i) for i, label in enumerate(labels)]
    # The power around each label's pitch, whatever the phase: sine and cosine, squared and summed.
    near = [p * (1 + step / 200) for p in pitches for step in range(-12, 13)]
    waves = [f(2 * np.pi * p * time) for f in (np.sin, np.cos) for p in near]
    matrix = (np.stack(waves, axis=1) / window * (10 + seed)).astype(np.float32)
    fold = np.concatenate([np.repeat(np.eye(len(labels)), 25, axis=0)] * 2).astype(np.float32) * 20

    def answer(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        logits = (samples @ matrix) ** 2 @ fold
        powers = np.exp(logits - logits.max())
        return np.asarray(powers / powers.sum(), dtype=np.float32)

    graph = helper.make_graph(
        [
            helper.make_node("MatMul", ["samples", "waves"], ["amplitudes"]),
            helper.make_node("Mul", ["amplitudes", "amplitudes"], ["powers"]),
            helper.make_node("MatMul", ["powers", "fold"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["scores"], axis=-1),
        ],
        "tiny",
        [helper.make_tensor_value_info("samples", TensorProto.FLOAT, [1, window])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, len(labels)])],
        [numpy_helper.from_array(matrix, "waves"), numpy_helper.from_array(fold, "fold")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=10)
    inputs = [tone(pitch, window / RATE, index) for index, pitch in enumerate(pitches)]
    files, golden = golden_files(inputs, [answer(x) for x in inputs], 1e-4)
    manifest = {
        "name": folder.name, "edgeprune_version": "0", "golden": golden,
        "model": {
            "file": "model.onnx", "format": "onnx", "opset": 17, "quantization": "none",
            "parameters": matrix.size + fold.size, "layers": 1, "family": "tiny",
            "input": {"name": "samples", "shape": [1, window], "dtype": "float32"},
            "output": {"name": "scores", "shape": [1, len(labels)], "dtype": "float32"},
        },
        "audio": {"sample_rate": RATE, "channels": 1, "window_seconds": window / RATE,
                  "hop_seconds": 0.05},
        "labels": list(labels), "activation": "softmax",
        "decision": {"thresholds": dict.fromkeys(labels, 0.8), "smoothing_windows": 1,
                     "refractory_seconds": 0.5, "ignore": []},
        "requirements": {"runtime": "onnxruntime>=1.23"}, "provenance": {}, "licence": "test",
    }  # fmt: skip
    write_bundle(folder, manifest, {"model.onnx": model.SerializeToString(), **files})
    return folder


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_bundle(tmp_path_factory.mktemp("bundle") / "tiny")


@pytest.fixture(autouse=True)
def _quiet_transformers() -> Iterator[None]:
    """Nothing a test loads may reach for the network."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield
