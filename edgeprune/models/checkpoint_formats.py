"""Checkpoints that contain more than the loaded model, or a known model under another type.

- ``clap``: a text tower beside the audio tower, and feature fusion for clips over ten seconds;
- ``mert_model``: HuBERT at 24 kHz, whose own code is never run;
- ``whisper`` needs nothing here: its classifier takes the encoder's tensors of any checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune_device.errors import EdgepruneError

MERT_RATE = 24000  # Hz


def own_config(source: str) -> Any:
    """Read the config of the model to load: CLAP's audio tower, or MERT as HuBERT.

    Parameters
    ----------
    source : str
        Folder or hub id.

    Raises
    ------
    EdgepruneError
        The classes of this format cannot compute what the checkpoint was trained for.

    """
    from transformers import AutoConfig, PreTrainedConfig

    import edgeprune.nn.clap
    import edgeprune.nn.cnn14
    import edgeprune.nn.kwt
    import edgeprune.nn.student  # noqa: F401  all four register their model types

    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except ValueError:
        stated = PreTrainedConfig.get_config_dict(source)[0]
        if stated.get("model_type") != "mert_model":
            raise
        return config_of_mert(stated)
    if config.model_type == "clap":
        config = config.audio_config
    if getattr(config, "use_intermediate_ffn_before_adapter", False):
        raise EdgepruneError(
            f"{source} has a feed-forward layer after its blocks "
            "(use_intermediate_ffn_before_adapter), which layer scores do not cover.",
            "Use a wav2vec2-bert checkpoint without an adapter.",
        )
    return config


def config_of_mert(stated: Mapping[str, Any]) -> Any:
    """Return the HuBERT config of a MERT checkpoint (Li et al. 2023, arXiv 2306.00107).

    MERT is HuBERT on music at 24 kHz. Its ``attention_relax`` stabilizes the softmax numerically
    and changes no result.

    Parameters
    ----------
    stated : mapping
        Content of its ``config.json``.

    Raises
    ------
    EdgepruneError
        The model also takes a constant-Q transform as input, or scales residuals as DeepNorm does.

    """
    from transformers import HubertConfig

    for name, about in (("feature_extractor_cqt", "also takes a constant-Q transform as input"),
                        ("deepnorm", "scales its residuals as DeepNorm does")):  # fmt: skip
        if stated.get(name):
            raise EdgepruneError(
                f"This MERT {about} ({name} is true), which HuBERT's classes do not support.",
                "Use a MERT checkpoint without it, such as m-a-p/MERT-v1-95M.",
            )
    ours = {"model_type", "auto_map", "_name_or_path", "transformers_version", "sample_rate"}
    config = HubertConfig(**{name: value for name, value in stated.items() if name not in ours})
    config.sampling_rate = int(stated.get("sample_rate", MERT_RATE))
    return config


def without_fusion(config: Any) -> Any:
    """Return a CLAP tower's config without feature fusion, which only longer clips need.

    Raises
    ------
    EdgepruneError
        The fusion is part of the patch embedding.

    """
    if config.enable_fusion and config.fusion_type == "channel_map":
        raise EdgepruneError(
            "This CLAP fuses longer clips in its patch embedding (fusion_type channel_map), which "
            "cannot be removed.",
            "Use a checkpoint with another fusion_type, or without fusion.",
        )
    config.enable_fusion = False
    return config
