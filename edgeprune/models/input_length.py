"""Input length of spectrogram models: their front end, and fitting them to a shorter window.

AST, Whisper and CLAP were trained on windows of 10, 30 and 10 seconds. Padding a window of one
second with silence would cost ten to thirty times the computation, so the model is fitted to the
window once it is known (``resize_input``):

- AST: the middle of its position embeddings over time, or their bilinear interpolation where the
  window is longer (Gong et al. 2021, arXiv 2104.01778, and its code);
- Whisper: its first positions, as many as the window needs;
- CLAP: a smaller image with 1, 2 or 3 strips of time instead of 4 (0.625, 2.5 and 5.625 seconds),
  and attention windows that shrink accordingly, with the middle of their position bias tables. The
  window fills the image as in CLAP's feature extractor: repeated as often as it fits, then zeros.

wav2vec2-BERT and CNN14 take any length. The config records window and front end
(``edgeprune_window``, ``edgeprune_frontend``), so that a saved folder can be reloaded by itself.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.models import serialization
from edgeprune.models.families import family_of
from edgeprune.nn.log_mel import (
    LogMel,
    check_length,
    frames_in,
)
from edgeprune.nn.spectrogram_specs import (
    SPECS,
    SpectrogramSpec,
    spec_from_extractor,
    spec_from_record,
)
from edgeprune.nn.strided_conv import check_reach
from edgeprune_device.errors import EdgepruneError

State = dict[str, Tensor]
CLAP_STRETCH = 1024 / 1000  # width of CLAP's image relative to the frames that fill it


def read_spec(source: str, config: Any) -> SpectrogramSpec | None:
    """Return a checkpoint's spectrogram; None for a model that takes samples or has its own.

    Read from its config if edgeprune saved it, otherwise from its ``preprocessor_config.json``;
    without one, that of the family's published checkpoints. The number of mel filters is the
    model's.
    """
    kind = family_of(config.model_type).frontend
    if not kind:
        return None
    if record := getattr(config, "edgeprune_frontend", None):
        return spec_from_record(record)
    if kind == "panns":
        return replace(
            SPECS[kind], sampling_rate=config.sampling_rate, frame=config.frame_length,
            fft=config.frame_length, hop=config.hop_length, mels=config.num_mel_bins,
            lowest=config.frequency_min, highest=config.frequency_max,
        )  # fmt: skip
    spec = spec_from_extractor(kind, _extractor(source, config))
    if kind == "seamless":
        return replace(spec, mels=config.feature_projection_input_dim // spec.stride)
    return replace(spec, mels=config.num_mel_bins)


def _extractor(source: str, config: Any) -> dict[str, Any]:
    """Read a checkpoint's feature extractor settings."""
    from transformers import SequenceFeatureExtractor

    try:
        stated: dict[str, Any] = SequenceFeatureExtractor.get_feature_extractor_dict(source)[0]
    except OSError:
        return {"truncation": "fusion"} if getattr(config, "enable_fusion", False) else {}
    return stated


def spec_of(model: Any) -> SpectrogramSpec:
    """Return the spectrogram specification that a loaded model's config records."""
    return spec_from_record(model.config.edgeprune_frontend)


def attach(model: Any) -> None:
    """Add the front end that a model's config records, as ``model.frontend``."""
    spec = spec_of(model)
    model.frontend = LogMel(spec, input_size_of(model.config, spec)).to(model.device)


def input_size_of(config: Any, spec: SpectrogramSpec) -> int:
    """Return the input size of ``LogMel``: frames (AST), samples (Whisper, CLAP), or 0 (any)."""
    if spec.kind == "ast":
        return int(config.max_length)
    if spec.kind == "whisper":
        return 2 * int(config.max_source_positions) * spec.hop
    if spec.kind == "clap":
        return _clap_input_size(config.num_mel_bins, config.spec_size, spec)
    return 0


def filled_share(config: Any) -> float:
    """Return the share of a model's input that its window fills (CLAP repeats the window)."""
    window = getattr(config, "edgeprune_window", 0)
    if not window or config.model_type != "clap_audio_model":
        return 1.0
    return float(window / input_size_of(config, spec_from_record(config.edgeprune_frontend)))


def check_window(config: Any, window_samples: int) -> None:
    """Raise if a model cannot take windows of this length.

    Parameters
    ----------
    config : PreTrainedConfig
        Config as returned by ``read_config``.
    window_samples : int
        Samples per window.

    Raises
    ------
    EdgepruneError
        The window is shorter than a frame, longer than the model's input, or not the one that the
        model was fitted to.

    """
    family = family_of(config.model_type)
    if family.frozen and hasattr(config, "conv_kernel"):
        check_reach(config.conv_kernel, config.conv_stride, window_samples)
    if not family.frontend:
        return
    spec = spec_from_record(config.edgeprune_frontend)
    check_length(window_samples, spec)
    if spec.kind in FITS:
        FITS[spec.kind][0](config, spec, window_samples)


