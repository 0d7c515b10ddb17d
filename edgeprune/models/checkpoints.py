"""Metadata of a model folder or hub id, read before any weights are loaded.

Only safetensors are accepted, and ``trust_remote_code`` is never used.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from logging import ERROR, getLogger
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from edgeprune.core.files import read_json
from edgeprune.models.checkpoint_formats import own_config, without_fusion
from edgeprune.models.families import Family, depth_of, family_of, fixed_layers_of
from edgeprune.models.input_length import read_spec
from edgeprune.nn.spectrogram_specs import (
    record_of,
)
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.ctc import BLANK_NAME

TAGS = "multi_label_classification"
PROBLEMS = {"classes": "single_label_classification", "tags": TAGS}
"""Task -> ``problem_type`` in a transformers config."""

CHATTER = ("torchao", "torch.utils._pytree")
"""Loggers of libraries that warn about their own parts once litert-torch has imported torchao."""


@dataclass(frozen=True)
class Checkpoint:
    """Metadata of a model folder or hub id."""

    source: str
    config: Any
    """transformers.PreTrainedConfig; for CLAP that of the audio tower, for MERT that of HuBERT."""
    family: Family
    depth: int
    """Number of transformer layers."""
    fixed_layers: tuple[int, ...]
    """Layers that cannot be removed."""
    sample_rate: int
    """Sample rate in Hz that the model was trained at."""
    window_samples: int
    """Samples of a fixed input window; 0: any length."""
    task: str
    """Task of its head: classes, tags or ctc."""

    def labels(self, task: str = "classes") -> tuple[str, ...]:
        """Return the labels of its trained head; empty if it has none for the task.

        transformers names untrained labels LABEL_0, LABEL_1, ... A CTC model's labels are those of
        its ``vocab.json``, or of its config if edgeprune saved it; the blank must be the first.

        Raises
        ------
        EdgepruneError
            Its ``vocab.json`` is not a JSON object of integers.

        """
        config = self.config
        architecture = (getattr(config, "architectures", None) or [""])[0]
        if self.task != task or not architecture.endswith(("Classification", "ForCTC")):
            return ()
        labels = tuple(str(config.id2label[index]) for index in sorted(config.id2label))
        if all(x.startswith("LABEL_") for x in labels):
            return vocabulary_of(self.source, config) if task == "ctc" else ()
        return labels if task != "ctc" or config.pad_token_id == 0 else ()

    def known_labels(self, task: str = "classes") -> tuple[str, ...]:
        """Return ``labels``, with the blank of a CTC model under edgeprune's name for it."""
        return tuple(BLANK_NAME if index == 0 and task == "ctc" else name
                     for index, name in enumerate(self.labels(task)))  # fmt: skip

    def check_task(self, task: str) -> None:
        """Raise EdgepruneError if the family has no model for a task."""
        check_task(self.config, task)


def read_checkpoint(source: str) -> Checkpoint:
    """Read the metadata of a checkpoint, before any weights are loaded.

    Parameters
    ----------
    source : str
        Folder or hub id.

    Raises
    ------
    EdgepruneError
        See ``read_config``.

    """
    config = read_config(source)
    family = family_of(config.model_type)
    window = int(getattr(config, family.window, 0)) if family.window else 0
    return Checkpoint(
        source, config, family, depth_of(config), fixed_layers_of(config),
        int(getattr(config, "sampling_rate", 16000)), window, task_in(config),
    )  # fmt: skip


def read_config(source: str) -> Any:
    """Read a model's configuration from a folder or a hub id.

    Raises
    ------
    EdgepruneError
        There is no such model, its configuration cannot be read, its family is not known, or its
        weights exist only as a pickle.

    """
    from transformers.utils import logging

    logging.set_verbosity_error()
    for name in ("huggingface_hub", *CHATTER):
        getLogger(name).setLevel(ERROR)
    logging.disable_progress_bar()
    folder = Path(source)
    if folder.exists():
        _check_folder(folder)
    elif source.startswith((".", "/", "~")) or source.count("/") > 1:
        raise EdgepruneError(f"There is no model folder {source}.", "Check the path.")
    try:
        config = own_config(source)
        if not folder.exists():
            _check_hub(source)
        if spec := read_spec(source, config):
            config.edgeprune_frontend = record_of(spec)
            config.sampling_rate = spec.sampling_rate
    except (OSError, ValueError) as error:
        raise EdgepruneError(
            f"The model {source} cannot be read: {first_line(error)}",
            "Use a folder with config.json and model.safetensors, or a hub id such as "
            "facebook/wav2vec2-base-960h (a hub id needs network access the first time).",
        ) from error
    return without_fusion(config) if config.model_type == "clap_audio_model" else config


