"""Recipes: the settings of a run, read from TOML, merged with command-line values, and checked.

Presets are in ``presets/``; the complete recipe of a run is saved beside its result.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_type_hints

from edgeprune.core.recipe_checks import check_settings
from edgeprune.core.settings import Settings
from edgeprune_device.errors import EdgepruneError

RECIPES = Path(__file__).parent / "presets"
RENAMED = {
    "paper-seed1": "paper-bird-poster", "paper-seed2": "paper-2408.11858",
    "paper-seed3": "paper-2409.16302", "paper-seed4": "paper-genova",
}  # fmt: skip
"""Earlier names of presets, which are still read."""


def load_recipe(recipe: str | Path = "", **changes: Any) -> Settings:
    """Return the settings of a preset or a recipe file, with individual values changed.

    Parameters
    ----------
    recipe : str or Path
        Name of a preset (``quick``, ``depth``, ``trim``, ``mimic``, ``light``, ``tiny``,
        ``paper-...``) or a TOML file; empty: the defaults.
    **changes
        Settings by name; those of a section as a dict.

    Raises
    ------
    EdgepruneError
        There is no such recipe, a setting is unknown (the nearest known one is named), or a value
        is out of range.

    Examples
    --------
    >>> edgeprune.load_recipe("tiny", seeds=1, clips={"label": "species"})

    """
    if not str(recipe):
        return build_settings(changes)
    path = find_recipe(str(recipe))
    return build_settings(read_recipe(path), changes, source=str(path))


def settings_of(recipe: Settings | str | Path | None) -> Settings:
    """Return settings, those of a recipe by its name or file, or for None the defaults.

    Raises
    ------
    EdgepruneError
        It is none of these; or an error of ``load_recipe``.

    """
    if recipe is None or isinstance(recipe, Settings):
        return recipe or Settings()
    if isinstance(recipe, str | Path):
        return load_recipe(recipe)
    raise EdgepruneError(
        f"settings of type {type(recipe).__name__} are not supported.",
        'Use a recipe\'s name or file, or edgeprune.load_recipe("tiny", seeds=1).',
    )


def find_recipe(name: str) -> Path:
    """Return the file of a recipe: a preset by name, or the user's own file.

    Raises
    ------
    EdgepruneError
        ``name`` is neither a file nor a known preset.

    """
    known = sorted(path.stem for path in RECIPES.glob("*.toml"))
    if not Path(name).exists():
        name = RENAMED.get(name, name)
    if name in known and not Path(name).exists():
        return RECIPES / f"{name}.toml"
    if not Path(name).is_file():
        near = difflib.get_close_matches(name, known, n=1)
        raise EdgepruneError(
            f"There is no recipe {name!r}.",
            f"Did you mean {near[0]}?" if near
            else f"Use a TOML file, or one of: {', '.join(known)}.",
        )  # fmt: skip
    return Path(name)


def read_recipe(path: Path) -> dict[str, Any]:
    """Read a recipe file into nested plain values.

    Raises
    ------
    EdgepruneError
        The file cannot be read or is not TOML.

    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EdgepruneError(f"The recipe {path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise EdgepruneError(f"The recipe {path} is not TOML: {error}.") from error


def build_settings(*layers: Mapping[str, Any], source: str = "") -> Settings:
    """Merge nested plain values, later ones taking precedence, into checked settings.

    Parameters
    ----------
    *layers : mapping
        Values by name; those of a section as a mapping.
    source : str
        File that the first layer was read from, for its errors.

    Raises
    ------
    EdgepruneError
        A name is unknown (the nearest known one is named), or a value has the wrong type or is out
        of range.

    """
    settings = Settings()
    for number, values in enumerate(layers):
        try:
            settings = _merge(settings, values, "")
        except EdgepruneError as error:
            if number or not source:
                raise
            raise EdgepruneError(f"{source}: {error}", error.hint) from None
    check_settings(settings)
    return settings


def to_toml(settings: Settings) -> str:
    """Format settings as a TOML recipe that ``read_recipe`` reads back to the same settings."""
    top, tables = [], []
    for item in dataclasses.fields(settings):
        value = getattr(settings, item.name)
        if dataclasses.is_dataclass(value):
            lines = [
                f"{f.name} = {_toml(getattr(value, f.name))}" for f in dataclasses.fields(value)
            ]
            tables.append("\n".join([f"[{item.name}]", *lines]))
        else:
            top.append(f"{item.name} = {_toml(value)}")
    return "\n\n".join(["\n".join(top), *tables]) + "\n"


def _merge(settings: Any, values: Mapping[str, Any], prefix: str) -> Any:
    fields = {item.name: getattr(settings, item.name) for item in dataclasses.fields(settings)}
    kinds = get_type_hints(type(settings))
    changes: dict[str, Any] = {}
    for name, value in values.items():
        if name not in fields:
            near = difflib.get_close_matches(name, fields, n=1)
            hint = f"Did you mean {prefix}{near[0]}?" if near else f"Known: {', '.join(fields)}."
            raise EdgepruneError(f"The recipe has no setting {prefix}{name}.", hint)
        changes[name] = _fit(fields[name], kinds[name], value, f"{prefix}{name}")
    return dataclasses.replace(settings, **changes)


def _fit(default: Any, kind: Any, value: Any, name: str) -> Any:
    """Check a value against the type of its field."""
    if dataclasses.is_dataclass(default):
        if isinstance(value, Mapping):
            return _merge(default, value, f"{name}.")
    elif isinstance(default, tuple):
        if isinstance(value, (list, tuple)):
            kinds = get_args(kind)
            if kinds[-1] is Ellipsis:
                kinds = kinds[:1] * len(value)
            if len(value) == len(kinds) and all(map(_is_a, value, kinds)):
                return tuple(k(item) for item, k in zip(value, kinds, strict=True))
    elif _is_a(value, kind):
        return kind(value)
    raise EdgepruneError(f"{name} = {value!r} has the wrong type.", f"Its default is {default!r}.")


def _is_a(value: Any, kind: type) -> bool:
    """Return whether a value has a type: an int counts as float; a bool or NaN does not."""
    if kind is float:
        return type(value) in (int, float) and math.isfinite(value)
    return type(value) is kind


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", r"\u007f")
    if isinstance(value, tuple):
        return "[" + ", ".join(_toml(item) for item in value) + "]"
    return repr(value)
