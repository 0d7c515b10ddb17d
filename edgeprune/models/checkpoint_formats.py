"""Checkpoints that hold more than the model we load, or the same model under another name.

- ``clap``: a text tower beside the audio tower, and feature fusion for clips over ten seconds;
- ``mert_model``: HuBERT at 24 kHz, whose own code we never run;
- ``whisper`` needs nothing here: its classifier takes the encoder's tensors of any checkpoint.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgeprune_device.errors import EdgepruneError

MERT_RATE = 24000  # Hz


def own_config(source: str) -> Any:
    """Read a config as that of the model we load: of CLAP its audio tower, MERT's as HuBERT's.

    Parameters
    ----------
    source : str
        Folder or hub id.

    Raises
    ------
    EdgepruneError
        A layout whose classes cannot compute what the checkpoint was trained for.

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
            f"{source} has a feed-forward layer behind its blocks "
            "(use_intermediate_ffn_before_adapter), which no layer score would cover.",
            "Use a wav2vec2-bert checkpoint without an adapter.",
        )
    return config


def config_of_mert(stated: Mapping[str, Any]) -> Any:
    """Return the HuBERT config of a MERT checkpoint (Li et al. 2023, arXiv 2306.00107).

    MERT is HuBERT on music at 24 kHz. Its softmax is steadied by ``attention_relax``, which changes
    no result.

    Parameters
    ----------
    stated : mapping
        Its ``config.json``.

    Raises
    ------
    EdgepruneError
        It also reads a constant-Q transform, or has DeepNorm's residuals.

    """
    from transformers import HubertConfig

    for name, about in (("feature_extractor_cqt", "also reads a constant-Q transform"),
                        ("deepnorm", "scales its residuals as DeepNorm does")):  # fmt: skip
        if stated.get(name):
            raise EdgepruneError(
                f"This MERT {about} ({name} is true), which HuBERT's classes cannot.",
                "Use a MERT checkpoint without it, such as m-a-p/MERT-v1-95M.",
            )
    ours = {"model_type", "auto_map", "_name_or_path", "transformers_version", "sample_rate"}
    config = HubertConfig(**{name: value for name, value in stated.items() if name not in ours})
    config.sampling_rate = int(stated.get("sample_rate", MERT_RATE))
    return config


def without_fusion(config: Any) -> Any:
    """Return a CLAP tower's config for windows that it hears whole: fusion is for longer ones.

    Raises
    ------
    EdgepruneError
        The fusion is in the patch embedding itself.

    """
    if config.enable_fusion and config.fusion_type == "channel_map":
        raise EdgepruneError(
            "This CLAP fuses longer clips by channels (fusion_type channel_map), which cannot be "
            "left out.",
            "Use a checkpoint with another fusion_type, or without fusion.",
        )
    config.enable_fusion = False
    return config
