"""Saving and loading models that differ from what their family's config builds.

``record_changes`` writes into a model's config in what it differs from a fresh model of that config (other
widths, replaced parts), and ``load_edited`` builds the model from there::

    edgeprune_parts    {module path: {"part": name in PARTS, ...arguments}}
    edgeprune_sizes    {module path: {attribute: integer(s)}}    num_heads, in_features, ...
    edgeprune_shapes   {tensor name: shape}

so that a trimmed model is an ordinary ``save_pretrained`` folder. The record describes the model as
it is, not how it was made: layers can be removed, trimmed and replaced in any order.
"""

from __future__ import annotations

import copy
import importlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn

from edgeprune.models.bridges import NAME as BRIDGE
from edgeprune.models.bridges import attach_empty
from edgeprune_device.errors import EdgepruneError

PARTS: dict[str, str] = {
    "gated-attention": "edgeprune.models.wavlm_attention:GatedAttention",
    "mlp": "edgeprune.nn.heads:MlpHead",
    "bilstm": "edgeprune.nn.heads:BiLstmHead",
    "through": "edgeprune.nn.heads:IdentityProjection",
    "mimic": "edgeprune.nn.mimic:Mimic",
    "light-features": "edgeprune.nn.light_encoders:LightFeatures",
    "narrow-features": "edgeprune.nn.light_encoders:NarrowFeatures",
    "light-frontend": "edgeprune.nn.light_encoders:LightFrontend",
    "no-positions": "edgeprune.nn.mimic:NoPositions",
}
"""Part -> "module:class". Its arguments and its name are plain values in ``module.spec``."""
RECORDS = ("edgeprune_parts", "edgeprune_sizes", "edgeprune_shapes")


def make_part(spec: Mapping[str, Any]) -> nn.Module:
    """Build one of edgeprune's own modules from its specification, with random weights.

    Raises
    ------
    EdgepruneError
        The part is not known.

    """
    arguments = dict(spec)
    name = arguments.pop("part")
    if name not in PARTS:
        raise EdgepruneError(
            f"The model has a part {name!r}, which is not known to this version of edgeprune.",
            "Install the version of edgeprune that made it.",
        )
    module, _, kind = PARTS[name].partition(":")
    made: nn.Module = getattr(importlib.import_module(module), kind)(**arguments)
    made.spec = dict(spec)  # type: ignore[assignment]
    return made


def replace_module(model: nn.Module, path: str, module: nn.Module) -> None:
    """Replace the module at a dotted path from the model."""
    parent, _, name = path.rpartition(".")
    setattr(model.get_submodule(parent), name, module)


def part_spec(part: nn.Module) -> dict[str, Any]:
    """Return the specification that one of edgeprune's own modules was made from."""
    spec: Any = part.spec
    return dict(spec)


def parts_of(model: nn.Module) -> dict[str, nn.Module]:
    """Return edgeprune's own modules by path, without those inside another one."""
    found: dict[str, nn.Module] = {}
    for path, module in model.named_modules():
        if hasattr(module, "spec") and not any(path.startswith(f"{p}.") for p in found):
            found[path] = module
    return found


def record_changes(model: Any) -> None:
    """Record in a model's config what its family's class would not build from it."""
    for name in RECORDS:
        if hasattr(model.config, name):
            delattr(model.config, name)
    parts = {path: part_spec(part) for path, part in parts_of(model).items()}
    if parts:
        model.config.edgeprune_parts = parts
    fresh = _fresh(model)
    usual = dict(fresh.named_modules())
    sizes = {
        path: changed for path, module in model.named_modules()
        if path in usual and (changed := _changed(module, usual[path]))
    }  # fmt: skip
    shapes = {name: list(tensor.shape) for name, tensor in fresh.state_dict().items()}
    other = {
        name: list(tensor.shape) for name, tensor in model.state_dict().items()
        if shapes.get(name) != list(tensor.shape)
    }  # fmt: skip
    if unknown := sorted(set(model.state_dict()) - set(shapes)):
        raise ValueError(f"{unknown[0]} belongs to no part known in a config")
    if sizes:
        model.config.edgeprune_sizes = sizes
    if other:
        model.config.edgeprune_shapes = other


