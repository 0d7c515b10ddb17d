"""Adapters between the recorder's input and output and a third-party model.

The recorder passes every model samples (window,) and expects scores (labels,). A third-party model
may need another shape, integers, a spectrogram, constant inputs, or a state that is passed from one
short frame to the next. The entry ``adapter`` of the manifest's model describes this:

    input, output   name, shape and dtype of the model's tensor; scale and zero_point of int8
    constants       inputs that never change: name, dtype, shape, value
    state           pairs of an input and the output that is its next value, initially zero
    frames          the window is processed in frames of ``samples``, each preceded by ``context``
                    samples of the previous one; the scores of the first ``run_in`` frames are
                    ignored, the maximum over the others is the score of the window
    frontend        see ``spectrogram``
    then            softmax or sigmoid if the model returns logits

The state is reset for every window, so that a window's scores depend on nothing else: windows may
overlap, be skipped or follow a gap.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.spectrogram import (
    SpectrogramFeatures,
    arrays_problem,
    compute,
    features_of,
)

Call = Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]]
"""Runs the model once: inputs by name -> outputs by name."""
Array = NDArray[np.float32]

DTYPES = ("float32", "int8", "uint8", "int16", "int32", "int64", "bool")
SOUNDS = ("float32", "int8", "uint8", "int16")
THEN = ("", "softmax", "sigmoid")
KEYS = {"input", "output", "constants", "state", "frames", "frontend", "then"}
MOST_NUMBERS = 1 << 27
ARRAYS = ("window", "bands", "cosines")
ARRAY_NAME = re.compile(r"frontend/[a-z]+\.npy")


def adapter_files(model: Mapping[str, Any]) -> list[str]:
    """Return the names of the array files that a model's front end needs."""
    frontend = model.get("adapter", {}).get("frontend", {})
    return [str(frontend[key]) for key in ARRAYS if frontend.get(key)]


def adapter_problem(model: Mapping[str, Any], window: int, labels: int) -> str:
    """Return the first problem of a model's adapter; empty if there is none, or no adapter.

    Raises
    ------
    KeyError, TypeError, ValueError, AttributeError
        An entry is missing or has the wrong type.

    """
    if "adapter" not in model:
        return ""
    adapter = model["adapter"]
    if unknown := sorted(set(adapter) - KEYS):
        return f"its adapter has the unknown key {unknown[0]!r}"
    for side in ("input", "output"):
        tensor = adapter[side]
        if not _is_tensor(tensor, SOUNDS):
            return f"the {side} of its adapter has an invalid name, shape, dtype or scale"
    if adapter.get("then", "") not in THEN:
        return f"the activation of its adapter, {adapter['then']!r}, is not known"
    if not all(_is_tensor(held, DTYPES) and math.isfinite(held["value"])
               for held in adapter.get("constants", [])):  # fmt: skip
        return "a constant of its adapter has an invalid name, shape, dtype or value"
    if not all(_is_tensor({**held, "name": held["input"], "dtype": "float32"}, DTYPES)
               and isinstance(held["output"], str) for held in adapter.get("state", [])):  # fmt: skip
        return "a state of its adapter has an invalid input, output or shape"
    if math.prod(adapter["output"]["shape"]) != labels:
        return (
            f"it has {labels} labels, but its model returns the shape {adapter['output']['shape']}"
        )
    return _sound_problem(adapter, window)


def adapted(
    adapter: Mapping[str, Any], arrays: Mapping[str, Array], call: Call
) -> Callable[[Array], Array]:
    """Return the model as the recorder calls it: samples (window,) -> scores (labels,).

    Parameters
    ----------
    adapter : mapping
        Adapter that ``adapter_problem`` accepted.
    arrays : mapping
        Arrays of its front end by their names in the bundle.
    call : callable
        Runs the model once.

    Returns
    -------
    callable
        Float32 samples (window,) -> float32 scores (labels,).

    """
    source, target = adapter["input"], adapter["output"]
    frames, states = adapter.get("frames"), adapter.get("state", [])
    features = features_of(adapter["frontend"]) if "frontend" in adapter else None
    constants = {
        held["name"]: np.full(held["shape"], held["value"], held["dtype"])
        for held in adapter.get("constants", [])
    }
    then = adapter.get("then", "")

    def run(samples: Array) -> Array:
        state = {held["input"]: np.zeros(held["shape"], np.float32) for held in states}
        scores: list[Array] = []
        for number, frame in enumerate(_frames(samples, frames)):
            taken = frame if features is None else compute(frame, features, arrays)
            given = quantized(taken, source).reshape(source["shape"])
            answers = call({source["name"]: given, **constants, **state})
            state = {held["input"]: answers[held["output"]] for held in states}
            if frames is None or number >= frames["run_in"]:
                scores.append(_then(dequantized(answers[target["name"]].ravel(), target), then))
        return np.asarray(np.max(scores, axis=0), dtype=np.float32)

    return run


