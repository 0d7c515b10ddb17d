"""Foreign models, for the tests that wrap them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from repository import shared


@pytest.fixture
def models(pytestconfig: pytest.Config) -> Callable[[str], Path]:
    """Return where a model of ``shared/models`` is; skips where it is not there."""
    return lambda name: shared(f"models/{name}", pytestconfig)
