"""The command line, from the Typer app: every command with its arguments, options and examples."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import typer.main

from edgeprune.cli.app import app
from generators.markdown import line, prose, table

GROUPS = {
    "Compress a model": ("compress", "score", "sensitivity", "verify", "bench", "demo"),
    "Calibrate": ("calibrate", "calibration select", "calibration record", "calibration audit"),
    "Run a recorder": ("devices", "doctor", "listen", "status", "service", "support"),
    "Read a journal": ("export", "coverage", "clips", "forget"),
    "Handle bundles": ("wrap", "pack", "keys", "sign", "install", "rollback"),
}
"""Headings of the page; a command that none of them names comes under the last one."""
REST = "Other commands"
VALUES = {"text": "text", "str": "text", "integer": "integer", "int": "integer", "float": "number",
          "path": "path", "boolean": "flag", "bool": "flag"}  # fmt: skip
SAID = re.compile(r" \(default: ([^()]*)\)")
"""A default in a help text: ``Repetitions (default: 3).``"""
ALSO = re.compile(r",? (?:or|and|in the field)\b[^:`]*: (?=edgeprune )")


def commands() -> dict[str, Any]:
    """Return every command by its name, those of a group as ``GROUP COMMAND``."""
    found: dict[str, Any] = {}
    whole: Any = typer.main.get_command(app)
    for name, command in whole.commands.items():
        own = getattr(command, "commands", None)
        found |= {f"{name} {n}": c for n, c in own.items()} if own else {name: command}
    return found


def summary() -> str:
    """Return a table of all commands, each with the first sentence of its help."""
    known = commands()
    rows = [
        (f"[`{name}`](#edgeprune-{name.replace(' ', '-')})", line(known[name].help or ""))
        for names in _grouped(known).values() for name in names
    ]  # fmt: skip
    return table(("Command", "What it does"), rows)


def listing() -> str:
    """Return every command in full, under the headings of ``GROUPS``."""
    known = commands()
    parts = []
    for title, names in _grouped(known).items():
        parts.append(f"## {title}")
        parts += [_command(name, known[name]) for name in names]
    return "\n\n".join(parts)


def _grouped(known: dict[str, Any]) -> dict[str, list[str]]:
    groups = {title: [n for n in names if n in known] for title, names in GROUPS.items()}
    held = {name for names in groups.values() for name in names}
    if rest := [name for name in known if name not in held]:
        groups[REST] = rest
    return groups


def _command(name: str, command: Any) -> str:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    usage = " ".join(["edgeprune", name, *map(_place, arguments), *_needed(options), "[OPTIONS]"])
    parts = [f"### edgeprune {name}", f"```text\n{usage}\n```", prose(command.help or "")]
    if arguments:
        rows = [(f"`{_place(p)}`", VALUES.get(_kind(p), _kind(p)), line(p.help or ""))
                for p in arguments]  # fmt: skip
        parts.append(table(("Argument", "Value", "Meaning"), rows))
    if options:
        listed = [(_names(p), _value(p), *_default_and_help(p)) for p in options]
        parts.append(table(("Option", "Value", "Default", "Meaning"), listed))
    if examples := _examples(command.epilog or ""):
        parts.append("```sh\n" + "\n".join(examples) + "\n```")
    return "\n\n".join(parts)


def _place(parameter: Any) -> str:
    name = parameter.name.upper() + ("..." if parameter.nargs == -1 else "")
    return name if parameter.required else f"[{name}]"


def _needed(options: list[Any]) -> list[str]:
    return [f"{p.opts[0]} {_kind(p).upper()}" for p in options if p.required]


def _kind(parameter: Any) -> str:
    return str(getattr(parameter.type, "name", "path")).lower()


def _names(option: Any) -> str:
    return ", ".join(f"`{name}`" for name in (*option.opts, *option.secondary_opts))


def _value(option: Any) -> str:
    if getattr(option, "is_flag", False):
        return "flag"
    value = VALUES.get(_kind(option), _kind(option))
    return f"{value}, repeatable" if option.multiple else value


def _default_and_help(option: Any) -> tuple[str, str]:
    """Return an option's default and its meaning; a help text may say a default that Typer has not."""
    said = SAID.search(option.help or "")
    about = line(SAID.sub("", option.help or ""))
    return (_default(option) or (line(said[1]) if said else "")), about


def _default(option: Any) -> str:
    if option.required:
        return "required"
    default = option.default() if callable(option.default) else option.default
    if getattr(option, "is_flag", False):
        return ("on" if default else "off") if option.secondary_opts else ""
    if default is None or default == "" or default == []:
        return ""
    return f"`{default.as_posix() if isinstance(default, Path) else default}`"


def _examples(epilog: str) -> list[str]:
    """Return the commands of an epilog such as ``Example: A, or of phones: B``."""
    found = re.sub(r"^Examples?: ", "", " ".join(epilog.split()))
    return [text.strip() for text in ALSO.split(found) if text.startswith("edgeprune ")]
