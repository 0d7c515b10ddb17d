"""Loading model folders, running them on windows of samples, and saving modified models.

The input is a window of raw samples. Normalization to zero mean and unit variance, or the
spectrogram, of a family's feature extractor is computed here in torch, so that training, export and
the deployed graph share one definition.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edgeprune.data.tasks import task_of
from edgeprune.models import input_length, serialization
from edgeprune.models.checkpoints import (
    PROBLEMS,
    Checkpoint,
    first_line,
    normalizes,
    read_checkpoint,
)
from edgeprune.models.families import family_of
from edgeprune.models.heads import forget_head, put_head, relabel, renew_head
from edgeprune.models.heads import head_parameters as head_parameters
from edgeprune.models.hidden_states import block_states, frames_of
from edgeprune_device.errors import EdgepruneError

NORMALIZE_EPSILON = 1e-7  # transformers' Wav2Vec2FeatureExtractor.zero_mean_unit_var_norm


LAYERDROP = ("layerdrop", "encoder_layerdrop", "decoder_layerdrop")
MASKING = ("mask_time_prob", "mask_feature_prob")


def load_model(
    source: str | Path, labels: Sequence[str] | None = None, *, task: str = "", head: str = "own",
    window_samples: int = 0,
) -> Any:  # fmt: skip
    """Load a model with a head (a classifier, or a CTC model), in evaluation mode and float32.

    Parameters
    ----------
    source : str or Path
        Folder in Hugging Face's format, including those that ``compress`` writes, or hub id.
    labels : sequence of str, optional
        Give the model a new head for these labels (its own is kept if it was trained on exactly
        these). Default: the checkpoint's own head.
    task : str
        ``classes``, ``tags`` or ``ctc``; empty: that of the checkpoint.
    head : str
        Kind of a new head, see ``heads``; ``own``: that of the checkpoint.
    window_samples : int
        Fit a spectrogram model to windows of this many samples (``input_length.resize_input``);
        0: unchanged.

    Returns
    -------
    transformers.PreTrainedModel

    Raises
    ------
    EdgepruneError
        There is no such model, its family is not known, its weights exist only as a pickle, or they
        do not match the configuration.

    """
    checkpoint = read_checkpoint(str(source))
    return load_checkpoint(checkpoint, labels, task=task, head=head, window_samples=window_samples)


def load_checkpoint(
    checkpoint: Checkpoint, labels: Sequence[str] | None = None, *, task: str = "",
    head: str = "own", window_samples: int = 0,
) -> Any:  # fmt: skip
    """Load a model from its metadata; parameters and errors as for ``load_model``."""
    import transformers

    source, config = checkpoint.source, copy.deepcopy(checkpoint.config)
    task = task or checkpoint.task
    checkpoint.check_task(task)
    auto = getattr(transformers, task_of(task).model)
    family = checkpoint.family
    options: dict[str, Any] = {"dtype": torch.float32, "use_safetensors": True}
    if labels is not None:
        config.id2label = dict(enumerate(labels))
        config.label2id = {label: index for index, label in enumerate(labels)}
        if (checkpoint.task == "ctc") == (task == "ctc"):
            relabel(config, len(labels))
        else:
            forget_head(config)
        if task == "ctc":
            config.vocab_size, config.pad_token_id = len(labels), 0
        else:
            config.problem_type = PROBLEMS[task]
        options["ignore_mismatched_sizes"] = True
    for name in (*LAYERDROP, *MASKING):
        if hasattr(config, name):  # layers must not be skipped while they are scored or distilled
            setattr(config, name, 0.0)
    if family.attention:
        options["attn_implementation"] = family.attention
    try:
        if serialization.is_modified(config):
            kind = auto._model_mapping[type(config)]
            model = serialization.load_edited(kind, source, config, **options)
        else:
            model = auto.from_pretrained(source, config=config, trust_remote_code=False, **options)
    except (OSError, ValueError, RuntimeError) as error:
        raise EdgepruneError(
            f"The weights of {source} cannot be loaded: {first_line(error)}",
            "Only safetensors are read; check that model.safetensors belongs to config.json.",
        ) from error
    model.config.edgeprune_normalize = normalizes(source, config, family)
    model.config.architectures = [type(model).__name__]  # of the model with its new head
    _forget_rotations(model)
    if family.frontend:
        input_length.attach(model)
    if window_samples:
        model = input_length.resize_input(model, window_samples)
    if labels is not None:
        if head != "own":
            put_head(model, head, len(labels))
        elif checkpoint.known_labels(task) != tuple(labels):
            renew_head(model)
    return model.eval()


def _forget_rotations(model: nn.Module) -> None:
    """Make rotary embeddings be computed again in every forward pass.

    transformers caches them between passes, and those cached in inference mode cannot be trained
    through.
    """

    def forget(module: Any, _: Any) -> None:
        module.cached_sequence_length = None

    for module in model.modules():
        if hasattr(module, "cached_rotary_positional_embedding"):
            module.register_forward_pre_hook(forget)


def load_for(
    source: str, labels: Sequence[str], *, task: str = "classes", head: str = "own",
    window_samples: int = 0,
) -> tuple[Any, tuple[str, ...], bool]:  # fmt: skip
    """Load a model for labels: with its own head if that knows all of them, else with a new one.

    Parameters
    ----------
    source, labels, task, head, window_samples
        As for ``load_model``.

    Returns
    -------
    model : transformers.PreTrainedModel
        Loaded model.
    labels : tuple of str
        Labels in the order of its outputs; its own head may have more than requested.
    own : bool
        Whether its own head was kept.

    """
    checkpoint = read_checkpoint(source)
    known = checkpoint.labels(task)
    own = set(labels) <= set(checkpoint.known_labels(task))
    model = load_checkpoint(
        checkpoint, None if own else labels, task=task, head=head, window_samples=window_samples
    )
    if own and task == "ctc":  # labels from vocab.json, which its config does not have
        model.config.id2label = dict(enumerate(known))
        model.config.label2id = {label: index for index, label in enumerate(known)}
    return model, known if own else tuple(labels), own


def labels_of(model: Any) -> tuple[str, ...]:
    """Return a classifier's labels in the order of its outputs."""
    return tuple(str(model.config.id2label[index]) for index in sorted(model.config.id2label))


