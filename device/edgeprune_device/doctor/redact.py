"""Removes secrets and the location from everything that leaves the recorder.

By name: values of keys such as ``password``, ``token`` or ``..._env``; arguments of commands; user,
path and query of addresses; the user in a path. By value: the values of those keys, and the content
of environment variables and files they name, wherever they occur in any text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

REMOVED = "(removed)"
SECRET = re.compile(
    r"passw|token|secret|credential|api_?key|private|authorization|username|_env$|cookie", re.I
)
PLACE = re.compile(r"^(lat|lon|lng|latitude|longitude|coordinates?|place|position_gps|gps)$", re.I)
LABELS = re.compile(r"^(detections|labels?|top|transcripts?|last_detection)$", re.I)
ARGUMENTS = ("run", "command", "argv")
ADDRESS = re.compile(
    r"\b([a-z][a-z0-9+.-]{1,15}://)([^\s/?#\"'<>]*@)?([^\s/?#\"'<>@]*)([^\s\"'<>]*)", re.I
)
HOME = re.compile(r"(/home/|/Users/)[^/\s\"']+")
BEARER = re.compile(r"\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{6,}", re.I)
ASSIGNED = re.compile(
    r"((?:passw\w*|token|secret|api_?key)\"?\s*[=:]\s*)(\"[^\"]*\"|'[^']*'|\S+)", re.I
)
SHORTEST = 4  # a shorter value would match parts of other words
MOST_SECRET_BYTES = 65_536


def secrets_of(table: Mapping[str, Any], environment: Mapping[str, str]) -> set[str]:
    """Return the values that must not leave, given the settings as in their file.

    Parameters
    ----------
    table : mapping
        Tables of the settings file.
    environment : mapping
        Environment in which variables named in the settings are looked up.

    """
    found: set[str] = set()
    for key, value in _leaves(table):
        if not SECRET.search(key):
            continue
        found.add(str(value))
        if key.endswith("_env"):
            found.add(environment.get(str(value), ""))
        if key.endswith("_file"):
            found.update(_held(Path(os.path.expandvars(str(value)))))
    return {value for value in found if len(value) >= SHORTEST}


def places_of(table: Mapping[str, Any]) -> set[str]:
    """Return the coordinates as texts."""
    found = {str(value) for key, value in _leaves(table) if PLACE.search(key)}
    return {value for value in found if len(value) >= SHORTEST}


def redact(value: Any, secrets: Collection[str] = (), *, with_place: bool = False,
           with_labels: bool = True) -> Any:  # fmt: skip
    """Return tables and lists without what must not leave; keys are kept.

    Parameters
    ----------
    value : tables, lists, texts, numbers
    secrets : collection of str
        Values that are removed wherever they occur.
    with_place, with_labels : bool
        Whether to keep coordinates, and labels of detections; counts by label are replaced by
        their sum.

    """
    if isinstance(value, Mapping):
        shown = {}
        for name, held in value.items():
            key = str(name)
            if not with_labels and LABELS.search(key):
                shown[key] = _summed(held)
            elif not isinstance(held, Mapping) and (
                SECRET.search(key) or key in ARGUMENTS or (PLACE.search(key) and not with_place)
            ):
                shown[key] = _hidden(key, held)
            else:
                inside = redact(held, secrets, with_place=with_place, with_labels=with_labels)
                shown[scrub(key, secrets)] = inside
        return shown
    if isinstance(value, list | tuple):
        return [redact(held, secrets, with_place=with_place, with_labels=with_labels)
                for held in value]  # fmt: skip
    if isinstance(value, str):
        return scrub(value, secrets)
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return REMOVED if number and str(value) in secrets else value


def scrub(text: str, secrets: Collection[str]) -> str:
    """Return a text without the given values, and without anything after the host of an address."""
    for secret in sorted(secrets, key=len, reverse=True):
        text = text.replace(secret, REMOVED)
    text = ADDRESS.sub(_host_only, text)
    text = HOME.sub(rf"\1{REMOVED}", text)
    text = BEARER.sub(rf"\1 {REMOVED}", text)
    return ASSIGNED.sub(rf"\1{REMOVED}", text)


def _host_only(found: re.Match[str]) -> str:
    scheme, user, host, rest = found.groups()
    if scheme.lower() == "file://":
        return found[0]
    tail = f"/{REMOVED}" if rest.strip("/.,;:)") else rest
    return f"{scheme}{f'{REMOVED}@' if user else ''}{host}{tail}"


def _summed(held: Any) -> Any:
    """Return the total instead of the counts by label."""
    if isinstance(held, Mapping):
        counts = [count for count in held.values() if isinstance(count, int | float)]
        return {"total": sum(counts)}
    return held if isinstance(held, int | float) else _hidden("", held)


def _hidden(key: str, held: Any) -> Any:
    """Return what is shown instead of a value: whether there was one, and which program."""
    if key in ARGUMENTS and isinstance(held, list | tuple) and held:
        return [Path(str(held[0])).name, *[REMOVED] * (len(held) - 1)]
    return held if held in ("", None, []) else REMOVED


def _leaves(table: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(table, Mapping):
        for name, value in table.items():
            yield from _leaves(value, str(name))
    elif isinstance(table, list | tuple):
        # For a command, what follows the program.
        for value in table[1:] if key in ARGUMENTS else table:
            yield from _leaves(value, "private" if key in ARGUMENTS else key)
    else:
        yield key, table


def _held(path: Path) -> list[str]:
    try:
        with path.open("rb") as file:
            return file.read(MOST_SECRET_BYTES).decode("utf-8", "replace").split()
    except OSError:
        return []
