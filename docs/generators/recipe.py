"""The recipe's settings: a table for each section, with the ranges that ``build_settings`` checks."""

from __future__ import annotations

from edgeprune.core import recipe, recipe_checks
from edgeprune.core.settings import Settings
from generators.fields import Key, keys_of, section, sections_of
from generators.markdown import choices, line, number, table

TOLD: dict[str, str] = {}
"""Meaning of keys that have no string in the code, by their full name."""


def listing() -> str:
    """Return the keys at the top of a recipe, then those of every section."""
    parts = [("", Settings), *sections_of(Settings)]
    return "\n\n".join(section(name, cls, allowed, TOLD, "") for name, cls in parts)


def summary() -> str:
    """Return a table of the sections, each with what its dataclass says in a line."""
    rows = [(f"[`[{name}]`](#{name})", line(cls.__doc__ or ""), str(len(list(keys_of(cls)))))
            for name, cls in sections_of(Settings)]  # fmt: skip
    return table(("Section", "What it is for", "Keys"), rows)


def presets() -> str:
    """Return a table of the recipes that ship with edgeprune, each with its own first comment."""
    rows = []
    for file in sorted(recipe.RECIPES.glob("*.toml")):
        comments = []
        for text in file.read_text("utf-8").splitlines():
            if not text.startswith("#"):
                break
            comments.append(text.lstrip("# "))
        rows.append((f"`{file.stem}`", line(" ".join(comments))))
    return table(("Recipe", "What it does"), rows)


def allowed(name: str, key: Key) -> str:
    """Return which values of a key are allowed; empty where every one of its type is."""
    if name in recipe_checks.CHOICES:
        return choices(recipe_checks.CHOICES[name])
    if name in recipe_checks.EACH_OF:
        return f"any of {choices(recipe_checks.EACH_OF[name])}"
    if name in recipe_checks.BETWEEN:
        low, high = recipe_checks.BETWEEN[name]
        return f"{number(low)} to {number(high)}"
    if name in recipe_checks.ODD:
        return "odd, at least 1"
    if key.type == "boolean":
        return choices(("true", "false"))
    most = "1" if name in recipe_checks.AT_MOST_ONE else ""
    if name in recipe_checks.POSITIVE:
        return "at least 1"
    if name in recipe_checks.MORE_THAN_ZERO:
        return f"over 0, at most {most}" if most else "over 0"
    if name in recipe_checks.AT_LEAST_ZERO:
        return f"0 to {most}" if most else "at least 0"
    return ""
