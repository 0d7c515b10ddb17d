"""Runs third-party models by the names of their tensors, after comparing these with the bundle.

``adapters`` does the rest. The file's shapes, types and quantization are compared with the adapter
here, so that a bundle whose manifest and model disagree is rejected before it scores anything.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.adapters import Call, input_specs, output_names
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import EdgepruneError

ONNX_TYPES = {"float": "float32"}  # the others have numpy's names


def onnx_call(bundle: Bundle, session: Any) -> Call:
    """Return a function that runs a third-party ONNX file once; open sizes in it fit any size.

    Parameters
    ----------
    bundle : Bundle
        A bundle whose model has an adapter.
    session : onnxruntime.InferenceSession

    Raises
    ------
    EdgepruneError
        The inputs, outputs, shapes or types of the file differ from the adapter.

    """
    adapter = bundle.manifest["model"]["adapter"]
    wanted, targets = input_specs(adapter), output_names(adapter)
    found = {}
    for given in session.get_inputs():
        kind = str(given.type).removeprefix("tensor(").removesuffix(")")
        found[given.name] = (ONNX_TYPES.get(kind, kind), list(given.shape))
    known = {output.name for output in session.get_outputs()}
    if (set(found) != set(wanted) or not set(targets) <= known
            or any(found[name][0] != dtype or not _fits(found[name][1], shape)
                   for name, (dtype, shape) in wanted.items())):  # fmt: skip
        raise _other_tensors(bundle)

    def call(feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            return dict(zip(targets, session.run(targets, feeds), strict=True))
        except Exception as error:  # onnxruntime raises its own types, which share no other base
            raise _failed(bundle, error) from None

    return call


def runs_per_window(bundle: Bundle) -> int:
    """Return how often the file is run per window: once, or once per frame."""
    frames = bundle.manifest["model"].get("adapter", {}).get("frames")
    return bundle.window_samples // int(frames["samples"]) if frames else 1


def _fits(shape: list[Any], wanted: tuple[int, ...]) -> bool:
    return len(shape) == len(wanted) and all(
        not isinstance(size, int) or size == want for size, want in zip(shape, wanted, strict=True)
    )


def litert_call(bundle: Bundle, interpreter: Any) -> Call:
    """Return a function that runs a third-party TFLite file once.

    Parameters
    ----------
    bundle : Bundle
        A bundle whose model has an adapter.
    interpreter : Interpreter
        With its tensors allocated.

    Raises
    ------
    EdgepruneError
        The inputs, outputs, shapes, types or quantization of the file differ from the adapter.

    """
    adapter = bundle.manifest["model"]["adapter"]
    wanted, targets = input_specs(adapter), output_names(adapter)
    inputs, outputs = (
        {tensor["name"]: tensor for tensor in tensors}
        for tensors in (interpreter.get_input_details(), interpreter.get_output_details())
    )
    found = {name: (np.dtype(x["dtype"]).name, tuple(int(size) for size in x["shape"]))
             for name, x in inputs.items()}  # fmt: skip
    if found != wanted or not set(targets) <= set(outputs):
        raise _other_tensors(bundle)
    for side, tensors in (("input", inputs), ("output", outputs)):
        tensor = adapter[side]
        own = tensors[tensor["name"]]
        steps = (tensor.get("scale", 0.0), tensor.get("zero_point", 0))
        if np.dtype(own["dtype"]).name != tensor["dtype"] or tuple(own["quantization"]) != steps:
            raise _other_tensors(bundle)

    def call(feeds: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
        try:
            for name, value in feeds.items():
                interpreter.set_tensor(inputs[name]["index"], value)
            interpreter.invoke()
        except (ValueError, RuntimeError) as error:
            raise _failed(bundle, error) from None
        return {name: np.array(interpreter.get_tensor(outputs[name]["index"])) for name in targets}

    return call


def _other_tensors(bundle: Bundle) -> EdgepruneError:
    return EdgepruneError(
        f"The model of bundle {bundle.name} has other inputs or outputs than its adapter.",
        "Create the bundle again.",
    )


def _failed(bundle: Bundle, error: Exception) -> EdgepruneError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    return EdgepruneError(
        f"The model of bundle {bundle.name} cannot be run with its adapter: {reason}",
        "Create the bundle again.",
    )
