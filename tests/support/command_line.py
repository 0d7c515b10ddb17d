"""The command line, run in this process."""

from __future__ import annotations

import sys

import pytest

from edgeprune.cli import app


def call(*arguments: str) -> int:
    """Run ``edgeprune`` with these arguments; return its exit status."""
    before = sys.argv
    sys.argv = ["edgeprune", *arguments]
    try:
        with pytest.raises(SystemExit) as end:
            app.main()
    finally:
        sys.argv = before
    return int(end.value.code or 0)
