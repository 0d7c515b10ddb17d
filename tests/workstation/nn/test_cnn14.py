"""CNN14: PANNs' own names, and a frame left for its last block."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch
from tiny_models import make_model
from tiny_recordings import TONES
from transformers import (
    ASTConfig,
    ASTForAudioClassification,
    ClapAudioConfig,
)

from edgeprune.models import loading
from edgeprune.models.families import depth_of
from edgeprune.nn.clap import ClapAudioForAudioClassification
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(TONES)


def test_a_cnn14_needs_a_frame_for_its_last_block(tmp_path: Path) -> None:
    model = loading.load_model(str(make_model(tmp_path / "m", "cnn14", LABELS)))
    with pytest.raises(EdgepruneError, match=r"halves time 2 times, so a window needs 4 frames"):
        loading.logits_of(model, torch.zeros(1, 900))


def test_a_panns_checkpoint_loads_by_its_own_names(tmp_path: Path) -> None:
    """The names that PANNs' Cnn14_mAP=0.431.pth holds, its spectrogram's fixed tensors among them."""
    from safetensors.torch import save_file

    from edgeprune.nn.cnn14 import Cnn14Config, Cnn14ForAudioClassification

    config = Cnn14Config(channels=(4, 8, 8, 8, 8, 8), fc_size=8, num_labels=5)
    model = Cnn14ForAudioClassification(config)
    norms = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    names = {f"bn0.{part}" for part in norms}
    for block in range(1, 7):
        names |= {f"conv_block{block}.conv{i}.weight" for i in (1, 2)}
        names |= {f"conv_block{block}.bn{i}.{part}" for i in (1, 2) for part in norms}
    names |= {f"{layer}.{part}" for layer in ("fc1", "fc_audioset") for part in ("weight", "bias")}
    assert set(model.state_dict()) == names
    fixed = {"spectrogram_extractor.stft.conv_real.weight": torch.zeros(3),
             "logmel_extractor.melW": torch.zeros(3)}  # fmt: skip
    save_file({**model.state_dict(), **fixed}, tmp_path / "model.safetensors", {"format": "pt"})
    config.architectures = ["Cnn14ForAudioClassification"]
    config.save_pretrained(tmp_path)
    loaded = loading.load_model(str(tmp_path))
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_published_sizes_are_those_of_the_configs_defaults() -> None:
    from edgeprune.nn.cnn14 import Cnn14Config, Cnn14ForAudioClassification

    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cnn14 = Cnn14ForAudioClassification(Cnn14Config(num_labels=527))
        clap = ClapAudioForAudioClassification(ClapAudioConfig(num_labels=527))
        ast = ASTForAudioClassification(ASTConfig(num_labels=527))
    assert round(loading.count_parameters(cnn14) / 1e6, 1) == 80.8  # PANNs, Table XI: 80.8 M
    assert depth_of(clap.config) == 6
    assert depth_of(ast.config) == 12
