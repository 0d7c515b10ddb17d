"""Rendering of HTML report templates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

DASH = "-"
"""Shown in a table where there is no value."""


def render(template: str, **values: Any) -> str:
    """Render a template of this package; values not marked as safe are escaped."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent), autoescape=True,
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True,
    )  # fmt: skip
    return environment.get_template(template).render(**values)
