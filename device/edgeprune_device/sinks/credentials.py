"""Passwords and tokens: read from the environment or a file, and never shown.

A relative file name is looked up in systemd's credentials folder (``$CREDENTIALS_DIRECTORY``) if
there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeprune_device.errors import EdgepruneError

FOLDER = "CREDENTIALS_DIRECTORY"
HIDDEN = "(secret)"


class Secret:
    """A text that is only shown by ``reveal``."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __bool__(self) -> bool:
        """Return whether there is a secret."""
        return bool(self._text)

    def __repr__(self) -> str:
        """Show whether there is a secret, not the secret itself."""
        return HIDDEN if self._text else "(no secret)"

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def hidden_in(self, text: str) -> str:
        """Return a text, such as an error, without the secret."""
        return text.replace(self._text, HIDDEN) if self._text else text


def read_secret(variable: str, file: str, environ: Mapping[str, str], name: str) -> Secret:
    """Read a secret; empty if neither a variable nor a file is named.

    Parameters
    ----------
    variable, file : str
        Variable and file named in the settings; the variable has precedence.
    environ : mapping
        The environment.
    name : str
        Name of the setting for error messages, such as ``mqtt.password``.

    Raises
    ------
    EdgepruneError
        The variable is not set, or the file cannot be read, or is empty.

    """
    if variable:
        if not environ.get(variable):
            raise EdgepruneError(f"{name}_env names the variable {variable}, which is not set.")
        return Secret(environ[variable])
    if not file:
        return Secret("")
    path = Path(environ.get(FOLDER, ""), file)
    try:
        text = path.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise EdgepruneError(f"{name}_file, {path}, cannot be read: {reason}.") from None
    if not text:
        raise EdgepruneError(f"{name}_file, {path}, is empty.")
    return Secret(text)
