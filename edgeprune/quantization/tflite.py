"""Quantization of TFLite files by ai-edge-quantizer, which comes with ``edgeprune[tflite]``.

A quantization recipe is a list of rules (scope, operators, method); the last rule that matches an
operator applies. The scope is a regular expression on the names of the operator's outputs, which
contain the module path (``module_scopes``). Dynamically quantized fully connected layers have one
scale per row of their input, so that ``row_scopes`` need no rule of their own there.
"""

from __future__ import annotations

import importlib
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune.quantization.activation_ranges import CHOICE, check_choice, checked, ranges_of
from edgeprune.quantization.module_scopes import Scopes, tflite_pattern
from edgeprune_device.errors import NOT_INSTALLED, EdgepruneError
from edgeprune_device.system.native_output import capture_native_output

EVERYWHERE = ".*"
CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")
PRODUCTS = ("FULLY_CONNECTED", *CONVOLUTIONS)

Clips = NDArray[np.float32]


def dynamic(data: bytes, scopes: Scopes, clips: Clips) -> bytes:
    """Quantize products to int8 weights per channel, with activations quantized at run time.

    Parameters
    ----------
    data : bytes
        float32 TFLite file.
    scopes : Scopes
        Products of ``float_scopes`` stay in float.
    clips : array
        Not used.

    Raises
    ------
    EdgepruneError
        ai-edge-quantizer is not installed (status 3).

    """
    recipe = _Recipe(data)
    recipe.dynamic(EVERYWHERE, PRODUCTS, 8)
    return recipe.made(scopes)


def weights(data: bytes, scopes: Scopes, clips: Clips) -> bytes:
    """Store the weights of products in 8 bits per channel; computation is in float.

    Parameters and exceptions as in ``dynamic``.
    """
    recipe = _Recipe(data)
    recipe.stored(EVERYWHERE, PRODUCTS, 8)
    return recipe.made(scopes)


def weights4(data: bytes, scopes: Scopes, clips: Clips) -> bytes:
    """Quantize fully connected layers to 4-bit and convolutions to 8-bit weights, dynamically.

    Parameters and exceptions as in ``dynamic``.
    """
    recipe = _Recipe(data)
    recipe.dynamic(EVERYWHERE, ("FULLY_CONNECTED",), 4)
    recipe.dynamic(EVERYWHERE, CONVOLUTIONS, 8)
    return recipe.made(scopes)


def half(data: bytes, scopes: Scopes, clips: Clips) -> bytes:
    """Store the weights of products in half precision; computation is in float.

    Parameters and exceptions as in ``dynamic``.
    """
    recipe = _Recipe(data)
    recipe.halved(EVERYWHERE, PRODUCTS)
    return recipe.made(scopes)


def static(data: bytes, scopes: Scopes, clips: Clips, calibrate: str = CHOICE) -> bytes:
    """Quantize products to int8, with fixed ranges of their inputs and outputs.

    Operators between products stay in float: all in integers (including norms, GELU, softmax and
    sums) keeps 57 % of a wav2vec 2.0 classifier's decisions, products alone keep 100 %.

    Parameters
    ----------
    data : bytes
        float32 TFLite file.
    scopes : Scopes
        Products of ``row_scopes`` are quantized as by ``dynamic``.
    clips : array of float32, (n, window)
        Calibration windows, -1 to 1.
    calibrate : str
        How ranges are chosen: a key of ``clipping_ranges.METHODS``.

    Raises
    ------
    EdgepruneError
        ai-edge-quantizer is not installed (status 3), or the clips are not usable
        (``activation_ranges.checked``).

    """
    check_choice(calibrate)
    recipe = _Recipe(data)
    recipe.static(EVERYWHERE, PRODUCTS)
    for scope in scopes.row_scopes:
        recipe.untouched(tflite_pattern(scope))
        recipe.dynamic(tflite_pattern(scope), PRODUCTS, 8)
    sizes = _activations(data)
    known = ranges_of(heard(data, clips), calibrate)
    return recipe.made(scopes, {
        name: {"min": _range_end(r.low, sizes[name]), "max": _range_end(r.high, sizes[name])}
        for name, r in known.items()
    })  # fmt: skip


