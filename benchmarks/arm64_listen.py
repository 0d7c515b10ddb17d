"""Detections of the base wheel on an emulated Raspberry Pi, compared with those on this machine.

    python benchmarks/arm64_listen.py BUNDLE=sound.wav ... --cpu a72 -o arm64.json

Builds the wheel, installs it without extras for aarch64 (base dependencies only, as wheels), starts
it under QEMU's user mode (see `arm64.py`), and runs ``listen --from-wav`` there and here. Fails if
a dependency of the workstation was installed, a golden output is not met, or a detection differs:
label and time must be equal, and the score within the bundle's tolerance.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from arm64 import CACHE, CPUS, set_up

ROOT = Path(__file__).resolve().parents[1]
PLATFORMS = ("manylinux_2_28_aarch64", "manylinux_2_27_aarch64", "manylinux2014_aarch64",
             "manylinux_2_17_aarch64")  # fmt: skip
ABSENT = (
    "torch",
    "transformers",
    "onnx",
    "scipy",
    "matplotlib",
    "pandas",
    "jinja2",
    "cryptography",
)
PROBE = f"""
import importlib.util, json, platform, sys
here = [m for m in {ABSENT!r} if importlib.util.find_spec(m)]
import numpy, onnxruntime, edgeprune_device.recorder.listen, edgeprune_device.bench.runner
import edgeprune, edgeprune.cli.app
from ai_edge_litert.interpreter import Interpreter
print(json.dumps({{
    "machine": platform.machine(), "python": platform.python_version(),
    "edgeprune": edgeprune.__version__, "numpy": numpy.__version__,
    "onnxruntime": onnxruntime.__version__, "should_be_absent": here,
    "loaded_of_them": [m for m in {ABSENT!r} if m in sys.modules],
}}))
"""


def main() -> int:
    """Build, install, run both, compare; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("pairs", nargs="+", metavar="BUNDLE=WAV")
    parser.add_argument("--cpu", default="a72", choices=sorted(CPUS))
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the emulation is kept")
    parser.add_argument("-o", "--out", type=Path, help="JSON")
    options = parser.parse_args()
    begun = time.monotonic()
    set_up(options.cache)
    site = install(options.cache)
    installed = time.monotonic()
    facts = json.loads(emulated(options.cache, options.cpu, site, ["-c", PROBE]))
    done: dict[str, Any] = {
        **facts, "cpu": options.cpu, "wheels_mb": round(megabytes(site), 1),
        "install_seconds": round(installed - begun, 1),
        "import_seconds": round(time.monotonic() - installed, 1), "bundles": [],
    }  # fmt: skip
    print(json.dumps(done), file=sys.stderr, flush=True)
    for pair in options.pairs:
        bundle, _, wav = pair.partition("=")
        row = compare(Path(bundle), Path(wav), options.cache, options.cpu, site)
        print(json.dumps(row), file=sys.stderr, flush=True)
        done["bundles"].append(row)
    if options.out:
        options.out.write_text(json.dumps(done, indent=1) + "\n", "utf-8")
    held = not facts["should_be_absent"] and all(row["same"] for row in done["bundles"])
    print("The same detections there and here." if held else "It is not the same there.")
    return 0 if held else 1


def install(cache: Path) -> Path:
    """Build the wheel and install it for aarch64 with its base dependencies; return the folder."""
    site = cache / "recorder"
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        subprocess.run(
            [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(work), str(ROOT)],
            check=True, stdout=subprocess.DEVNULL,
        )  # fmt: skip
        (wheel,) = work.glob("*.whl")
        subprocess.run([sys.executable, "-m", "venv", str(work / "pip")], check=True)
        python = str(work / "pip/bin/python")
        pip = [python, "-m", "pip", "-qq", "--disable-pip-version-check", "install"]
        subprocess.run([*pip, "--upgrade", "pip>=26"], check=True)
        partial = site.with_name("recorder.partial")
        shutil.rmtree(partial, ignore_errors=True)
        subprocess.run(
            [*pip, "--target", str(partial), "--python-version", "3.11", "--only-binary=:all:",
             *(part for name in PLATFORMS for part in ("--platform", name)), str(wheel)],
            check=True,
        )  # fmt: skip
        shutil.rmtree(site, ignore_errors=True)
        partial.rename(site)
    return site


def emulated(cache: Path, cpu: str, site: Path, arguments: Sequence[str]) -> str:
    """Run the emulated Python and return its standard output; raises RuntimeError if it fails."""
    root = cache / "boards" / cpu
    done = subprocess.run(
        [str(cache / "qemu/usr/bin/qemu-aarch64"), "-L", str(root), "-cpu", CPUS[cpu].qemu,
         str(root / "usr/bin/python3.11"), "-s", *arguments],
        check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
        env={"LD_LIBRARY_PATH": str(cache / "qemu/usr/lib/x86_64-linux-gnu"),
             "PYTHONPATH": str(site), "PATH": os.defpath, "HOME": "/tmp", "PYTHONUTF8": "1",
             "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    if done.returncode:
        words = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
        raise RuntimeError(f"{cpu}: {words[-1]}")
    return done.stdout


def compare(bundle: Path, wav: Path, cache: Path, cpu: str, site: Path) -> dict[str, Any]:
    """Run listen on a file there and here, and compare the detections."""
    with tempfile.TemporaryDirectory() as folder:
        times, heard, stats = [], [], []
        for place in ("here", "there"):
            out = Path(folder) / place
            arguments = ["-m", "edgeprune.cli", "listen", str(bundle.resolve()),
                         "--from-wav", str(wav.resolve()), "-o", str(out)]  # fmt: skip
            begun = time.monotonic()
            if place == "there":
                emulated(cache, cpu, site, arguments)
            else:
                subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
            times.append(round(time.monotonic() - begun, 1))
            heard.append(detections(out))
            stats.append(json.loads((out / "stats.json").read_text("utf-8")))
    manifest = json.loads((bundle / "bundle.json").read_text("utf-8"))
    allowed = max(float(entry["tolerance"]) for entry in manifest["golden"])
    one, other = heard
    largest = max(
        (abs(a["score"] - b["score"]) for a, b in zip(one, other, strict=False)), default=0
    )
    same = [key_of(row) for row in one] == [key_of(row) for row in other] and largest <= allowed
    return {
        "bundle": manifest["name"], "format": manifest["model"]["format"], "sound": wav.name,
        "sound_seconds": round(stats[0]["captured_seconds"], 2), "windows": stats[0]["windows"],
        "detections_here": len(one), "detections_there": len(other), "same": same,
        "largest_score_difference": largest, "allowed": allowed,
        "golden_difference_here": stats[0]["golden_difference"],
        "golden_difference_there": stats[1]["golden_difference"],
        "seconds_here": times[0], "seconds_emulated": times[1],
    }  # fmt: skip


def detections(journal: Path) -> list[dict[str, Any]]:
    """Return the lines of a journal's detections."""
    lines = (journal / "detections.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line) for line in lines]


def key_of(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return the fields of a detection that must be equal on every processor."""
    return row["label"], row["start_seconds"], row["end_seconds"]


def megabytes(folder: Path) -> float:
    """Return the size of a folder's files in MB."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6


if __name__ == "__main__":
    raise SystemExit(main())
