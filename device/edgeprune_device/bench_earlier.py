"""Reading what a benchmark is compared with: a bench.json of schema 1 or 2, or a live file.

A live file is any JSON of ``listen`` that has the fields ``n``, ``p50_ms``, ``p90_ms``, ``p99_ms``,
``mean_ms``, ``min_ms``, ``max_ms`` and ``samples_ms`` together in one object, however deep; beside
them or at its top may stand ``threads``, ``runtime``, ``hop_seconds``, ``digest``, ``bundle`` (its name,
or an object with ``name`` and ``digest``) and ``machine``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.machine import throttle_reasons

STATISTICS = ("n", "p50_ms", "p99_ms", "samples_ms")
"""What makes an object of a live file one of statistics."""
MOST_DEPTH = 4


def read_earlier(path: Path) -> dict[str, Any]:
    """Read a bench.json, or a live file of ``listen``, as something to compare with.

    Returns
    -------
    dict
        ``source``, ``live``, ``machine``, ``edgeprune_version``, ``environment`` and ``variants``.

    Raises
    ------
    EdgepruneError
        No such file, or it holds neither.

    """
    try:
        held = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise EdgepruneError(f"{path} cannot be read: {error.strerror}.") from None
    except ValueError:
        raise EdgepruneError(f"{path} is not JSON.", "Give a bench.json.") from None
    if isinstance(held, dict):
        found: dict[str, Any] = {}
        if isinstance(held.get("variants"), list):
            found = {"live": False, "variants": held["variants"]}
        elif statistics := _statistics(held):
            found = {"live": True, "variants": [_live_row(held, statistics)], "state": _state(held)}
        if found.get("variants") and all(_is_row(row) for row in found["variants"]):
            keys = ("machine", "edgeprune_version", "environment", "verdict")
            return {**found, "source": str(path), **{key: held.get(key) for key in keys}}
    raise EdgepruneError(
        f"{path} holds no benchmark and no live statistics.",
        "Give a bench.json, or the status.json of a listener.",
    )


def _statistics(held: Mapping[str, Any], depth: int = 0) -> dict[str, Any] | None:
    """Return the first object in a live file that holds statistics of latencies."""
    if all(key in held for key in STATISTICS):
        return dict(held)
    for value in held.values():
        if isinstance(value, dict) and depth < MOST_DEPTH:
            found = _statistics(value, depth + 1)
            if found is not None:
                return found
    return None


def _live_row(held: Mapping[str, Any], statistics: Mapping[str, Any]) -> dict[str, Any]:
    """Return a live file's statistics as a row of a benchmark."""
    bundle = held.get("bundle")
    own = bundle if isinstance(bundle, dict) else {"name": bundle, "digest": held.get("digest")}
    return {"threads": held.get("threads"), "runtime": held.get("runtime"),
            "hop_seconds": held.get("hop_seconds"), "name": own.get("name"),
            "digest": own.get("digest"), **statistics}  # fmt: skip


def _state(held: Mapping[str, Any]) -> list[str]:
    """Return what a recorder says of its board and its load, as far as it may explain a latency."""
    machine = held.get("machine")
    machine = machine if isinstance(machine, dict) else {}
    said = []
    for key, unit in (("temperature_c", " °C"), ("frequency_mhz", " MHz"), ("load_average", "")):
        if isinstance(machine.get(key), int | float):
            said.append(f"{key.partition('_')[0]} {machine[key]:g}{unit}")
    flags = machine.get("throttled")
    if isinstance(flags, int) and flags:
        said.append(", ".join(throttle_reasons(flags)))
    if held.get("load") not in (None, "", "normal"):
        said.append(f"load shedding: {held['load']}")
    return [f"the recorder's board said: {'; '.join(said)}"] if said else []


def _is_row(row: Any) -> bool:
    """Tell whether a row has what a comparison reads, with numbers in it."""
    if not isinstance(row, dict) or "name" not in row:
        return False
    numbers = [row.get("n"), row.get("p50_ms"), row.get("p99_ms")]
    samples = row.get("samples_ms")
    if not isinstance(samples, list) or not samples:
        return False
    return all(isinstance(one, int | float) and one > 0 for one in (*numbers, *samples))
