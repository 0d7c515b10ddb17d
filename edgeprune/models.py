"""Model folders: load them safely, run them on windows of samples, save what was made of them.

Safetensors only, ``trust_remote_code`` never. A window of raw samples goes in; where the family's
feature extractor scales samples to zero mean and unit variance, that happens here in torch, so
that training, export and the deployed graph share one definition.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from edgeprune.bridges import load_bridges
from edgeprune.families import Family, family_of, layers_of
from edgeprune_device.errors import EdgepruneError

NORMALIZE_EPSILON = 1e-7  # transformers' Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm


def read_config(source: str) -> Any:
    """Read a model's configuration, from a folder or a hub id.

    Raises
    ------
    EdgepruneError
        No such model, a configuration that cannot be read, a family without a row in the table,
        or weights only as a pickle.

    """
    from transformers import AutoConfig
    from transformers.utils import logging

    import edgeprune.kwt  # noqa: F401  registers model_type "kwt"

    logging.set_verbosity_error()
    getLogger("huggingface_hub").setLevel(ERROR)
    logging.disable_progress_bar()
    folder = Path(source)
    if folder.exists():
        _check_folder(folder)
    elif source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise EdgepruneError(f"There is no model folder {source}.", "Check the path.")
    try:
        config = AutoConfig.from_pretrained(source, trust_remote_code=False)
        if not folder.exists():
            _check_hub(source)
        return config
    except (OSError, ValueError) as error:
        raise EdgepruneError(
            f"The model {source} could not be read: {_first_line(error)}",
            "Give a folder with config.json and model.safetensors, or a hub id such as "
            "facebook/wav2vec2-base-960h (a hub id needs the network the first time).",
        ) from error


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
                f"{weights} is damaged or no safetensors file: {_first_line(error)}",
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


def load_classifier(source: str, labels: Sequence[str] | None = None) -> Any:
    """Load a classifier, in evaluation mode and float32.

    Parameters
    ----------
    source : str
        Folder or hub id.
    labels : sequence of str, optional
        Give the model a fresh head for these labels; without it, the checkpoint's own head.

    Returns
    -------
    transformers.PreTrainedModel

    """
    from transformers import AutoModelForAudioClassification

    config = read_config(source)
    family = family_of(config.model_type)
    options: dict[str, Any] = {}
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        options["ignore_mismatched_sizes"] = True
    for name in ("layerdrop", "mask_time_prob", "mask_feature_prob"):
        if hasattr(config, name):  # layers must not vanish while they are scored or distilled
            setattr(config, name, 0.0)
    if config.model_type != "kwt":
        options["attn_implementation"] = family.attention
    try:
        model = AutoModelForAudioClassification.from_pretrained(
            source, config=config, dtype=torch.float32, use_safetensors=True,
            trust_remote_code=False, **options,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError) as error:
        raise EdgepruneError(
            f"The weights of {source} could not be loaded: {_first_line(error)}",
            "Only safetensors are read; check that model.safetensors belongs to config.json.",
        ) from error
    if getattr(config, "edgeprune_bridges", None):
        load_bridges(model, Path(source), config.edgeprune_bridges)
    model.config.edgeprune_normalize = normalizes(source, config, family)
    return model.eval()


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


def load_for(source: str, labels: Sequence[str]) -> tuple[Any, tuple[str, ...], bool]:
    """Load a classifier for labels: with its own head if that knows them all, else a fresh one.

    Returns
    -------
    model : transformers.PreTrainedModel
    labels : tuple of str
        In the order of its outputs; its own head may know more.
    own : bool
        Whether it is its own head.

    """
    known = own_labels(source)
    own = set(labels) <= set(known)
    model = load_classifier(source, None if own else labels)
    return model, known if own else tuple(labels), own


def labels_of(model: Any) -> tuple[str, ...]:
    """Return a classifier's labels in the order of its outputs."""
    return tuple(str(model.config.id2label[index]) for index in sorted(model.config.id2label))


def sample_rate_of(model: Any) -> int:
    """Return the rate in Hz that a model was trained at (the waveform families: 16 kHz)."""
    return int(getattr(model.config, "sampling_rate", 16000))


def prepare(model: Any, samples: Tensor) -> Tensor:
    """Scale windows (batch, samples) as the model's feature extractor would."""
    if not model.config.edgeprune_normalize:
        return samples
    centred = samples - samples.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + NORMALIZE_EPSILON)


def logits_and_states(model: Any, samples: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a classifier on raw windows.

    Returns
    -------
    logits : Tensor (batch, labels)
    states : tuple of Tensor (batch, frames, hidden)
        The input of the first block, then every block's output; tokens that stand for no
        stretch of sound are left out.

    """
    out = model(prepare(model, samples), output_hidden_states=True)
    skip = family_of(model.config.model_type).class_tokens
    return out.logits, tuple(state[:, skip:] for state in out.hidden_states)


def logits_of(model: Any, samples: Tensor) -> Tensor:
    """Run a classifier on raw windows (batch, samples); logits (batch, labels)."""
    logits: Tensor = model(prepare(model, samples)).logits
    return logits


def head_parameters(model: Any) -> list[nn.Parameter]:
    """Return the parameters that belong to the head alone."""
    backbone = {id(p) for p in layers_of(model).parameters()}
    names = ("projector", "classifier", "head", "layer_weights")
    return [
        p for name, p in model.named_parameters()
        if name.split(".")[0] in names and id(p) not in backbone
    ]  # fmt: skip


def count_parameters(model: nn.Module) -> int:
    """Count the trainable numbers of a model; fixed front-end matrices do not count."""
    return sum(p.numel() for p in model.parameters())


def save(model: Any, folder: Path) -> None:
    """Write a folder that ``load_classifier`` and transformers' Auto classes reload."""
    model.save_pretrained(folder)


def choose_device(name: str = "auto") -> torch.device:
    """Pick the device to train on: a GPU when there is one, otherwise the CPU.

    Raises
    ------
    EdgepruneError
        The named accelerator is not there.

    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    available = {"cpu": True, "cuda": torch.cuda.is_available(),
                 "mps": torch.backends.mps.is_available()}  # fmt: skip
    if name not in available:
        raise EdgepruneError(f"No accelerator is called {name!r}.", "Known: auto, cpu, cuda, mps.")
    if not available[name]:
        raise EdgepruneError(f"This machine has no {name} accelerator.", "Use --accelerator cpu.")
    return torch.device(name)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
