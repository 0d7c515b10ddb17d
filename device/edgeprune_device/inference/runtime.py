"""Opens a bundle's model with its inference runtime, ONNX Runtime or LiteRT.

A runtime is imported when a bundle needs it; a runtime is never silently replaced by another one.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib import metadata
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bundle.adapters import adapted
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import FAILED_CHECK, NOT_INSTALLED, EdgepruneError
from edgeprune_device.inference.named_tensors import litert_call, onnx_call
from edgeprune_device.system.native_output import capture_native_output

Scorer = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Samples (window,) in [-1, 1] -> scores (labels,), of a ctc model (frames, labels)."""

TFLITE_RUNTIME = "tflite-runtime"  # 2.14 of 2023 is the last version: up to Python 3.11, numpy 1
LITERT_MODULES = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", TFLITE_RUNTIME),
)
INSTEAD = f"pip install ai-edge-litert in place of {TFLITE_RUNTIME}"


def open_model(bundle: Bundle, threads: int = 1) -> Scorer:
    """Open a bundle's model.

    Parameters
    ----------
    bundle : Bundle
        A bundle checked by ``read_bundle``.
    threads : int
        Number of threads of the runtime.

    Returns
    -------
    callable
        Samples (window,) -> scores of shape ``bundle.output_shape``, both float32.

    Raises
    ------
    EdgepruneError
        The runtime is not installed, or rejects the file.

    """
    if threads < 1:
        raise EdgepruneError(
            f"threads = {threads} is out of range (allowed: 1 or more).", "Use --threads 1."
        )
    return RUNTIMES[bundle.format](bundle, threads)


def check_golden(bundle: Bundle, run: Scorer) -> float:
    """Compare the model's scores of the golden inputs with those of the workstation.

    Parameters
    ----------
    bundle : Bundle
    run : callable
        The opened model.

    Returns
    -------
    float
        Largest difference of a score.

    Raises
    ------
    EdgepruneError
        The difference is over the tolerance, or not a number (status 1).

    """
    worst = 0.0
    for golden in bundle.golden:
        difference = float(np.abs(run(golden.samples) - golden.scores).max())
        if not difference <= golden.tolerance:
            raise EdgepruneError(
                f"The bundle {bundle.name} has other scores on this machine than where it was created: "
                f"a golden score is off by {difference:.3g} (allowed: {golden.tolerance:g}).",
                _remedy(bundle),
                FAILED_CHECK,
            )
        worst = max(worst, difference)
    return worst


def _remedy(bundle: Bundle) -> str:
    """Return the hint for different scores."""
    if runtime_name(bundle.format).startswith(TFLITE_RUNTIME):
        return f"{INSTEAD}: the bundle was created with it."
    return "Update the runtime, or create the bundle again for this processor."


def runtime_name(format: str) -> str:
    """Return the installed runtime of a format and its version, such as ``onnxruntime 1.31.1``."""
    packages = ["onnxruntime"] if format == "onnx" else [name for _, name in LITERT_MODULES]
    for package in packages:
        try:
            return f"{package} {metadata.version(package)}"
        except metadata.PackageNotFoundError:
            continue
    return f"{packages[0]} (not installed)"


