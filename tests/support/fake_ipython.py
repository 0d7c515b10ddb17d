"""IPython as a notebook's kernel has it, without IPython: what is displayed is kept in lists."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pytest


class Handle:
    """What was shown in one place of a page, in order."""

    def __init__(self, first: str) -> None:
        self.pages = [first]

    def update(self, page: str) -> None:
        self.pages.append(page)


@contextmanager
def fake_ipython(shell: str | None = "ZMQInteractiveShell") -> Iterator[list[Handle]]:
    """Stand in for IPython whose shell has this class's name (None: no shell runs).

    Yields the places that were displayed.
    """
    shown: list[Handle] = []

    def display(page: str, *, display_id: bool) -> Handle:
        assert display_id, "without it the bar could not move in place"
        shown.append(Handle(page))
        return shown[-1]

    running: Any = type(shell, (), {})() if shell else None
    whole, part = ModuleType("IPython"), ModuleType("IPython.display")
    vars(whole).update(get_ipython=lambda: running, display=part)
    vars(part).update(HTML=lambda text: text, display=display)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "IPython", whole)
        patch.setitem(sys.modules, "IPython.display", part)
        yield shown
