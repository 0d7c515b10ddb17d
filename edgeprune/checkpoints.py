"""Checkpoints: what a model folder or hub id says of itself, read before any weight is loaded.

Safetensors only, ``trust_remote_code`` never; what is wrong is said in a sentence.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from edgeprune.families import Family, family_of
from edgeprune.hearing import read_recipe
from edgeprune.spectrograms import record_of
from edgeprune_device.errors import EdgepruneError

MERT_RATE = 24000  # Hz


def read_config(source: str) -> Any:
    """Read a model's configuration, from a folder or a hub id.

    Raises
    ------
    EdgepruneError
        No such model, a configuration that cannot be read, a family without a row in the table,
        or weights only as a pickle.

    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    getLogger("huggingface_hub").setLevel(ERROR)
    logging.disable_progress_bar()
    folder = Path(source)
    if folder.exists():
        _check_folder(folder)
    elif source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise EdgepruneError(f"There is no model folder {source}.", "Check the path.")
    try:
        config = _own_config(source)
        if not folder.exists():
            _check_hub(source)
        if recipe := read_recipe(source, config):
            config.edgeprune_frontend = record_of(recipe)
            config.sampling_rate = recipe.sampling_rate
    except (OSError, ValueError) as error:
        raise EdgepruneError(
            f"The model {source} could not be read: {first_line(error)}",
            "Give a folder with config.json and model.safetensors, or a hub id such as "
            "facebook/wav2vec2-base-960h (a hub id needs the network the first time).",
        ) from error
    return without_fusion(config) if config.model_type == "clap_audio_model" else config


def _own_config(source: str) -> Any:
    """Read a config as that of the model we load: of CLAP its audio tower, MERT's as HuBERT's."""
    from transformers import AutoConfig, PreTrainedConfig

    import edgeprune.clap
    import edgeprune.cnn14
    import edgeprune.kwt  # noqa: F401  all three register their model types

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


def _check_folder(folder: Path) -> None:
    """Refuse a folder whose model type or weights we would not load."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise EdgepruneError(
            f"{folder} holds no config.json, so it is not a model folder.",
            "Save the model with save_pretrained() and name that folder.",
        )
    try:
        model_type = json.loads(config_file.read_text("utf-8")).get("model_type", "")
    except (ValueError, AttributeError) as error:
        raise EdgepruneError(f"{config_file} is not a JSON object: {error}.") from error
    family_of(model_type)
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(
            p.name for p in folder.glob("*.pt*")
        )
        found = f"only {pickles[0]}, a pickle that could run code" if pickles else "no weights"
        raise EdgepruneError(
            f"{folder} holds {found}; edgeprune reads safetensors.",
            "Convert it where you trust it: "
            "AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)",
        )
    for weights in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(weights, framework="numpy"):  # reads the header and compares lengths
                pass
        except (OSError, SafetensorError) as error:
            raise EdgepruneError(
                f"{weights} is damaged or no safetensors file: {first_line(error)}",
                "Copy it again; of a git checkout, fetch its large files (git lfs pull).",
            ) from error


def _check_hub(source: str) -> None:
    """Refuse a hub id without safetensors of its own, and fetch those it has."""
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

    for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
        if cached_file(source, name, _raise_exceptions_for_missing_entries=False):
            return
    raise EdgepruneError(
        f"{source} has no safetensors on the hub, only a pickle that could run code.",
        "Convert it where you trust it, and name the folder: for each of AutoModel and "
        f'AutoFeatureExtractor, .from_pretrained("{source}").save_pretrained(FOLDER)',
    )


def normalizes(source: str, config: Any, family: Family) -> bool:
    """Whether samples are scaled to zero mean and unit variance before this model.

    A folder that edgeprune saved says so in its config; any other is asked for its feature
    extractor's ``do_normalize`` (transformers' default for these families is True).
    """
    if not family.normalize:
        return False
    saved = getattr(config, "edgeprune_normalize", None)
    if saved is not None:
        return bool(saved)
    from transformers import Wav2Vec2FeatureExtractor

    try:
        extractor = Wav2Vec2FeatureExtractor.from_pretrained(source)
    except OSError:
        return True
    return bool(extractor.do_normalize)


def own_labels(source: str) -> tuple[str, ...]:
    """Return the labels of the checkpoint's own trained head; empty if it has none.

    transformers names untrained labels LABEL_0, LABEL_1, ...
    """
    config = read_config(source)
    architecture = (getattr(config, "architectures", None) or [""])[0]
    labels = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
    if "Classification" not in architecture or all(x.startswith("LABEL_") for x in labels):
        return ()
    return labels


def first_line(error: Exception) -> str:
    """Return an error's first line, or its type where it says nothing."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
