"""Runs an edgeprune module in a child process, whatever the working folder."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import edgeprune_device

HOME = str(Path(edgeprune_device.__file__).resolve().parents[1])
"""Folder that contains the package."""


def run_module(
    module: str, arguments: Sequence[str], patience_seconds: float
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE`` to completion; it is killed if this process is interrupted.

    Parameters
    ----------
    module : str
        Dotted name of the module.
    arguments : sequence of str
        Its command-line arguments.
    patience_seconds : float
        Timeout.

    Returns
    -------
    subprocess.CompletedProcess
        With exit status, standard output and standard error as text.

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
