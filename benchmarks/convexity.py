"""Graph convexity compared with nnconvexity 0.1.1 (PyPI): equality of the values, and time.

    python benchmarks/convexity.py -o benchmarks/results

Seeded Gaussian clusters in 768 dimensions. The reference runs in a temporary virtual environment,
edgeprune in the current one; each measurement is a new process on one thread that reads the same
arrays and measures the CPU seconds of the call alone. The reference samples 5,000 pairs of larger
classes; edgeprune uses all pairs. Then 10,000 points, edgeprune alone on two threads.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edgeprune.core.tables import table, to_markdown
from edgeprune_device.system.machine import machine_facts

SIZES = ((350, 35), (1000, 10), (1750, 35))  # points, classes
LARGE = (10_000, 2)
DIMENSIONS, SPREAD = 768, 0.2  # of the centres, beside clips that spread by 1
REFERENCE_NEEDS = ("numpy", "scipy", "pandas", "joblib", "python-igraph")  # PyTorch it does not

READ = """
import json, resource, sys, time
import numpy as np
arrays = np.load(sys.argv[1])
points, labels = arrays["points"], arrays["labels"]

def timed(work):
    wall, cpu = time.perf_counter(), time.process_time()
    found = work()
    return found, {"cpu_s": time.process_time() - cpu, "wall_s": time.perf_counter() - wall}

