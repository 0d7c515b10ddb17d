"""Putting a light front end into a model, as a part that a config can name.

``light-features``   in place of a waveform encoder: log-mel spectra or cepstra with the encoder's
                     frames, small convolutions, as many channels as the encoder
``narrow-features``  the waveform encoder's convolutions with fewer channels
``light-frontend``   in place of KWT's front end: log-mel spectra with a longer hop, one linear
                     layer to its cepstra

They are trained on the features they replace before anything else (``replacement.frontend``).
"""

from __future__ import annotations

from collections.abc import Mapping
from math import prod
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.core.settings import FrontEnd
from edgeprune.models import serialization
from edgeprune.models.families import family_of
from edgeprune_device.errors import EdgepruneError


def framing_of(config: Any) -> tuple[int, int]:
    """Return a waveform encoder's receptive field and hop in samples.

    A window of n samples has ``(n - reach) // step + 1`` frames.
    """
    kernels, strides = config.conv_kernel, config.conv_stride
    reach = 1 + sum((k - 1) * prod(strides[:i]) for i, k in enumerate(kernels))
    return int(reach), prod(strides)


def path_of(config: Any) -> str:
    """Return the dotted path to a model's front end, from ``model.base_model``, by its config.

    Raises
    ------
    EdgepruneError
        The family already takes spectrograms.

    """
    name = config.model_type
    if name == "kwt":
        return "frontend"
    path = family_of(name).frozen
    if not path or not hasattr(config, "conv_kernel"):
        raise EdgepruneError(
            f"Models of type {name} take spectrograms: there is no waveform encoder to replace.",
            "Remove the step frontend from the recipe.",
        )
    return path


def check_front_end(config: Any, settings: FrontEnd) -> None:
    """Raise if the step ``frontend`` cannot work, as far as a model's config and the recipe tell.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's config.
    settings : FrontEnd
        Settings of the step.

    Raises
    ------
    EdgepruneError
        See ``path_of`` and ``insert_light_frontend``.

    """
    path_of(config)
    kwt, rate = config.model_type == "kwt", int(getattr(config, "sampling_rate", 16000))
    channels = int(config.num_mfcc if kwt else config.conv_dim[-1])
    with torch.device("meta"):
        make_light(frontend_spec(config, channels, rate, settings))


def insert_light_frontend(
    model: Any, features: Tensor, sample_rate: int, settings: FrontEnd
) -> nn.Module:
    """Put a new light front end into a model, in place, and return it.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model of a waveform family, or KWT.
    features : Tensor
        Output of its present front end: (batch, channels, frames), for KWT (batch, frames,
        cepstra).
    sample_rate : int
        Sample rate in Hz.
    settings : FrontEnd
        Settings of the step.

    Raises
    ------
    EdgepruneError
        KWT would not get fewer frames, or the kind is not possible for KWT; or the settings give no
        valid front end.

    """
    config, path = model.config, path_of(model.config)
    kwt = config.model_type == "kwt"
    spec = frontend_spec(config, features.shape[2 if kwt else 1], sample_rate, settings)
    made = make_light(spec)
    if kwt:
        reduce_token_rate(model, spec["step"])
    prefix = "" if model.base_model is model else f"{model.base_model_prefix}."
    serialization.replace_module(model, f"{prefix}{path}", made)
    return made


def frontend_spec(config: Any, channels: int, rate: int, settings: FrontEnd) -> dict[str, Any]:
    """Return the specification of a light front end.

    ``log-mel`` and ``mfcc`` use ``width``, ``layers``, ``kernel``, ``stem_channels`` and ``mels``
    of the settings, ``narrow`` uses ``width`` alone, and KWT's front end ``mels`` and ``hop_ms``.

    Parameters
    ----------
    config : PreTrainedConfig
        The model's config.
    channels : int
        Number of features per frame that the model takes.
    rate : int
        Sample rate in Hz.
    settings : FrontEnd
        Settings of the step.

    Raises
    ------
    EdgepruneError
        The settings are not possible for KWT.

    """
    if config.model_type == "kwt":
        return {"part": "light-frontend", "sample_rate": rate, "mels": settings.mels,
                "reach": config.frame_length, "step": _longer_step(config, settings, rate),
                "cepstra": channels}  # fmt: skip
    if settings.kind == "narrow":
        return {"part": "narrow-features", "kernels": list(config.conv_kernel),
                "strides": list(config.conv_stride), "width": settings.width,
                "channels": channels}  # fmt: skip
    reach, step = framing_of(config)
    return {"part": "light-features", "front_end": settings.kind, "step": step,
            "sample_rate": rate, "reach": reach, "channels": channels, "width": settings.width,
            "layers": settings.layers, "kernel": settings.kernel, "mels": settings.mels,
            "stem_channels": settings.stem_channels}  # fmt: skip


def make_light(spec: Mapping[str, Any]) -> nn.Module:
    """Build a light front end from its specification.

    Raises
    ------
    EdgepruneError
        The specification is not possible: bands too narrow for the frames, an even kernel.

    """
    try:
        return serialization.make_part(spec)
    except ValueError as error:
        raise EdgepruneError(
            f"The front end cannot be built: {error}.", "Change [frontend] in the recipe."
        ) from error


def _longer_step(config: Any, settings: FrontEnd, sample_rate: int) -> int:
    """Return KWT's new hop in samples."""
    step: int = round(settings.hop_ms * sample_rate / 1000)
    if settings.kind == "narrow":
        raise EdgepruneError(
            "A kwt model has no waveform encoder to narrow.", 'Use frontend.kind = "log-mel".'
        )
    if settings.kind == "mfcc":
        raise EdgepruneError(
            "A kwt model computes its cepstra by a linear layer on log-mel spectra, so mfcc is not "
            "possible.",
            'Use frontend.kind = "log-mel".',
        )
    if step < int(config.frame_step):
        raise EdgepruneError(
            f"frontend.hop_ms = {settings.hop_ms:g} is shorter than the model's "
            f"{1000 * config.frame_step / sample_rate:g} ms.",
            "A longer hop gives fewer tokens, and so less computation.",
        )
    return step


def interpolate_frames(frames: Tensor, count: int, step: float) -> Tensor:
    """Interpolate frames (batch, count, width) linearly at distances of ``step`` input frames."""
    last = frames.shape[1] - 1
    places = torch.arange(count, device=frames.device) * step
    below = places.long().clamp_max(last)
    share = (places - below)[None, :, None]
    return frames[:, below] * (1 - share) + frames[:, (below + 1).clamp_max(last)] * share


def reduce_token_rate(model: Any, step: int) -> None:
    """Give a KWT the tokens of a longer hop, with interpolated position embeddings."""
    config = model.config
    count = (config.num_samples - config.frame_length) // step + 1
    own = model.pos_embed.detach()
    thinned = interpolate_frames(own[:, 1:], count, step / config.frame_step)
    model.pos_embed = nn.Parameter(torch.cat([own[:, :1], thinned], dim=1))
    config.mask_time_length = max(1, round(config.mask_time_length * config.frame_step / step))
    config.num_tokens, config.frame_step = count + 1, step
