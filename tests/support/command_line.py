"""The command line in this process: the work of a command replaced by something that takes notes."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import pytest

from edgeprune.cli import app


class Work:
    """Stands in for the function a command calls; keeps what it was given."""

    def __init__(self, result: Any = None) -> None:
        self.result = {} if result is None else result
        self.given: tuple[Any, ...] = ()
        self.named: dict[str, Any] = {}

    def __call__(self, *given: Any, **named: Any) -> Any:
        self.given, self.named = given, named
        return self.result


def replace_work(monkeypatch: pytest.MonkeyPatch, name: str, result: Any = None) -> Work:
    """Put a stand-in in the place of ``module.function``."""
    module, _, function = name.rpartition(".")
    work = Work(result)
    monkeypatch.setattr(importlib.import_module(module), function, work)
    return work


def call(monkeypatch: pytest.MonkeyPatch, *arguments: object) -> int:
    """Run the command line; return its exit status."""
    monkeypatch.setattr(sys, "argv", ["edgeprune", *map(str, arguments)])
    with pytest.raises(SystemExit) as end:
        app.main()
    return int(end.value.code or 0)


def exit_status(*arguments: str) -> int:
    """Run the command line without a monkeypatch, for fixtures; return its exit status."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        return call(monkeypatch, *arguments)
