"""Instructions per inference on a Raspberry Pi's processor, counted under emulation.

    python benchmarks/arm64.py count MODEL.onnx MODEL.tflite --cpu a72,a76 -o counts.json

Emulated time does not predict a board's latency, but instruction counts repeat to 0.1 %.
`emulation/` holds what is needed (QEMU's user mode with a counting plugin, an arm64 Python with the
runtimes' own wheels; set up once under ``--cache``, without root, on Debian). A processor is a row
of `CPUS`: what QEMU emulates, and the matching /proc/cpuinfo by which the runtimes choose their
kernels. One thread; the run that packs the weights is not counted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeprune.core.tables import table, to_markdown

HERE = Path(__file__).resolve().parent / "emulation"
CACHE = Path("/tmp/edgeprune-emulation")
RUNS = 2
KINDS = ("instructions", "loads_stores", "fmla", "dot", "long_multiply")  # as count.c writes them
CORES = 4


@dataclass(frozen=True)
class Cpu:
    """A processor as named by QEMU and as shown by Linux."""

    board: str
    qemu: str  # value of -cpu; never "max", whose int8 results are wrong in QEMU 7.2
    part: str  # of /proc/cpuinfo
    variant: str
    revision: int
    features: str


PLAIN = "fp asimd evtstrm crc32 cpuid"
DOTS = f"{PLAIN} aes pmull sha1 sha2 atomics fphp asimdhp asimdrdm lrcpc dcpop asimddp"
CPUS = {
    "a53": Cpu("Raspberry Pi Zero 2 W Rev 1.0", "cortex-a53", "0xd03", "0x0", 4, PLAIN),
    "a72": Cpu("Raspberry Pi 4 Model B Rev 1.4", "cortex-a72", "0xd08", "0x0", 3, PLAIN),
    "a76": Cpu("Raspberry Pi 5 Model B Rev 1.0", "cortex-a76", "0xd0b", "0x4", 1, DOTS),
}


def main() -> None:
    """Count, print a table, write JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("command", choices=["count"])
    parser.add_argument("models", nargs="+", type=Path, metavar="MODEL")
    parser.add_argument("--cpu", default="a72,a76", help=f"of {', '.join(CPUS)}, with commas")
    parser.add_argument("--shape", action="append", default=[], help="of an open input: NAME=1x512")
    parser.add_argument("--runs", type=int, default=RUNS, help="inferences that are counted")
    parser.add_argument("--cache", type=Path, default=CACHE, help="where the emulation is kept")
    parser.add_argument("-o", "--out", type=Path, help="JSON")
    options = parser.parse_args()
    cpus = options.cpu.split(",")
    set_up(options.cache)
    rows = []
    for model in options.models:
        for cpu in cpus:
            rows.append(count(model, cpu, options.cache, options.shape, options.runs))
            print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    print(to_markdown(to_table(rows)))
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1) + "\n", "utf-8")


def set_up(cache: Path) -> None:
    """Set up missing parts of the emulation: QEMU, the arm64 system, the wheels, the plugin."""
    subprocess.run([str(HERE / "set_up.sh"), str(cache)], check=True)
    for name, cpu in CPUS.items():
        write_board(cache, name, cpu)


def write_board(cache: Path, name: str, cpu: Cpu) -> None:
    """Copy the system with this processor's files in /proc and /sys.

    Without them the runtimes read the host's and end with a segmentation fault.
    """
    root = cache / "boards" / name
    online = root / "sys/devices/system/cpu"
    for folder in (root / "proc", online):
        folder.mkdir(parents=True, exist_ok=True)
    for shared in sorted((cache / "sysroot").iterdir()):
        link = root / shared.name
        if shared.name not in ("proc", "sys") and not link.is_symlink():
            link.symlink_to(Path("../../sysroot") / shared.name)
    core = (
        "processor\t: {}\nBogoMIPS\t: 108.00\nFeatures\t: " + cpu.features
        + "\nCPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: " + cpu.variant
        + f"\nCPU part\t: {cpu.part}\nCPU revision\t: {cpu.revision}\n\n"
    )  # fmt: skip
    (root / "proc/cpuinfo").write_text(
        "".join(core.format(number) for number in range(CORES)) + f"Model\t\t: {cpu.board}\n",
        "utf-8",
    )
    for file in ("possible", "present"):
        (online / file).write_text(f"0-{CORES - 1}\n", "utf-8")


def count(
    model: Path, cpu: str, cache: Path = CACHE, shapes: Sequence[str] = (), runs: int = RUNS
) -> dict[str, Any]:
    """Count the instructions of one inference.

    Parameters
    ----------
    model : Path
        A .onnx or .tflite file.
    cpu : str
        A row of `CPUS`.
    cache : Path
        Folder made by `set_up`.
    shapes : sequence of str
        Shapes of inputs with open sizes, ``NAME=1x512``.
    runs : int > 0
        Number of inferences; the counts are their mean.

    Returns
    -------
    dict
        The counts of `KINDS` per inference, `spread` (the largest difference between runs, as a
        share of the instructions), `sum` of the outputs and `seconds` of the emulation.

    Raises
    ------
    RuntimeError
        The emulated program failed; with its last line of output.

    """
    root = cache / "boards" / cpu
    libraries = cache / "qemu/usr/lib/x86_64-linux-gnu"
    begun = time.monotonic()
    with tempfile.NamedTemporaryFile("r") as counts:
        done = subprocess.run(
            [str(cache / "qemu/usr/bin/qemu-aarch64"), "-L", str(root), "-cpu", CPUS[cpu].qemu,
             "-plugin", f"{cache / 'libcount.so'},out={counts.name}",
             str(root / "usr/bin/python3.11"), str(HERE / "guest.py"), str(model.resolve()), str(runs),
             *shapes],
            check=False, capture_output=True, text=True, stdin=subprocess.DEVNULL,
            env={"LD_LIBRARY_PATH": str(libraries), "PYTHONPATH": str(cache / "site"),
                 "PATH": os.defpath, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        if done.returncode:
            words = done.stderr.strip().splitlines() or [f"status {done.returncode}"]
            raise RuntimeError(f"{model} on {cpu}: {words[-1]}")
        marks = [[int(value) for value in line.split()[1:]] for line in counts]
    each = [
        [after - before for before, after in zip(first, second, strict=True)]
        for first, second in zip(marks[::2], marks[1::2], strict=True)
    ]
    totals = [run[0] for run in each]
    mean = {kind: sum(run[place] for run in each) // runs for place, kind in enumerate(KINDS)}
    return {
        "model": model.name, "bytes": model.stat().st_size, "cpu": cpu, **mean,
        "spread": (max(totals) - min(totals)) / min(totals),
        "sum": float(done.stdout.splitlines()[-1]), "seconds": round(time.monotonic() - begun, 1),
    }  # fmt: skip


def to_table(rows: Sequence[dict[str, Any]]) -> Any:
    """Return the counts as a table, in millions."""
    return table(
        ("file", "MB", "processor", "M instructions", "loads, stores", "FMLA", "SDOT", "MULL, MLAL"),
        [(row["model"], f"{row['bytes'] / 1e6:.2f}", row["cpu"],
          *(f"{row[kind] / 1e6:.3f}" for kind in KINDS)) for row in rows],
    )  # fmt: skip


if __name__ == "__main__":
    main()