def tell(facts):
    facts["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps(facts))
"""

REFERENCE = """
from nnconvexity.graph import compute_graph_convexity
np.random.seed(0)
(pooled, classes), spent = timed(lambda: compute_graph_convexity(points, labels))
tell({"pooled": pooled, "per_class": {str(c): float(v) for c, v in classes.items()}, **spent})
"""

SCORE = """
from edgeprune.metrics.convexity import graph_convexity
found, first = timed(lambda: graph_convexity(points, labels, permutations=0, draws=0))
runs = {
    name: [timed(lambda: graph_convexity(points, labels, **settings))[1]["cpu_s"] for _ in range(5)]
    for name, settings in {
        "score_again": {"permutations": 0, "draws": 0},
        "with_null": {"draws": 0},
        "with_interval": {"permutations": 0},
    }.items()
}
tell({"pooled": 100 * found.pooled, "per_class": {c: 100 * v for c, v in found.per_class.items()},
      **first, **{f"{name}_cpu_s": float(np.median(spent)) for name, spent in runs.items()}})
"""

WHOLE = """
from edgeprune.metrics.convexity import graph_convexity
found, spent = timed(lambda: graph_convexity(points, labels))
tell({"mean_of_classes": found.mean_of_classes, "interval": found.interval,
      "null_mean": found.null_mean, "null_high": found.null_high, **spent})
"""

PARTS = """
import cProfile, pstats
from edgeprune.metrics.convexity import graph_convexity

def profiled(**settings):
    profile = cProfile.Profile(time.process_time)
    profile.runcall(graph_convexity, points, labels, **settings)
    return {name: (own, whole)
            for (_, _, name), (_, _, own, whole, _) in pstats.Stats(profile).stats.items()}

bare, whole = profiled(permutations=0), profiled()
pairs = [run["score_pairs"][1] - run["shortest_path_trees"][1] for run in (bare, whole)]
product = whole["nearest"][0]
tell({"distance product": product, "selection": whole["nearest"][1] - product,
      "shortest paths": whole["shortest_path_trees"][1], "pair scores": pairs[0],
      "null": pairs[1] - pairs[0], "interval": whole["intervals"][1]})
"""


def main() -> None:
    """Install the reference, measure both, write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("-o", "--out", type=Path, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        python = install_reference(folder / "reference")
        rows = [compare(python, clusters(folder, *size), *size) for size in SIZES]
        file = clusters(folder, *LARGE)
        large = {"points": LARGE[0], "classes": LARGE[1],
                 **run(sys.executable, WHOLE, file, threads=2),
                 "parts_cpu_s": run(sys.executable, PARTS, file, threads=2)}  # fmt: skip
    large["parts_cpu_s"].pop("peak_mb")
    options.out.mkdir(parents=True, exist_ok=True)
    day = datetime.now(UTC).date().isoformat()
    result = {"day": day, "machine": machine_facts(), "dimensions": DIMENSIONS, "spread": SPREAD,
              "rows": rows, "large": large}  # fmt: skip
    (options.out / f"convexity-{day}.json").write_text(json.dumps(result, indent=1) + "\n", "utf-8")
    print(shown(rows, large))


def install_reference(folder: Path) -> str:
    """Make a virtual environment with the reference; return its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = str(folder / "bin/python")
    install = [python, "-m", "pip", "install", "--quiet"]
    subprocess.run([*install, *REFERENCE_NEEDS], check=True)
    subprocess.run([*install, "--no-deps", "nnconvexity==0.1.1"], check=True)
    return python


def clusters(folder: Path, points: int, classes: int) -> Path:
    """Write Gaussian clusters with labels 0, 1, ... in turn; return the file."""
    generator = np.random.default_rng(0)
    centres = SPREAD * generator.standard_normal((classes, DIMENSIONS))
    labels = np.arange(points) % classes
    x = centres[labels] + generator.standard_normal((points, DIMENSIONS))
    file = folder / f"{points}-{classes}.npz"
    np.savez(file, points=x.astype(np.float32), labels=labels)
    return file


def run(python: str, code: str, file: Path, threads: int = 1) -> dict[str, Any]:
    """Run code on a file's arrays in a new process; return the values that it prints."""
    limits = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads))
    done = subprocess.run(
        [python, "-c", READ + code, str(file)],
        env=os.environ | limits, check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    told: dict[str, Any] = json.loads(done.stdout)
    return told


def compare(python: str, file: Path, points: int, classes: int) -> dict[str, Any]:
    """Measure both on one size."""
    reference, ours = run(python, REFERENCE, file), run(sys.executable, SCORE, file)
    apart = [abs(ours["per_class"][c] - v) for c, v in reference["per_class"].items()]
    return {"points": points, "classes": classes, "reference": reference, "ours": ours,
            "pairs_sampled_by_reference": (points // classes) * (points // classes - 1) > 5000,
            "times_less_cpu": reference["cpu_s"] / ours["cpu_s"],
            "greatest_difference_of_a_class": max(apart)}  # fmt: skip


def shown(rows: list[dict[str, Any]], large: dict[str, Any]) -> str:
    """Return the Markdown tables."""
    beside = table(
        ("points x classes", "nnconvexity CPU s", "ours CPU s", "times less", "null adds",
         "interval adds", "nnconvexity %", "ours %", "class differs at most", "peak MB"),
        [(f"{r['points']} x {r['classes']}", f"{r['reference']['cpu_s']:.2f}",
          f"{r['ours']['cpu_s']:.3f}", f"{r['times_less_cpu']:.0f}",
          f"{r['ours']['with_null_cpu_s'] - r['ours']['score_again_cpu_s']:.3f}",
          f"{r['ours']['with_interval_cpu_s'] - r['ours']['score_again_cpu_s']:.3f}",
          f"{r['reference']['pooled']:.2f}", f"{r['ours']['pooled']:.2f}",
          f"{r['greatest_difference_of_a_class']:.3f}",
          f"{r['reference']['peak_mb']:.0f} / {r['ours']['peak_mb']:.0f}") for r in rows],
    )  # fmt: skip
    parts = large["parts_cpu_s"]
    alone = table(
        (f"{large['points']} x {large['classes']}, 2 threads", "wall s", "peak MB", "CPU s", *parts),
        [("ours, with null and interval", f"{large['wall_s']:.1f}", f"{large['peak_mb']:.0f}",
          f"{large['cpu_s']:.1f}", *(f"{s:.1f}" for s in parts.values()))],
    )  # fmt: skip
    return f"{to_markdown(beside)}\n\n{to_markdown(alone)}"


if __name__ == "__main__":
    main()
