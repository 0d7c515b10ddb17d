"""The commands: signatures, help, and one call each. The work's imports stand in the bodies.

Nothing heavy is loaded for ``--help``; ``main`` is the only place that prints an error or picks an
exit status.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from edgeprune import __version__
from edgeprune.cli import (
    bench,
    bundles,
    calibration,
    compress,
    journal,
    listen,
    maintenance,
    recorder,
    sensitivity,
)
from edgeprune_device.errors import BAD_INPUT, NOT_INSTALLED, EdgepruneError

EXTRAS = dict.fromkeys(
    ("torch", "transformers", "accelerate", "safetensors", "onnx", "scipy", "matplotlib", "jinja2",
     "rich"), "compress",
)  # fmt: skip
"""What a command may miss -> the extra that brings it."""
INTERRUPTED = 130

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich help costs more start-up than all the rest together
    help="Compress audio transformers for small recorders, and run them there.",
    epilog="Start with: edgeprune demo",
)


for module in (compress, listen, calibration, sensitivity, journal, recorder, bench, bundles,
               maintenance):  # fmt: skip
    module.register(app)


@app.callback(invoke_without_command=True)
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and end.")] = False,
) -> None:
    """Take the options before the command."""
    if version:
        typer.echo(f"edgeprune {__version__}")
        raise typer.Exit


def main() -> None:
    """Run the command line; the only place that prints an error or picks an exit status."""
    try:
        app()
    except EdgepruneError as error:
        fail(str(error), error.hint, error.status)
    except SystemExit as end:  # typer turns Ctrl-C into this status and says nothing
        if end.code == INTERRUPTED:
            fail(
                "Interrupted.",
                "Run the same command again; what can be resumed goes on.",
                INTERRUPTED,
            )
        raise
    except OSError as error:
        if error.filename is None:  # no file was named: a defect of ours
            raise
        fail(f"{error.filename}: {error.strerror}.", "", BAD_INPUT)
    except ModuleNotFoundError as error:
        name = (error.name or "").split(".")[0]
        if name not in EXTRAS:
            raise
        hint = f"pip install 'edgeprune[{EXTRAS[name]}]'"
        fail(f"This command needs {name}, which is not installed.", hint, NOT_INSTALLED)


def fail(message: str, hint: str, status: int) -> None:
    """Print one error and end the program."""
    sys.stderr.write(f"error: {message}\n" + (f"hint: {hint}\n" if hint else ""))
    sys.stderr.flush()
    raise SystemExit(status)
