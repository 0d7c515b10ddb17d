"""A settings dataclass as rows of a table: key, type, default, meaning (the string under a field)."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from generators.markdown import line, prose, table, toml

TYPES = {
    "str": "string", "int": "integer", "float": "number", "bool": "boolean",
    "tuple[str, ...]": "list of strings", "tuple[int, ...]": "list of integers",
    "tuple[float, float]": "two numbers", "tuple[float, float, float]": "three numbers",
    "Mapping[str, float]": "table of numbers",
}  # fmt: skip
"""Types of the code, as a reader of TOML knows them."""


@dataclass(frozen=True)
class Key:
    """One key of a section."""

    name: str
    type: str
    default: Any
    about: str
    """Markdown, one line; empty where the code says nothing."""


def keys_of(cls: type) -> Iterator[Key]:
    """Yield the plain fields of a settings dataclass, in their order."""
    told = docstrings(cls)
    for field in dataclasses.fields(cls):
        if not dataclasses.is_dataclass(default := _default(field)):
            kind = str(field.type).removesuffix(" | None")
            yield Key(field.name, TYPES.get(kind, kind), default, line(told.get(field.name, "")))


def sections_of(cls: type) -> Iterator[tuple[str, type]]:
    """Yield the fields that are sections of their own, with their dataclass."""
    for field in dataclasses.fields(cls):
        if dataclasses.is_dataclass(default := _default(field)):
            yield field.name, type(default)


def docstrings(cls: type) -> dict[str, str]:
    """Return the strings that stand under a class's fields."""
    body = ast.parse(textwrap.dedent(inspect.getsource(cls))).body[0]
    assert isinstance(body, ast.ClassDef)
    found = {}
    for statement, after in zip(body.body, body.body[1:], strict=False):
        if (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name)
                and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                and isinstance(after.value.value, str)):  # fmt: skip
            found[statement.target.id] = after.value.value
    return found


def section(
    name: str, cls: type, allowed: Callable[[str, Key], str], told: Mapping[str, str], unset: str
) -> str:
    """Return a section: heading, what its dataclass says, and a row for each key.

    Parameters
    ----------
    name : str
        Of the section; empty for the keys at the top of the file.
    cls : type
        Its dataclass.
    allowed : callable
        Full name (``trim.ratio``) and key to the values that are allowed, as Markdown.
    told : mapping
        Meaning of keys that the code says nothing about, by their full name.
    unset : str
        What stands for a default of None.

    """
    rows = []
    for key in keys_of(cls):
        full = f"{name}.{key.name}" if name else key.name
        default = unset if key.default is None else toml(key.default)
        about = key.about or told.get(full, "")
        rows.append((f"`{key.name}`", key.type, default, allowed(full, key), about))
    head = f"### [{name}]" if name else "### At the top of the file"
    listing = table(("Key", "Type", "Default", "Allowed", "Meaning"), rows)
    return f"{head}\n\n{prose(inspect.getdoc(cls) or '')}\n\n{listing}"


def _default(field: dataclasses.Field[Any]) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default
