"""JSON records of stages and runs: read in one place, written whole or not at all.

Text and bytes of any other kind are written whole by ``edgeprune_device.system.files``.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from edgeprune_device.system.files import write_whole


def read_json(path: Path) -> Any:
    """Return what a stage recorded: the file's content, usually a dict.

    Raises
    ------
    OSError
        The file is not there or cannot be read.
    ValueError
        It is no JSON.

    """
    return json.loads(path.read_text("utf-8"))


def write_json(path: Path, value: Any, *, indent: int | None = 1) -> None:
    """Write JSON whole, ended by a line break.

    Parameters
    ----------
    path : Path
        In a folder that exists.
    value : JSON-serializable
    indent : int, optional
        Spaces a level; None: all on one line, for what is large.

    Raises
    ------
    ValueError
        A number in it is infinite or not a number.
    OSError
        It could not be written.

    """
    write_whole(path, json.dumps(value, indent=indent, allow_nan=False, ensure_ascii=False) + "\n")
