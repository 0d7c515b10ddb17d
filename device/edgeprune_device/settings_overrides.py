"""Command-line options that override the settings file."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Settings
from edgeprune_device.settings_reader import RANGES


def apply_overrides(
    settings: Settings, given: Mapping[str, Mapping[str, Any]], options: Mapping[str, str]
) -> Settings:
    """Return the settings with some values replaced; a value of None changes nothing.

    Parameters
    ----------
    settings : Settings
    given : mapping
        Section -> key -> value.
    options : mapping
        Key such as ``decide.hop_seconds`` -> name of the option that sets it, for error messages.

    Raises
    ------
    EdgepruneError
        A number is out of range.

    """
    for part, values in given.items():
        kept = {key: value for key, value in values.items() if value is not None}
        for key, value in kept.items():
            low, high = RANGES.get(f"{part}.{key}", (-math.inf, math.inf))
            if not isinstance(value, str) and not low <= value <= high:
                name = options.get(f"{part}.{key}", f"{part}.{key}")
                raise EdgepruneError(
                    f"{name} {value:g} is out of range (allowed: {low:g} to {high:g})."
                )
        settings = replace(settings, **{part: replace(getattr(settings, part), **kept)})
    return settings
