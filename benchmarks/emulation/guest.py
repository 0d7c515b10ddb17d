"""Program on the emulated board: load a model on one thread, run it, mark every run.

    python3.11 guest.py MODEL RUNS [NAME=1x16000 ...]

After one run that is not counted (it packs weights and allocates), a mark is set before and after
each run. The last line of standard output is the sum of the outputs, to detect wrong results. Needs
numpy and one runtime; nothing of edgeprune.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import numpy as np

MARK = 1_000_000  # as in count.c
RATE = 16000  # the value of a whole number without a shape: some files ask for their rate


def main() -> None:
    """Run the model given on the command line."""
    path, runs = sys.argv[1], int(sys.argv[2])
    shapes = {
        name: tuple(int(size) for size in text.split("x"))
        for name, text in (given.split("=") for given in sys.argv[3:])
    }
    run = (open_tflite if path.endswith(".tflite") else open_onnx)(path, shapes)
    outputs = run()
    for number in range(runs):
        mark(2 * number)
        outputs = run()
        mark(2 * number + 1)
    print(float(sum(np.asarray(output, np.float64).sum() for output in outputs)))


def mark(number: int) -> None:
    """Make the plugin write its counters."""
    with contextlib.suppress(ProcessLookupError):  # there is no such process, and no need of one
        os.getpriority(os.PRIO_PROCESS, MARK + number)


def open_onnx(path: str, shapes: dict[str, tuple[int, ...]]) -> Callable[[], list[Any]]:
    """Load a file in ONNX Runtime; return a function that runs it once."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    kinds = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32}
    feed = {
        given.name: fill(shapes.get(given.name, given.shape), kinds[given.type])
        for given in session.get_inputs()
    }
    return lambda: list(session.run(None, feed))


def open_tflite(path: str, shapes: dict[str, tuple[int, ...]]) -> Callable[[], list[Any]]:
    """Load a file in LiteRT with its own shapes; return a function that runs it once."""
    from ai_edge_litert.interpreter import Interpreter

    if shapes:
        raise SystemExit("The shapes of a .tflite file are fixed; give none.")
    interpreter: Any = Interpreter(model_path=path, num_threads=1)
    interpreter.allocate_tensors()
    feed = {
        given["index"]: fill(given["shape"], given["dtype"])
        for given in interpreter.get_input_details()
    }
    outputs = [given["index"] for given in interpreter.get_output_details()]

    def run() -> list[Any]:
        for index, value in feed.items():
            interpreter.set_tensor(index, value)
        interpreter.invoke()
        return [interpreter.get_tensor(index) for index in outputs]

    return run


def fill(shape: Any, kind: Any) -> Any:
    """Make an input: noise of 0.1 for floats, else small integers; an open first axis is 1."""
    sizes = [1 if place == 0 and not isinstance(size, int | np.integer) else size
             for place, size in enumerate(shape)]  # fmt: skip
    if not all(isinstance(size, int | np.integer) for size in sizes):
        raise SystemExit(f"The shape {list(shape)} is open; give it as NAME=1x16000.")
    if not sizes and np.issubdtype(kind, np.integer):
        return np.array(RATE, kind)
    rng = np.random.default_rng(0)
    if np.issubdtype(kind, np.floating):
        return (0.1 * rng.standard_normal(sizes)).astype(kind)
    return rng.integers(-100, 100, sizes).astype(kind)


if __name__ == "__main__":
    main()
