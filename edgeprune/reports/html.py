"""What both reports share: reading a record, filling a page, putting a file in place whole."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jinja2

DASH = "-"
"""Stands in a table where nothing was measured."""


def read_json(path: Path) -> dict[str, Any]:
    """Return what a stage recorded."""
    found: dict[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def render(template: str, **values: Any) -> str:
    """Fill one of this package's templates; what it does not call safe is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(template).render(**values)


def write(path: Path, content: str | bytes) -> None:
    """Write a file beside its place, then rename it, so that a half-written one is never seen."""
    partial = path.with_name(path.name + ".partial")
    partial.write_bytes(content.encode() if isinstance(content, str) else content)
    partial.replace(path)
