"""Small pieces of Markdown: tables, docstrings as Markdown, values as a reader writes them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Sequence
from typing import Any

OPTION = re.compile(r"(?<![\w`-])(--[a-z][a-z0-9-]*)")
CODE = re.compile(r"(`[^`]*`)")
SPECIAL = str.maketrans({"<": r"\<", "*": r"\*", "[": r"\[", "]": r"\]"})


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table; a cell may hold inline Markdown, and no line break."""
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cell(text) for text in line) + " |" for line in lines)


def cell(text: str) -> str:
    """Return a text as it may stand in a cell of a table."""
    return " ".join(text.split()).replace("|", r"\|")


def prose(docstring: str) -> str:
    """Return a docstring's text as Markdown: its double backquotes single, its options as code."""
    text = re.sub(r"``([^`]*)``", r"`\1`", inspect.cleandoc(docstring))
    parts = CODE.split(text)
    parts[::2] = [OPTION.sub(r"`\1`", part.translate(SPECIAL)) for part in parts[::2]]
    return "".join(parts)


def line(docstring: str) -> str:
    """Return a docstring's first paragraph as one line of Markdown."""
    return " ".join(prose(docstring).split("\n\n")[0].split())


def toml(value: Any) -> str:
    """Return a value as TOML, in code; nothing for None."""
    if value is None:
        return ""
    return f"`{_toml(value)}`"


def choices(names: Iterable[Any]) -> str:
    """Return values in code, with commas."""
    return ", ".join(f"`{name}`" for name in names)


def number(value: float) -> str:
    """Return a number without a needless point, with thousands apart."""
    return f"{value:,.0f}" if value == int(value) else f"{value:g}"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return f'"{value}"'
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(v)}" for key, v in value.items()) + " }"
    return repr(value)
