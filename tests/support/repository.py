"""Where the repository is, and the real recordings and models beside it (own licences)."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"


def shared(path: str, config: pytest.Config) -> Path:
    """Return a path under ``../shared``, or skip the test where that is missing."""
    found = SHARED / path
    if not found.exists():
        if config.getoption("--no-shared-is-an-error"):
            pytest.fail(f"{found} is missing")
        pytest.skip(f"{found} is not here: it holds real recordings and models under own licences")
    return found