def heard(data: bytes, clips: Clips) -> Iterator[dict[str, Clips]]:
    """Yield the inputs and outputs of products in a TFLite file, clip by clip.

    Parameters
    ----------
    data : bytes
        TFLite file.
    clips : array of float32, (n, window)
        Calibration windows, which are checked first.

    """
    litert = _module("ai_edge_litert.interpreter")
    with capture_native_output(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that keeping all activations takes memory
        interpreter = litert.Interpreter(
            model_content=data, num_threads=1, experimental_preserve_all_tensors=True,
            experimental_op_resolver_type=litert.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        )  # fmt: skip
        interpreter.allocate_tensors()
    source = interpreter.get_input_details()[0]
    names = set(_activations(data))
    places = {x["name"]: x["index"] for x in interpreter.get_tensor_details() if x["name"] in names}
    for clip in checked(clips, int(source["shape"][1])):
        interpreter.set_tensor(source["index"], clip[None])
        interpreter.invoke()
        yield {name: interpreter.get_tensor(place) for name, place in places.items()}


class _Recipe:
    """A quantization recipe under construction, and the file it is for."""

    def __init__(self, data: bytes) -> None:
        with capture_native_output():
            self.types = _module("ai_edge_quantizer.qtyping")
            self.algorithms = _module("ai_edge_quantizer.algorithm_manager").AlgorithmName
            self.quantizer = _module("ai_edge_quantizer.quantizer").Quantizer(float_model=data)

    def dynamic(self, where: str, operators: tuple[str, ...], bits: int) -> None:
        for name in self._names(operators):
            self.quantizer.add_dynamic_config(where, name, bits)

    def stored(self, where: str, operators: tuple[str, ...], bits: int) -> None:
        for name in self._names(operators):
            self.quantizer.add_weight_only_config(where, name, bits)

    def halved(self, where: str, operators: tuple[str, ...]) -> None:
        for name in self._names(operators):
            self.quantizer.add_weight_only_config(
                where, name, 16, algorithm_key=self.algorithms.FLOAT_CASTING
            )

    def static(self, where: str, operators: tuple[str, ...]) -> None:
        for name in self._names(operators):
            self.quantizer.add_static_config(where, name, activation_num_bits=8, weight_num_bits=8)

    def untouched(self, where: str) -> None:
        self.quantizer.update_quantization_recipe(
            where, self.types.TFLOperationName.ALL_SUPPORTED,
            algorithm_key=self.algorithms.NO_QUANTIZE,
        )  # fmt: skip

    def made(self, scopes: Scopes, known: dict[str, Any] | None = None) -> bytes:
        """Return the file quantized by this recipe, with the float scopes left unchanged."""
        for scope in scopes.float_scopes:
            self.untouched(tflite_pattern(scope))
        with capture_native_output(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in ``heard``, from the quantizer's interpreter
            made = self.quantizer.quantize(
                known, enable_progress_bar=False, enable_progress_report=False
            )
        return bytes(made.quantized_model)

    def _names(self, operators: tuple[str, ...]) -> list[Any]:
        return [getattr(self.types.TFLOperationName, name) for name in operators]


def _activations(data: bytes) -> dict[str, int]:
    """Return the names of the inputs and outputs of products, and their number of axes."""
    schema = _module("ai_edge_litert.schema_py_generated")
    model = schema.ModelT.InitFromPackedBuf(data, 0)
    graph, codes = model.subgraphs[0], model.operatorCodes
    wanted = {getattr(schema.BuiltinOperator, name) for name in PRODUCTS}
    made = {*graph.inputs, *(index for node in graph.operators for index in node.outputs)}
    near = {
        index for node in graph.operators if codes[node.opcodeIndex].builtinCode in wanted
        for index in (node.inputs[0], *node.outputs) if index in made
    }  # fmt: skip
    tensors = [graph.tensors[index] for index in sorted(near)]
    return {x.name.decode(): len(x.shape) if x.shape is not None else 0 for x in tensors}


def _range_end(value: float, axes: int) -> NDArray[np.float32]:
    """Return one end of a range in the quantizer's format, with the activation's axes."""
    return np.full((1,) * axes, value, np.float32)


def _module(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise EdgepruneError(
            "Quantized TFLite files need ai-edge-quantizer, which is not installed.",
            "pip install 'edgeprune[tflite]'", NOT_INSTALLED,
        ) from None  # fmt: skip
