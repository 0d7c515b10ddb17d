"""How often something is tried: a few times in the quick suite, as often as it should be with ``-m slow``."""

from __future__ import annotations

import pytest


def tries(quick: int, slow: int) -> pytest.MarkDecorator:
    """Give a test the parameter ``tries``: few, and in a slow case as many as it should be."""
    return pytest.mark.parametrize("tries", [quick, pytest.param(slow, marks=pytest.mark.slow)])
