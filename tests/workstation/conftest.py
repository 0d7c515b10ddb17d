"""What every test of the workstation has: few families each time, and files timed for a moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from slow_cases import families
from tiny_models import FAMILY_NAMES, make_model
from tiny_recordings import TONES

from edgeprune.export import timing


@pytest.fixture(scope="session", params=families(FAMILY_NAMES))
def family_folder(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a tiny classifier of every family in turn; those that are much like others are slow."""
    folder = tmp_path_factory.mktemp("model") / request.param
    return make_model(folder, request.param, tuple(TONES))


@pytest.fixture(scope="session", autouse=True)
def _timed_shortly() -> Iterator[None]:
    """Time a file for 20 ms instead of half a second: every run of compress times several."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(timing, "TIMED_SECONDS", 0.02)
        yield
