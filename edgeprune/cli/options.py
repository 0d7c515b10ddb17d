"""What the modules of commands share: the ``--json`` option, and how a result is printed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]


def print_done(done: Mapping[str, Any], text: str, as_json: bool) -> None:
    """Print a command's result: its text for people, or all but that as JSON."""
    shown = {key: value for key, value in done.items() if key != "text"}
    if as_json:
        typer.echo(json.dumps(shown, indent=1))
    elif text:
        typer.echo(text)