def sample_rate_of(model: Any) -> int:
    """Return the sample rate in Hz that a model was trained at (waveform families: 16 kHz)."""
    return int(getattr(model.config, "sampling_rate", 16000))


def prepare(model: Any, samples: Tensor) -> Tensor:
    """Map windows (batch, samples) to the model's input, as its feature extractor would."""
    if family_of(model.config.model_type).frontend:
        features: Tensor = model.frontend(samples)
        return features
    if not model.config.edgeprune_normalize:
        return samples
    centred = samples - samples.mean(dim=-1, keepdim=True)
    variance = (centred * centred).mean(dim=-1, keepdim=True)
    return centred / torch.sqrt(variance + NORMALIZE_EPSILON)


def logits_and_states(model: Any, samples: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Run a classifier on raw windows.

    Returns
    -------
    logits : Tensor (batch, labels), of a CTC model (batch, frames, labels)
    states : tuple of Tensor (batch, frames, hidden)
        The input of the first layer, then every layer's output, converted by ``frames_of``: all of
        the same shape, without class tokens.

    """
    with block_states(model) as states:
        logits = logits_of(model, samples)
    return logits, tuple(frames_of(model, state) for state in states)


def logits_of(model: Any, samples: Tensor) -> Tensor:
    """Run a model on raw windows (batch, samples).

    Logits are (batch, labels), those of a CTC model (batch, frames, labels).
    """
    logits: Tensor = model(prepare(model, samples)).logits
    return logits


def count_parameters(model: nn.Module) -> int:
    """Count the trainable parameters of a model; fixed front-end matrices do not count."""
    return sum(p.numel() for p in model.parameters())


def save(model: Any, folder: Path) -> None:
    """Write a folder that ``load_model`` reloads.

    transformers' own classes can reload it, too, unless widths were trimmed or parts replaced.
    """
    serialization.record_changes(model)
    model.should_save_on_this_rank = lambda _: True  # every process has a folder of its own
    model.save_pretrained(folder)
    del model.should_save_on_this_rank