def resize_input(model: Any, window_samples: int) -> Any:
    """Return a model whose input is exactly a window of this length.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model as returned by ``load_model``; it is not changed.
    window_samples : int
        Samples per window.

    Raises
    ------
    EdgepruneError
        See ``check_window``; or the model was fitted to another window, or trimmed before it was
        fitted.

    """
    kind = family_of(model.config.model_type).frontend
    if kind not in FITS:
        return model
    fitted = getattr(model.config, "edgeprune_window", 0)
    if fitted == window_samples:
        return model
    spec = spec_of(model)
    if serialization.is_modified(model.config) and not fitted:
        raise EdgepruneError(
            "This model was trimmed, or parts of it replaced, before it was fitted to a window.",
            "Start from the model it was made from: compress fits it first.",
        )
    if fitted:
        raise EdgepruneError(
            f"This model takes windows of {fitted / spec.sampling_rate:g} s, not "
            f"{window_samples / spec.sampling_rate:g} s.",
            "Start from the model it was made from.",
        )
    check_window(model.config, window_samples)
    plan, apply = FITS[kind]
    config = copy.deepcopy(model.config)
    for name, value in plan(config, spec, window_samples).items():
        setattr(config, name, value)
    config.edgeprune_window = window_samples
    with torch.random.fork_rng(devices=[]):  # the initial weights are replaced right away
        made = type(model)(config)
    state = apply(model.state_dict(), model.config, config)
    made.load_state_dict(state)
    made.train(model.training)
    made.to(model.device)
    attach(made)
    return made


def _plan_ast(config: Any, spec: SpectrogramSpec, window: int) -> dict[str, int]:
    frames = frames_in(window, spec)
    if frames < config.patch_size:
        least = spec.frame + (config.patch_size - 1) * spec.hop
        raise EdgepruneError(
            f"A window of {window / spec.sampling_rate:.3g} s has {frames} frames, fewer than a "
            f"patch of this model (at least {least / spec.sampling_rate:.3g} s).",
            "Choose longer windows with --window.",
        )
    return {"max_length": frames}


def _fit_ast(state: State, old: Any, new: Any) -> State:
    """Crop or interpolate the position embeddings (1, 2 + rows x columns, hidden) over time."""
    rows = _patches(old.num_mel_bins, old.patch_size, old.frequency_stride)
    before, after = (_patches(c.max_length, c.patch_size, c.time_stride) for c in (old, new))
    (name,) = (key for key in state if key.endswith("embeddings.position_embeddings"))
    tokens, grid = state[name][:, :2], state[name][:, 2:]
    picture = grid.reshape(1, rows, before, -1).permute(0, 3, 1, 2)
    if after <= before:
        start = before // 2 - after // 2
        picture = picture[..., start : start + after]
    else:
        picture = nn.functional.interpolate(picture, (rows, after), mode="bilinear")
    places = picture.permute(0, 2, 3, 1).flatten(1, 2)
    return {**state, name: torch.cat([tokens, places], dim=1)}


def _patches(length: int, patch: int, stride: int) -> int:
    return (length - patch) // stride + 1


def _plan_whisper(config: Any, spec: SpectrogramSpec, window: int) -> dict[str, int]:
    positions = frames_in(window, spec) // 2
    if positions > config.max_source_positions:
        longest = input_size_of(config, spec) / spec.sampling_rate
        raise _too_long(window / spec.sampling_rate, longest)
    return {"max_source_positions": positions}


def _fit_whisper(state: State, _: Any, new: Any) -> State:
    """Keep the first positions."""
    name = "encoder.embed_positions.weight"
    return {**state, name: state[name][: new.max_source_positions]}


def _plan_clap(config: Any, spec: SpectrogramSpec, window: int) -> dict[str, int]:
    strips = config.spec_size // config.num_mel_bins
    for count in range(1, strips + 1):
        size = count * config.num_mel_bins
        attention, rest = divmod(config.window_size * count, strips)
        if rest == 0 and window <= _clap_input_size(config.num_mel_bins, size, spec):
            return {"spec_size": size, "window_size": attention}
    longest = input_size_of(config, spec) / spec.sampling_rate
    raise _too_long(window / spec.sampling_rate, longest)


def _fit_clap(state: State, _: Any, new: Any) -> State:
    """Keep the middle of the tables of relative positions; their index is computed again."""
    from edgeprune.nn.clap import cropped_bias, position_index

    found = {}
    for name, tensor in state.items():
        if name.endswith("relative_position_bias_table"):
            tensor = cropped_bias(tensor, new.window_size)
        elif name.endswith("relative_position_index"):
            tensor = position_index(new.window_size)
        found[name] = tensor
    return found


def _clap_input_size(mels: int, size: int, spec: SpectrogramSpec) -> int:
    """Return the number of samples that fill an image of ``size`` x ``size``."""
    return round(size * (size // mels) / CLAP_STRETCH * spec.hop)


def _too_long(seconds: float, longest: float) -> EdgepruneError:
    return EdgepruneError(
        f"This model takes windows of at most {longest:g} s, not {seconds:g} s.",
        "Choose shorter windows with --window.",
    )


Plan = Callable[[Any, SpectrogramSpec, int], dict[str, int]]
Apply = Callable[[State, Any, Any], State]
FITS: dict[str, tuple[Plan, Apply]] = {  # front end -> new config fields, and new tensors
    "ast": (_plan_ast, _fit_ast),
    "whisper": (_plan_whisper, _fit_whisper),
    "clap": (_plan_clap, _fit_clap),
}
