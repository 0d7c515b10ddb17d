"""Progress in a Jupyter notebook: lines below the cell and one progress bar."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any, TypeVar

T = TypeVar("T")
REFRESH_SECONDS = 0.25


class Notebook:
    """Progress display of a notebook cell, see ``console.Ui``."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._note = ""

    def say(self, text: str) -> None:
        """Print a line below the cell."""
        print(text, flush=True)

    def note(self, text: str) -> None:
        """Set the text beside the bar."""
        self._note = text

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Yield the items while a bar shows how many are done and the remaining time."""
        if self._handle is not None:  # inside another bar
            yield from items
            return
        from IPython.display import HTML, display

        start = shown = time.monotonic()
        self._note = ""
        self._handle = display(HTML(bar_html(label, 0, total, 0.0, "")), display_id=True)
        try:
            for done, item in enumerate(items):
                yield item
                now = time.monotonic()
                if now - shown >= REFRESH_SECONDS or done + 1 == total:
                    shown = now
                    page = bar_html(label, done + 1, total, now - start, self._note)
                    self._handle.update(HTML(page))
        finally:
            self._handle.update(HTML(""))
            self._handle = None


def bar_html(label: str, done: int, total: int, seconds: float, note: str) -> str:
    """Return a progress bar as HTML, with the estimated remaining time in seconds."""
    left = f", {seconds / done * (total - done):.0f} s left" if done else ""
    return (f'<progress value="{done}" max="{max(1, total)}"></progress> '
            f"{escape(label)} {done}/{total}{left} {escape(note)}")  # fmt: skip


def in_notebook() -> bool:
    """Return whether this process is a Jupyter kernel."""
    try:
        from IPython import get_ipython
    except ImportError:
        return False
    shell: Any = get_ipython()
    return type(shell).__name__ == "ZMQInteractiveShell"
