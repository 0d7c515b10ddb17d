"""A module of ours in a process of its own, found as this one was, whatever the working folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import edgeprune_device

HOME = str(Path(edgeprune_device.__file__).resolve().parents[1])
"""Folder that the package is in."""


def run_module(
    module: str, arguments: Sequence[str], patience_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE`` to its end; it is killed if this process is interrupted.

    Raises
    ------
    subprocess.TimeoutExpired
        It took longer than ``patience_seconds``.

    """
    ways = [HOME, *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [sys.executable, "-P", "-m", module, *arguments],
        capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, errors="replace",
        timeout=patience_seconds, env={**os.environ, "PYTHONPATH": os.pathsep.join(ways)},
    )  # fmt: skip
