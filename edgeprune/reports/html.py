"""What both reports share: filling a page from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

DASH = "-"
"""Stands in a table where nothing was measured."""


def render(template: str, **values: Any) -> str:
    """Fill one of this package's templates; what it does not call safe is escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(template).render(**values)