def onnx_session(bundle: Bundle, threads: int, profile: str = "") -> Any:
    """Return ONNX Runtime's session of a bundle's file, with the options used everywhere.

    Parameters
    ----------
    bundle : Bundle
    threads : int
        Number of threads of the runtime.
    profile : str
        Path prefix of a profile of every kernel (the time is appended); empty: no profile.

    Raises
    ------
    EdgepruneError
        The runtime is not installed, or rejects the file.

    """
    try:
        import onnxruntime
    except ImportError:
        raise _missing("onnxruntime") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    options.add_session_config_entry(
        "session.intra_op.allow_spinning", "0"
    )  # do not waste processor time
    if profile:
        options.enable_profiling, options.profile_file_prefix = True, profile
    try:
        return onnxruntime.InferenceSession(
            bundle.model_bytes, options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:  # onnxruntime raises its own types, which share no other base
        raise _refused(bundle, error) from None


def _onnx(bundle: Bundle, threads: int) -> Scorer:
    return session_scorer(bundle, onnx_session(bundle, threads))


def session_scorer(bundle: Bundle, session: Any) -> Scorer:
    """Return the scorer of an ONNX Runtime session of a bundle's file.

    Raises
    ------
    EdgepruneError
        The inputs or outputs of the file differ from the manifest.

    """
    names = bundle.manifest["model"]
    if "adapter" in names:
        return adapted(names["adapter"], bundle.arrays, onnx_call(bundle, session))
    source, target = names["input"]["name"], [names["output"]["name"]]
    _check_shapes(bundle, session.get_inputs(), session.get_outputs())

    def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.asarray(session.run(target, {source: samples[None]})[0][0], dtype=np.float32)

    return run


def _check_shapes(bundle: Bundle, inputs: Any, outputs: Any) -> None:
    """Compare the file's inputs and outputs with the manifest."""
    model = bundle.manifest["model"]
    for role, found in (("input", inputs), ("output", outputs)):
        expected = (model[role]["name"], list(model[role]["shape"]), "tensor(float)")
        if [(x.name, list(x.shape), x.type) for x in found] != [expected]:
            raise EdgepruneError(
                f"The model of bundle {bundle.name} has another {role} than bundle.json describes.",
                "Create the bundle again.",
            )


def _litert(bundle: Bundle, threads: int) -> Scorer:
    interpreter_class, package = _interpreter_class()
    try:
        with capture_native_output():  # "INFO: Created TensorFlow Lite XNNPACK delegate for CPU."
            interpreter = interpreter_class(model_content=bundle.model_bytes, num_threads=threads)
            interpreter.allocate_tensors()
    except SystemError:  # raised by tflite-runtime for a numpy it was not built for
        raise EdgepruneError(
            f"{runtime_name('tflite')} does not run with numpy {np.__version__}.",
            f"{INSTEAD}, or pip install 'numpy<2'.", NOT_INSTALLED,
        ) from None  # fmt: skip
    except (ValueError, RuntimeError) as error:
        raise _refused(bundle, error) from None
    if package == TFLITE_RUNTIME:
        _check_scales(bundle, interpreter)
    if "adapter" in bundle.manifest["model"]:
        adapter = bundle.manifest["model"]["adapter"]
        return adapted(adapter, bundle.arrays, litert_call(bundle, interpreter))
    sources, targets = interpreter.get_input_details(), interpreter.get_output_details()
    found = [(tuple(x["shape"]), np.dtype(x["dtype"])) for x in [*sources, *targets]]
    shapes = [(1, bundle.window_samples), (1, *bundle.output_shape)]
    if found != [(shape, np.dtype(np.float32)) for shape in shapes]:
        raise EdgepruneError(
            f"The model of bundle {bundle.name} has other shapes or types than bundle.json describes.",
            "Create the bundle again.",
        )
    source, target = sources[0]["index"], targets[0]["index"]

    def run(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        interpreter.set_tensor(source, np.asarray(samples[None], dtype=np.float32))
        interpreter.invoke()
        return np.array(interpreter.get_tensor(target)[0], dtype=np.float32)

    return run


def _interpreter_class() -> tuple[Any, str]:
    """Return the interpreter of the first LiteRT that is installed, and its package."""
    for module, package in LITERT_MODULES:
        try:
            return importlib.import_module(module).Interpreter, package
        except ImportError:
            continue
    raise _missing("ai-edge-litert")


def _check_scales(bundle: Bundle, interpreter: Any) -> None:
    """Reject a file whose dynamic int8 matrix products tflite-runtime computes as the bias only.

    Version 2.14, its last one, reads one scale per matrix where the file has one per output. The
    golden outputs reveal it only if the scores change enough.
    """
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    for operator in interpreter._get_ops_details():  # it has no public name for them
        if operator["op_name"] != "FULLY_CONNECTED":
            continue
        heard, weights = (tensors.get(index) for index in operator["inputs"][:2])
        if (heard and weights and heard["dtype"] == np.float32 and weights["dtype"] == np.int8
                and len(weights["quantization_parameters"]["scales"]) > 1):  # fmt: skip
            raise EdgepruneError(
                f"{runtime_name('tflite')} would leave out matrix products of bundle {bundle.name}:"
                " it cannot read int8 weights with one scale per output.",
                f"{INSTEAD}, or create a bundle with weight-only int8 or with one scale per "
                "matrix.",
            )


def _missing(package: str) -> EdgepruneError:
    return EdgepruneError(
        f"This bundle needs {package}, which is not installed.", f"pip install {package}",
        NOT_INSTALLED,
    )  # fmt: skip


def _refused(bundle: Bundle, error: Exception) -> EdgepruneError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    made_for = bundle.manifest.get("requirements", {}).get("runtime", "another runtime")
    return EdgepruneError(
        f"{runtime_name(bundle.format)} rejects the model of bundle {bundle.name}: {reason}",
        f"It was created for {made_for}.",
    )


RUNTIMES: dict[str, Callable[[Bundle, int], Scorer]] = {"onnx": _onnx, "tflite": _litert}
