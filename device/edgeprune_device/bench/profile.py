"""Profiles the operators of a model file with the runtime's own profiler: ``bench --profile``.

ONNX Runtime writes a profile of every kernel it ran, after its own fusions. It runs in a child
process (``python -m edgeprune_device.bench.profile``, both ends are here), so that profiling slows
nothing else down, and its file is deleted with its folder. LiteRT's Python interface has no
profiler (ai-edge-litert 2.3: the interpreter's option for profiling delegated operators needs one
that only C or C++ can attach, and the compiled model offers none), which the result reports.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edgeprune_device.bench.worker_client import HUNG_SECONDS, NOISE_LEVEL, ask_child, variant_of
from edgeprune_device.bundle.reader import Bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference.named_tensors import runs_per_window
from edgeprune_device.inference.runtime import onnx_session, session_scorer

WARM_WINDOWS = 3
WINDOWS = 20
SLOWEST = 10
"""Number of nodes listed one by one."""
US_PER_MS = 1000.0
BRANCHES = ("If", "Loop", "Scan")  # the operators inside them are listed separately
KERNEL = "_kernel_time"
"""Suffix of the name of a kernel's event in ONNX Runtime."""


def operators_of(path: Path, entry: Mapping[str, Any], threads: int) -> dict[str, Any]:
    """Measure the time of each operator of one model file of a bundle.

    Parameters
    ----------
    path : Path
        The bundle.
    entry : mapping
        Description of the model file by ``bench``: ``format``, ``runtime``, ``digest``, ``file``.
    threads : int
        Number of threads of the runtime.

    Returns
    -------
    dict
        ``windows`` and ``ms`` per window (sum of the kernels), ``types`` (``type``, ``nodes``,
        ``ms``, ``share``) and the ten ``slowest`` nodes (``node``, ``type``, ``ms``, ``share``),
        each in descending order of time; or ``missing``, a sentence with the reason.

    Raises
    ------
    EdgepruneError
        The profiling process fails (status 1).

    """
    if entry["format"] != "onnx":
        return {"missing": f"{entry['runtime']} has no operator profiler for Python, so "
                           f"{entry['file']} was not profiled."}  # fmt: skip
    return ask_child("edgeprune_device.bench.profile", path, entry["digest"], threads, HUNG_SECONDS,
                     ["--file", entry["file"]])  # fmt: skip


def summary_of(
    events: Sequence[Mapping[str, Any]], warm: int = WARM_WINDOWS, runs: int = 1
) -> dict[str, Any]:
    """Summarise ONNX Runtime's profile, as in ``operators_of``.

    A node's time is the median over windows of its kernel's time per window.

    Parameters
    ----------
    events : sequence of mapping
        Events of the profile, in order: a window's kernels (``dur`` in microseconds) and then its
        ``model_run``.
    warm : int
        Number of windows at the beginning that do not count.
    runs : int
        Runs of the file per window.

    """
    done = 0
    windows: list[dict[tuple[str, str], float]] = [{}]
    for event in events:
        name = str(event["name"])
        if event["cat"] == "Node" and name.endswith(KERNEL):
            if event["args"]["op_name"] in BRANCHES:
                continue
            node = (name.removesuffix(KERNEL), str(event["args"]["op_name"]))
            windows[-1][node] = windows[-1].get(node, 0.0) + event["dur"] / US_PER_MS
        elif name == "model_run":
            done += 1
            if done % runs == 0:
                windows.append({})
    counted = windows[warm:-1]
    nodes = {node for window in counted for node in window}
    times = {node: float(np.median([w.get(node, 0.0) for w in counted])) for node in nodes}
    total = sum(times.values())
    share = {node: ms / total if total else 0.0 for node, ms in times.items()}
    types = [
        {"type": kind, "nodes": sum(k == kind for _, k in times),
         "ms": sum(ms for (_, k), ms in times.items() if k == kind),
         "share": sum(part for (_, k), part in share.items() if k == kind)}
        for kind in sorted({kind for _, kind in times})
    ]  # fmt: skip
    types.sort(key=lambda row: -float(row["ms"]))
    ordered = sorted(times.items(), key=lambda item: (-item[1], item[0]))
    slowest = [
        {"node": node, "type": kind, "ms": ms, "share": share[node, kind]}
        for (node, kind), ms in ordered[:SLOWEST]
    ]
    return {"windows": len(counted), "ms": total, "types": types, "slowest": slowest}


def profile(bundle: Bundle, threads: int, windows: int = WINDOWS) -> list[dict[str, Any]]:
    """Run windows of noise through an ONNX file and return the events of the profile.

    Raises
    ------
    EdgepruneError
        The runtime is not installed, or rejects the file.

    """
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        session = onnx_session(bundle, threads, profile=str(Path(folder) / "profile"))
        run = session_scorer(bundle, session)
        for _ in range(WARM_WINDOWS + windows):
            noise: NDArray[np.float32] = rng.standard_normal(bundle.window_samples, np.float32)
            run(noise * np.float32(NOISE_LEVEL))
        text = Path(session.end_profiling()).read_text("utf-8")
    events: list[dict[str, Any]] = json.loads(text)
    return events


def main(arguments: list[str] | None = None) -> int:
    """Profile the model in the arguments and write one line of JSON; return the exit status."""
    parser = argparse.ArgumentParser(prog="edgeprune_device.bench.profile")
    parser.add_argument("path", type=Path)
    parser.add_argument("--digest", required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--file", required=True)
    given = parser.parse_args(arguments)
    try:
        bundle = variant_of(given.path, given.digest, given.file)
        events = profile(bundle, given.threads)
    except EdgepruneError as error:
        sys.stderr.write(f"{error}\n")
        return FAILED_CHECK
    sys.stdout.write(json.dumps(summary_of(events, runs=runs_per_window(bundle))) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
