"""Tests in a child process whether a bundle runs on this machine and gives its golden outputs.

`prove_in_child` starts ``python -m edgeprune_device.inference.self_test PATH DIGEST`` and reads its
last line, JSON; `main` runs in the child. If a model crashes, only the child process does.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.system.child_process import run_module

PROVE_SECONDS = 600.0


def self_test_in_child(path: Path, digest: str) -> float:
    """Open a bundle in a child process and compare its golden outputs.

    Parameters
    ----------
    path : Path
        Folder or zip of the bundle.
    digest : str
        Expected digest of the bundle.

    Returns
    -------
    float
        Largest difference of a score.

    Raises
    ------
    EdgepruneError
        The error of the child, or how the child ended.

    """
    try:
        done = run_module(
            "edgeprune_device.inference.self_test", [str(path), digest], PROVE_SECONDS
        )
    except subprocess.TimeoutExpired:
        raise EdgepruneError(
            f"The model of {path.name} did not finish within {PROVE_SECONDS:g} s.", "", FAILED_CHECK
        ) from None
    try:
        told: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        told = {"error": f"The model of the bundle crashed its process ({_how(done)})."}
    if "error" in told:
        raise EdgepruneError(told["error"], told.get("hint", ""), FAILED_CHECK)
    return float(told["golden_difference"])


def _how(done: subprocess.CompletedProcess[str]) -> str:
    if done.returncode < 0:
        return signal.Signals(-done.returncode).name
    last = done.stderr.strip().splitlines()[-1:] or ["no message"]
    return f"status {done.returncode}, {last[0]}"


def main() -> None:
    """Open the bundle named on the command line; print the result as one line of JSON."""
    parser = argparse.ArgumentParser()
    parser.add_argument("path", type=Path)
    parser.add_argument("digest")
    given = parser.parse_args()
    from edgeprune_device.inference.choose_variant import choose_variant

    try:
        bundle = read_bundle(given.path)
        if bundle.digest != given.digest:
            raise EdgepruneError(f"The bundle {given.path} was changed a moment ago.")
        told: dict[str, Any] = {"golden_difference": choose_variant(bundle).golden_difference}
    except EdgepruneError as error:
        told = {"error": str(error), "hint": error.hint}
    sys.stdout.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main()
