"""Tiny models of every family, with seeded weights: small enough to train in a second."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_recordings import RATE, TONES, tone
from transformers import (
    AutoModel,
    AutoModelForAudioClassification,
    HubertConfig,
    HubertModel,
)

from edgeprune.models import loading

FAMILY_NAMES = (
    "wav2vec2", "hubert", "wavlm", "unispeech-sat", "data2vec-audio", "sew", "wav2vec2-conformer",
    "wav2vec2-bert", "audio-spectrogram-transformer", "whisper", "clap_audio_model", "kwt", "cnn14",
    "edgeprune-student",
)  # fmt: skip


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


def heard_by(model: Any, count: int = 4) -> torch.Tensor:
    """Make windows of a quarter of a second, or KWT's of one, at a model's own rate."""
    seconds = 1.0 if model.config.model_type == "kwt" else 0.25
    return tone_batch(count, loading.sample_rate_of(model), seconds)


def make_mert(folder: Path, **changes: object) -> HubertModel:
    """Save a tiny HuBERT as MERT saves itself."""
    config: HubertConfig = tiny_config("hubert")
    torch.manual_seed(0)
    hubert = HubertModel(config)
    hubert.save_pretrained(folder)
    stated = json.loads((folder / "config.json").read_text("utf-8"))
    stated |= {"model_type": "mert_model", "architectures": ["MERTModel"], "sample_rate": 24000,
               "auto_map": {"AutoConfig": "configuration_MERT.MERTConfig"}, "deepnorm": False,
               "feature_extractor_cqt": False, "attention_relax": 32.0, **changes}  # fmt: skip
    (folder / "config.json").write_text(json.dumps(stated), "utf-8")
    return hubert


def load_tiny(folder: Path, family: str) -> Any:
    return loading.load_model(str(make_model(folder, family, tuple(TONES))), window_samples=RATE)


def tone_batch(count: int = 4, rate: int = RATE, seconds: float = 1.0) -> torch.Tensor:
    return torch.from_numpy(np.stack([tone(500 * (i + 1), seconds, i, rate) for i in range(count)]))
