"""Classification heads of models: finding, resetting and replacing them.

Two kinds of new heads, both as in Genova, Esling and Hurlin, "Keep what you need". ``mlp``: 1,024
ReLU units and the labels on the same clip-level input as the family's own head: the mean over time
in the waveform families, Whisper, wav2vec2-BERT and CLAP; class tokens in KWT and AST; the pooled
output in edgeprune's students and CNN14. ``bilstm``: two bidirectional LSTM layers of 256, then the
labels of every frame. Each is a part that a config can name (``serialization.PARTS``).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from edgeprune.models import serialization
from edgeprune.models.families import layers_of
from edgeprune_device.errors import EdgepruneError

MLP_UNITS = 1024
LSTM_UNITS = 256
LSTM_LAYERS = 2
OURS = ("mlp", "bilstm", "through")
ROOTS = ("projector", "classifier", "head", "fc_audioset", "lm_head", "layer_weights")
"""Names of the submodules that belong to a head, at the top of the model."""
PLACES = {
    "mlp": ("classifier", "head.linear", "head", "fc_audioset"), "bilstm": ("lm_head",),
}  # fmt: skip
"""Kind of new head -> where it is placed; the first name that a model has."""
LABEL_LAYERS = tuple(
    f"{place}{inner}" for place in ("classifier", "head", "head.linear", "fc_audioset", "lm_head")
    for inner in ("", ".dense", ".out")
)  # fmt: skip
"""Where the linear layer that outputs the labels may be: in a family's own head or a new one."""


def relabel(config: Any, count: int) -> None:
    """Change the number of labels of a head recorded in a config, keeping its widths.

    Parameters
    ----------
    config : PreTrainedConfig
        Config with the records of ``serialization``; changed in place.
    count : int
        Number of labels.

    """
    if parts := getattr(config, "edgeprune_parts", None):
        config.edgeprune_parts = {
            path: {**spec, "outputs": count} if spec["part"] in ("mlp", "bilstm") else spec
            for path, spec in parts.items()
        }
    if shapes := getattr(config, "edgeprune_shapes", None):
        layers = {f"{path}.{leaf}" for path in LABEL_LAYERS for leaf in ("weight", "bias")}
        config.edgeprune_shapes = {
            name: [count, *shape[1:]] if name in layers else shape for name, shape in shapes.items()
        }


def forget_head(config: Any) -> None:
    """Remove a recorded head from a config, so that the model is built with its family's own.

    Raises
    ------
    EdgepruneError
        The model was trimmed together with its head, so that the family's own would not fit.

    """
    for name in ("edgeprune_sizes", "edgeprune_shapes"):
        if any(path.split(".")[0] in ROOTS for path in getattr(config, name, None) or {}):
            raise EdgepruneError(
                "This model was trimmed together with its head, so it cannot get a head for "
                "another task.",
                "Start from the model before trimming.",
            )
    parts = getattr(config, "edgeprune_parts", None) or {}
    left = {path: spec for path, spec in parts.items() if spec["part"] not in OURS}
    if left != parts:
        config.edgeprune_parts = left


def head_parameters(model: Any) -> list[nn.Parameter]:
    """Return the parameters that belong to a model's head alone."""
    backbone = {id(p) for p in layers_of(model).parameters()}
    return [
        p for name, p in model.named_parameters()
        if name.split(".")[0] in ROOTS and id(p) not in backbone
    ]  # fmt: skip


def renew_head(model: Any) -> None:
    """Initialize all weights of a head again, in place, as its family (or torch) does."""
    ours = [f"{path}." for path in serialization.parts_of(model)]
    for parameter in head_parameters(model):
        parameter._is_hf_initialized = False  # type: ignore[attr-defined]  # or it would stay
    for name, module in model.named_modules():
        if name.split(".")[0] not in ROOTS:
            continue
        if any(name.startswith(path) for path in ours) and hasattr(module, "reset_parameters"):
            module.reset_parameters()
        else:
            model._init_weights(module)
    if hasattr(model, "layer_weights"):  # equal weights in a weighted sum of hidden states
        nn.init.constant_(model.layer_weights, 1 / len(model.layer_weights))


def put_head(model: Any, kind: str, outputs: int) -> None:
    """Replace a model's own head by a new one, in place.

    Parameters
    ----------
    model : transformers.PreTrainedModel
        Model with a head: a classifier for ``mlp``, a CTC model for ``bilstm``.
    kind : str
        ``own`` (no change), ``mlp`` (on the last hidden state, even if the family's own head takes
        a weighted sum of all) or ``bilstm``.
    outputs : int
        Number of labels.

    Raises
    ------
    EdgepruneError
        The kind does not fit the family.

    """
    if kind == "own":
        return
    known = dict(model.named_modules())
    path = next((name for name in PLACES[kind] if name in known), "")
    if not path:
        raise EdgepruneError(
            f"teach.head = {kind!r} does not fit a {type(model).__name__}.",
            "Use teach.head = 'own'.",
        )
    first = getattr(model, "projector", None) if kind == "mlp" else None
    old = first if isinstance(first, nn.Linear) else model.get_submodule(path)
    inputs = next(m.in_features for m in old.modules() if isinstance(m, nn.Linear))
    if old is first:
        serialization.replace_module(
            model, "projector", serialization.make_part({"part": "through"})
        )
    size = {"units": MLP_UNITS} if kind == "mlp" else {"units": LSTM_UNITS, "layers": LSTM_LAYERS}
    spec = {"part": kind, "inputs": inputs, "outputs": outputs, **size}
    serialization.replace_module(model, path, serialization.make_part(spec))
    if getattr(model.config, "use_weighted_layer_sum", False):
        model.config.use_weighted_layer_sum = False
        del model.layer_weights
