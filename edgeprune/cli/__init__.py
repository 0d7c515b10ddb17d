"""The command line: signatures, help, one call each.

Imports of the work stand inside the function bodies, so that ``--help`` loads nothing heavy;
``app.main`` is the only place that prints an error or chooses an exit status.
"""

from edgeprune.cli.app import main

__all__ = ["main"]
