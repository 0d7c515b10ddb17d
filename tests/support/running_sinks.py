"""Sinks that run on a journal, with waits short enough for a test."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgeprune_device.settings import Settings
from edgeprune_device.settings_reader import build_settings
from edgeprune_device.sinks.delivery import Sinks
from edgeprune_device.stream import Notice

QUICK = (0.01, 0.02)
"""First and longest seconds between tries."""


def settings(**parts: Mapping[str, Any]) -> Settings:
    """Return checked settings of these parts."""
    return build_settings(parts, "the test")


@contextmanager
def running(chosen: Settings, folder: Path, **options: Any) -> Iterator[Sinks]:
    """Run the sinks of some settings on a journal; ended afterwards."""
    sinks = Sinks(chosen, folder, lambda _: None, delays=QUICK, **options)
    sinks.start()
    try:
        yield sinks
    finally:
        sinks.close(0.0)


def kinds(notices: list[Notice]) -> list[str]:
    """Return the kinds of notices, in order."""
    return [notice.kind for notice in notices]
