"""Tiny models cut at their front end's seam, and a stream of sound to hold both halves against."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tiny_models import FAMILY_NAMES, enliven, make_model, tiny_config
from tiny_recordings import RATE, TONES, tone

from edgeprune.data.windows import Windows
from edgeprune.deployment.streaming import opened
from edgeprune.deployment.streaming_frontend import plan_for
from edgeprune.deployment.streaming_split import halves_of
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.models.families import family_of
from edgeprune.quantization.methods import method_of
from edgeprune.quantization.module_scopes import scopes_of

WINDOW = 8000
LAYER_NORMED = ("wav2vec2", "hubert", "wavlm", "unispeech-sat", "sew", "wav2vec2-conformer")
OTHERS = tuple(x for x in FAMILY_NAMES if x not in (*LAYER_NORMED, "clap_audio_model", "kwt"))


def stream(seconds: float = 3.0) -> NDArray[np.float32]:
    """Return tones and noise at many levels, with silences between them."""
    parts = [tone(p, 0.25, i) * (0.02, 1.0, 0.3)[i % 3]
             for i, p in enumerate([300, 900, 2500, 440, 5000] * 3)]  # fmt: skip
    parts.insert(4, np.zeros(1000, np.float32))
    return np.asarray(np.concatenate(parts)[: round(seconds * RATE)], dtype=np.float32)


def model_of(family: str, folder: Path, window: int = WINDOW) -> Any:
    """Return a tiny classifier that hears samples as they are, layer-normed where it can be."""
    from transformers import AutoModelForAudioClassification

    if family in LAYER_NORMED:
        config = tiny_config(family)
        config.feat_extract_norm, config.num_labels, config.edgeprune_normalize = "layer", 3, False
        torch.manual_seed(0)
        model = AutoModelForAudioClassification.from_config(config)
        enliven(model)
        model.save_pretrained(folder / family)
    else:
        make_model(folder / family, family, tuple(TONES))
    model = loading.load_model(str(folder / family), window_samples=window)
    if hasattr(model.config, "edgeprune_normalize"):
        model.config.edgeprune_normalize = False
    return model


def scorer_of(model: Any, window: int, hop: int, method: str = "none") -> tuple[Any, Any, int]:
    """Return halves that are opened, the whole file's runner, and the hop."""
    plan, why = plan_for(model, window, hop, round_down=True)
    assert plan is not None, why
    scopes, quantized = scopes_of(family_of(model.config.model_type)), method_of("onnx", method)
    clips = stream()[: 3 * window].reshape(3, window)
    data = quantized(to_onnx(model, window, 18), scopes, clips)
    halves, why = halves_of(model, data, plan, quantized, scopes, clips, 18)
    assert halves is not None, why
    return opened(halves), onnx_runner(data), plan.new * plan.step


def worst(scorer: Any, run: Any, hop: int, sound: NDArray[np.float32]) -> tuple[float, float]:
    """Return the largest difference of a score, and how far the scores move over the stream."""
    window = scorer.plan.window_samples
    firsts = range(0, len(sound) - window, hop)
    own = np.array([scorer(first, sound[first : first + window]) for first in firsts])
    whole = np.array([run(sound[None, first : first + window])[0] for first in firsts])
    return float(np.abs(own - whole).max()), float(np.ptp(whole, axis=0).max())


def recordings_of() -> Windows:
    samples = np.stack([stream()[i * 3000 : i * 3000 + WINDOW] for i in range(6)])
    sound = np.tile([0, WINDOW], (6, 1))
    rows = tuple({"label": x, "columns": {}} for x in sorted(TONES) * 2)
    return Windows(samples, sound, np.arange(6) % 3, rows, tuple(sorted(TONES)), RATE)
