"""Options of the command line in place of what the settings file says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Settings
from edgeprune_device.settings_reader import RANGES


def changed(
    settings: Settings, given: Mapping[str, Mapping[str, Any]], options: Mapping[str, str]
) -> Settings:
    """Return settings with values in their place; None changes nothing.

    Parameters
    ----------
    settings : Settings
    given : mapping
        Part to key to value.
    options : mapping
        What a key such as ``decide.hop_seconds`` is called where it was given, for an error.

    """
    for part, values in given.items():
        kept = {key: value for key, value in values.items() if value is not None}
        for key, value in kept.items():
            low, high = RANGES.get(f"{part}.{key}", (-math.inf, math.inf))
            if not isinstance(value, str) and not low <= value <= high:
                name = options.get(f"{part}.{key}", f"{part}.{key}")
                raise EdgepruneError(
                    f"{name} {value:g} makes no sense.", f"It lies between {low:g} and {high:g}."
                )
        settings = replace(settings, **{part: replace(getattr(settings, part), **kept)})
    return settings
