"""Reading and atomic writing of JSON records of stages and runs.

Atomic writing of text and bytes is in ``edgeprune_device.system.files``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeprune_device.system.files import write_whole


def read_json(path: Path) -> Any:
    """Read a JSON file, usually a dict.

    Raises
    ------
    OSError
        The file does not exist or cannot be read.
    ValueError
        The file is not valid JSON.

    """
    return json.loads(path.read_text("utf-8"))


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write JSON atomically, with a final line break.

    Parameters
    ----------
    path : Path
        File to write; its folder must exist.
    value : JSON-serializable
        Content.
    indent : int, optional
        Spaces per level; None: all on one line.

    Raises
    ------
    ValueError
        A number is infinite or NaN.
    OSError
        The file cannot be written.

    """
    write_whole(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")
