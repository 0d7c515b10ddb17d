"""Train the demonstration's model: a small wav2vec 2.0 on many synthetic birds.

    python benchmarks/demo_model.py            (about 8 minutes on 2 cores)

Writes ``edgeprune/pipeline/demo_model/``: configuration and weights, without a head. It is trained
on recordings of another seed than the demonstration's, so that all birds of the demonstration are
new to it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForAudioClassification, Wav2Vec2Config

from edgeprune.core import distributed
from edgeprune.core.console import Terminal
from edgeprune.core.settings import Clips
from edgeprune.data.synthetic_recordings import Parameters, make_recordings
from edgeprune.data.windows import load_windows
from edgeprune.models import loading
from edgeprune.nn import losses
from edgeprune.pipeline.clips import clips
from edgeprune.training import loop
from edgeprune_calibration.dataset import read_data

TARGET = Path(__file__).resolve().parents[1] / "edgeprune" / "pipeline" / "demo_model"
RECORDINGS = Parameters(seed=1000, individuals=36, clips=8, snr_db=(-2.0, 20.0))
CONFIG: dict[str, Any] = {
    "hidden_size": 64, "intermediate_size": 192, "num_hidden_layers": 8, "num_attention_heads": 4,
    "conv_dim": (48, 48, 64, 64), "conv_kernel": (20, 8, 4, 4), "conv_stride": (10, 4, 4, 2),
    "num_feat_extract_layers": 4, "num_conv_pos_embeddings": 32,
    "num_conv_pos_embedding_groups": 8, "classifier_proj_size": 64, "layerdrop": 0.0,
    "hidden_dropout": 0.05, "attention_dropout": 0.05, "activation_dropout": 0.0,
    "feat_proj_dropout": 0.0, "apply_spec_augment": False,
}  # fmt: skip


def main() -> None:
    """Train and write the model."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=36)
    parser.add_argument("--work", type=Path, default=None, help="Keeps recordings and checkpoint.")
    parser.add_argument("--accelerator", default="auto")
    options = parser.parse_args()
    work = options.work or Path(tempfile.mkdtemp())
    ui = Terminal()
    labels = make_recordings(work / "recordings", RECORDINGS, ui.track)
    raw, ready = work / "raw", work / "clips"
    config = Wav2Vec2Config(**CONFIG)
    torch.manual_seed(0)
    AutoModelForAudioClassification.from_config(config).save_pretrained(raw)
    ready.mkdir(exist_ok=True)
    clips(raw, labels, read_data(labels).digest(), out=ready, settings=Clips(), ui=ui)
    windows = load_windows(ready)
    model = loading.load_model(str(raw), windows.labels)
    plan = loop.TrainingPlan(
        options.epochs, batch_size=32, learning_rate=1e-3, weight_decay=0.01, patience=99, seed=0
    )

    def loss(net: Any, samples: torch.Tensor, targets: torch.Tensor, _: int) -> torch.Tensor:
        return losses.label_loss(loading.logits_of(net, samples), targets, 0.1)

    valid = windows.split("valid")
    device = distributed.choose_device(options.accelerator)
    curve = loop.fit(
        model, windows.split("train"), valid, windows.labels, loss, plan,
        loop.TrainingSession(work / "training", device, ui, "demo model"),
    )  # fmt: skip
    for step in curve:
        ui.say(f"epoch {step['epoch']:.0f}: {100 * step['valid_score']:.1f} %")
    test = windows.split("test")
    accuracy = loop.evaluate(model, test, windows.labels, device)
    model.to("cpu").base_model.save_pretrained(TARGET)
    size = (TARGET / "model.safetensors").stat().st_size
    ui.say(f"test {100 * accuracy:.1f} %, {loading.count_parameters(model.base_model) / 1e6:.2f} M "
           f"parameters, {size / 1e6:.2f} MB in {TARGET}")  # fmt: skip


if __name__ == "__main__":
    main()
