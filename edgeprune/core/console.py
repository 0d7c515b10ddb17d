"""Progress of a command in a terminal: lines, and a bar with the remaining time.

Everything goes to standard error, so that standard output is free for ``--json``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol, TypeVar

T = TypeVar("T")


class Ui(Protocol):
    """Interface through which a stage reports its progress."""

    def say(self, text: str) -> None:
        """Print a line."""

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Yield the items while a bar shows how many of ``total`` are done."""

    def note(self, text: str) -> None:
        """Set the text beside the current bar."""


class Silent:
    """Print nothing (tests, ``--quiet``)."""

    def say(self, text: str) -> None:
        """Ignore the line."""

    def note(self, text: str) -> None:
        """Ignore the text."""

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Yield the items."""
        yield from items


class Terminal:
    """Lines and a progress bar on standard error; without a terminal, lines only."""

    _bar: Any

    def __init__(self) -> None:
        self._bar = None
        self._task: Any = None

    def say(self, text: str) -> None:
        """Print a line above any bar."""
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def note(self, text: str) -> None:
        """Set the text beside the bar."""
        if self._bar is not None:
            self._bar.update(self._task, note=text)

    def track(self, items: Iterable[T], label: str, total: int) -> Iterator[T]:
        """Yield the items while a bar shows how many are done and the remaining time."""
        if not sys.stderr.isatty() or self._bar is not None:
            yield from items
            return
        with self._shown(label, total) as bar:
            for item in items:
                yield item
                bar.advance(self._task)

    @contextmanager
    def _shown(self, label: str, total: int) -> Iterator[Any]:
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
        from rich.progress import TimeRemainingColumn as TimeLeft

        columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeLeft(),
                   TextColumn("{task.fields[note]}"))  # fmt: skip
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            self._bar, self._task = bar, bar.add_task(label, total=total, note="")
            try:
                yield bar
            finally:
                self._bar = None


def default_ui() -> Ui:
    """Return the progress display: a bar in a notebook, otherwise lines and a bar on stderr."""
    if "IPython" in sys.modules:
        from edgeprune.core.notebook import Notebook, in_notebook

        if in_notebook():
            return Notebook()
    return Terminal()


def duration(seconds: float) -> str:
    """Format a duration: 3.2 s, 4 min 05 s, 1 h 12 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def format_percent(share: float) -> str:
    """Format a share as a percentage with one decimal."""
    return f"{100 * share:.1f} %"


def layer_list(layers: Sequence[int]) -> str:
    """Format ascending layer indices as ranges: 0-3, 8, 10-11."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def format_percentage_points(share: float) -> str:
    """Format a difference of accuracies: 1 percentage point, 2.5 percentage points."""
    return f"{100 * share:g} percentage point" + "s" * (100 * share != 1)