def is_modified(config: Any) -> bool:
    """Return whether a config describes more than its family's class builds."""
    return any(getattr(config, name, None) for name in (*RECORDS, "edgeprune_bridges"))


def load_edited(kind: Any, source: str, config: Any, **options: Any) -> Any:
    """Load a folder that ``record_changes`` described.

    Parameters
    ----------
    kind : type
        transformers class.
    source : str
        Folder or hub id.
    config : PreTrainedConfig
        Config with the records.
    options
        Arguments of ``from_pretrained``.

    Raises
    ------
    EdgepruneError
        The weights lack a part that the config describes.

    """

    def __init__(self: Any, config: Any, *inputs: Any, **kwargs: Any) -> None:
        super(as_it_was, self).__init__(config, *inputs, **kwargs)
        _rebuild(self, config)

    as_it_was: Any = type(
        kind.__name__, (kind,), {"__init__": __init__, "__module__": kind.__module__}
    )
    model, found = as_it_was.from_pretrained(
        source, config=config, output_loading_info=True, **options
    )
    model.__class__ = kind
    ours = [f"{path}." for path in parts_of(model)]
    lacking = [
        name for name in sorted(found["missing_keys"])
        if f".{BRIDGE}." in name or any(name.startswith(path) for path in ours)
    ]  # fmt: skip
    if lacking:
        raise EdgepruneError(
            f"The weights of {source} lack {lacking[0]}, which config.json describes.",
            "Copy the folder again, as edgeprune saved it.",
        )
    return model


def _rebuild(model: Any, config: Any) -> None:
    """Give a fresh model the parts and sizes that its config records."""
    for path, spec in (getattr(config, "edgeprune_parts", None) or {}).items():
        replace_module(model, path, make_part(spec))
    if places := getattr(config, "edgeprune_bridges", None):
        attach_empty(model, places)
    for path, sizes in (getattr(config, "edgeprune_sizes", None) or {}).items():
        module = model.get_submodule(path)
        for name, value in sizes.items():
            setattr(module, name, tuple(value) if isinstance(value, list) else value)
    for name, shape in (getattr(config, "edgeprune_shapes", None) or {}).items():
        path, _, leaf = name.rpartition(".")
        holder = model.get_submodule(path)
        tensor = getattr(holder, leaf)
        empty = torch.empty(shape, dtype=tensor.dtype, device=tensor.device)
        if isinstance(tensor, nn.Parameter):
            holder._parameters[leaf] = nn.Parameter(empty)
        else:
            holder._buffers[leaf] = empty


def _fresh(model: Any) -> nn.Module:
    """Build what the model's class makes of its config and parts, on the meta device."""
    config = copy.deepcopy(model.config)
    for name in ("edgeprune_sizes", "edgeprune_shapes"):
        if hasattr(config, name):
            delattr(config, name)
    with torch.device("meta"):
        fresh: nn.Module = type(model)(config)
        _rebuild(fresh, config)
    return fresh


def _changed(module: nn.Module, usual: nn.Module) -> dict[str, Any]:
    """Return a module's integer attributes that differ from those of the unmodified module."""
    theirs = dict(_numbers(usual))
    return {
        name: list(value) if isinstance(value, tuple) else value
        for name, value in _numbers(module) if name in theirs and theirs[name] != value
    }  # fmt: skip


def _numbers(module: nn.Module) -> Iterator[tuple[str, Any]]:
    for name, value in vars(module).items():
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not name.startswith("_") and (
            whole or (isinstance(value, tuple) and all(isinstance(x, int) for x in value))
        ):
            yield name, value