def input_specs(adapter: Mapping[str, Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return name -> (dtype, shape) of every input that the model must have."""
    held = [adapter["input"], *adapter.get("constants", [])]
    given = {str(x["name"]): (str(x["dtype"]), tuple(x["shape"])) for x in held}
    return given | {
        str(x["input"]): ("float32", tuple(x["shape"])) for x in adapter.get("state", [])
    }


def output_names(adapter: Mapping[str, Any]) -> list[str]:
    """Return the names of the model's outputs that are needed."""
    return [adapter["output"]["name"], *(held["output"] for held in adapter.get("state", []))]


def quantized(values: Array, tensor: Mapping[str, Any]) -> NDArray[Any]:
    """Quantize values to a tensor's dtype: rounded to its scale and clipped to its range."""
    dtype = np.dtype(tensor["dtype"])
    if dtype == np.float32:
        return np.asarray(values, dtype=np.float32)
    steps = np.rint(np.asarray(values, np.float64) / tensor["scale"]) + tensor["zero_point"]
    bounds = np.iinfo(dtype)
    return np.asarray(np.clip(steps, bounds.min, bounds.max).astype(dtype))


def dequantized(values: NDArray[Any], tensor: Mapping[str, Any]) -> Array:
    """Dequantize a tensor's values to float32."""
    if values.dtype == np.float32:
        return np.asarray(values, dtype=np.float32)
    return np.asarray(
        (values.astype(np.float64) - tensor["zero_point"]) * tensor["scale"], dtype=np.float32
    )


def frontend_problem(model: Mapping[str, Any], arrays: Mapping[str, Array], window: int) -> str:
    """Return how a front end's arrays do not fit; empty if they fit, or there is no front end."""
    adapter = model.get("adapter", {})
    if "frontend" not in adapter:
        return ""
    features: SpectrogramFeatures = features_of(adapter["frontend"])
    return arrays_problem(features, arrays, window, math.prod(adapter["input"]["shape"]))


def _sound_problem(adapter: Mapping[str, Any], window: int) -> str:
    """Return how window, frames, front end and the model's input do not fit one another."""
    taken = math.prod(adapter["input"]["shape"])
    if "frontend" in adapter:
        features = features_of(adapter["frontend"])
        names = [name for key in ARRAYS if (name := getattr(features, key))]
        if not all(ARRAY_NAME.fullmatch(name) for name in names) or "frames" in adapter:
            return "the front end of its adapter has invalid array names or is combined with frames"
        return ""
    if "frames" not in adapter:
        if adapter.get("state"):
            return "its adapter has a state but no frames"
        return (
            ""
            if taken == window
            else f"its window is {window} samples, but its model expects {taken}"
        )
    samples, context, run_in = (adapter["frames"][key] for key in ("samples", "context", "run_in"))
    count = window // samples if samples > 0 else 0
    if (not all(type(x) is int for x in (samples, context, run_in))
            or not 0 <= context <= samples or samples + context != taken
            or count * samples != window or not 0 <= run_in < count):  # fmt: skip
        return f"its frames of {samples} + {context} samples do not fit its window or its model"
    return ""


def _is_tensor(tensor: Mapping[str, Any], dtypes: tuple[str, ...]) -> bool:
    shape, dtype = tensor["shape"], tensor["dtype"]
    sizes = all(type(size) is int and 0 < size < 2**31 for size in shape)  # True is not a size
    if not tensor["name"] or not isinstance(tensor["name"], str) or dtype not in dtypes:
        return False
    if not isinstance(shape, list) or not sizes or math.prod(shape) > MOST_NUMBERS:
        return False
    if dtype == "float32" or "value" in tensor:
        return True
    return bool(math.isfinite(tensor["scale"]) and tensor["scale"] > 0
                and type(tensor["zero_point"]) is int)  # fmt: skip


def _frames(samples: Array, frames: Mapping[str, int] | None) -> list[Array]:
    if frames is None:
        return [samples]
    size, context = frames["samples"], frames["context"]
    padded = np.concatenate([np.zeros(context, np.float32), samples])
    return [padded[first : first + context + size] for first in range(0, len(samples), size)]


def _then(values: Array, name: str) -> Array:
    if name == "softmax":
        powers = np.exp(values - values.max())
        return np.asarray(powers / powers.sum(), dtype=np.float32)
    if name == "sigmoid":
        return np.asarray(np.exp(-np.logaddexp(0, -values)), dtype=np.float32)
    return values