def _check_folder(folder: Path) -> None:
    """Raise for a folder whose model type is not known or whose weights are not safetensors."""
    config_file = folder / "config.json"
    if not config_file.is_file():
        raise EdgepruneError(
            f"{folder} is not a model folder: it has no config.json.",
            "Save the model with save_pretrained() and use that folder.",
        )
    try:
        model_type = read_json(config_file).get("model_type", "")
    except (ValueError, AttributeError) as error:
        raise EdgepruneError(f"{config_file} is not a JSON object: {error}.") from error
    family_of(model_type)
    if not list(folder.glob("*.safetensors")):
        pickles = sorted(p.name for p in folder.glob("*.bin")) + sorted(
            p.name for p in folder.glob("*.pt*")
        )
        found = f"only {pickles[0]}, a pickle that could run code" if pickles else "no weights"
        raise EdgepruneError(
            f"{folder} contains {found}; edgeprune reads only safetensors.",
            "Convert it on a machine where you trust it: "
            "AutoModel.from_pretrained(DIR).save_pretrained(DIR, safe_serialization=True)",
        )
    for weights in sorted(folder.glob("*.safetensors")):
        try:
            with safe_open(weights, framework="numpy"):  # reads the header and compares lengths
                pass
        except (OSError, SafetensorError) as error:
            raise EdgepruneError(
                f"{weights} is damaged or not a safetensors file: {first_line(error)}",
                "Copy it again; in a git checkout, fetch its large files (git lfs pull).",
            ) from error


def _check_hub(source: str) -> None:
    """Raise for a hub id without safetensors of its own; download those it has."""
    from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME, cached_file

    for name in (SAFE_WEIGHTS_NAME, SAFE_WEIGHTS_INDEX_NAME):
        if cached_file(source, name, _raise_exceptions_for_missing_entries=False):
            return
    raise EdgepruneError(
        f"{source} has no safetensors on the hub, only a pickle that could run code.",
        "Convert it on a machine where you trust it, and use that folder: for each of AutoModel "
        f'and AutoFeatureExtractor, .from_pretrained("{source}").save_pretrained(FOLDER)',
    )


def normalizes(source: str, config: Any, family: Family) -> bool:
    """Return whether samples are scaled to zero mean and unit variance before this model.

    A folder that edgeprune saved states it in its config; otherwise it is the feature extractor's
    ``do_normalize`` (transformers' default for these families is True).
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


def task_in(config: Any) -> str:
    """Return the task of the head that a config describes: classes, tags or ctc."""
    if (getattr(config, "architectures", None) or [""])[0].endswith("ForCTC"):
        return "ctc"
    return "tags" if getattr(config, "problem_type", None) == TAGS else "classes"


def check_task(config: Any, task: str) -> None:
    """Raise if a family has no model for a task.

    Raises
    ------
    EdgepruneError
        transformers has no CTC model of the family.

    """
    from transformers import MODEL_FOR_CTC_MAPPING

    if task == "ctc" and type(config) not in MODEL_FOR_CTC_MAPPING:
        raise EdgepruneError(
            f"Models of type {config.model_type!r} have no frame-level output, which transcripts "
            "(clips.task = 'ctc') need.",
            "Use a wav2vec2, hubert, wavlm, data2vec-audio, unispeech-sat, sew, wav2vec2-conformer "
            "or wav2vec2-bert model.",
        )


def vocabulary_of(source: str, config: Any) -> tuple[str, ...]:
    """Return the tokens of a checkpoint's ``vocab.json`` by index; empty if it is not usable.

    Raises
    ------
    EdgepruneError
        It is not a JSON object of integers.

    """
    from transformers.utils import cached_file

    file = cached_file(source, "vocab.json", _raise_exceptions_for_missing_entries=False)
    if file is None or config.pad_token_id != 0:
        return ()
    try:
        stated = json.loads(Path(file).read_text("utf-8"))
    except ValueError as error:
        raise EdgepruneError(f"{file} is not JSON: {first_line(error)}.") from error
    if not isinstance(stated, dict) or not all(type(n) is int for n in stated.values()):
        raise EdgepruneError(
            f"{file} is not a JSON object of tokens and their indices.",
            'Expected: {"<pad>": 0, "a": 1, ...}.',
        )
    tokens = sorted(stated, key=lambda token: int(stated[token]))
    whole = [stated[token] for token in tokens] == list(range(config.vocab_size))
    return tuple(tokens) if whole else ()


def first_line(error: Exception) -> str:
    """Return an error's first line, or the name of its type if it has no text."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
