"""The status of a recorder that is running well."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from edgeprune_device.monitoring.latency import LatencyTrack
from edgeprune_device.monitoring.status import (
    LISTENING,
    Status,
    nested,
)
from edgeprune_device.sinks.delivery import DeliveryStats as SinkAccount

HOUR = 16_000 * 3600


def latency() -> dict[str, Any]:
    made = LatencyTrack()
    for value in (40.0, 41.0, 60.0):
        made.add(value)
    return made.summary(0.5, 1.0)


RUNNING = Status(
    LISTENING, bundle="birds", digest="3f2a91c0aa", source="microphone USB", rate=16_000,
    started_utc="2026-05-01T04:12:00+00:00",
    coverage=nested({("analysed", ""): 97 * HOUR, ("not captured", "microphone lost"): 2 * HOUR,
                     ("dropped", "backlog"): HOUR}),
    detections={"robin": 800, "wren": 400}, latency=latency(), free_disk_mb=12_345.6,
    last_detection={"utc": "2026-05-01T05:12:33+00:00", "label": "robin", "score": 0.93},
    sinks={"mqtt": asdict(SinkAccount(sent=1230, waiting=4))},
    machine={"temperature_c": 61.3, "throttled": 0x50000},
    clock={"synchronised": True, "source": "kernel", "offset_bound_seconds": 0.01},
)  # fmt: skip
