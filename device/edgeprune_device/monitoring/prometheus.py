"""Prometheus metrics of a recorder, on this machine's loopback interface only.

They are computed on request from the same status that ``status.json`` has. An unknown value has no
line: never a made-up 0.
"""

from __future__ import annotations

import errno
import importlib.metadata
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.monitoring.status import STARTING, STATES, Status

LOOPBACK = "127.0.0.1"
MOST_LABELS = 100
"""Labels with their own time series: the first ones, as a counter must keep its meaning."""
OTHERS = "(others)"
BYTES_PER_MB = 1_000_000
Number = float | int | None
GAUGES: tuple[tuple[str, str, Callable[[Status], Number]], ...] = (
    ("backlog_seconds", "Audio that waits to be analysed.", lambda s: s.backlog_seconds),
    ("level_dbfs", "RMS level of the last block.", lambda s: s.level_db),
    ("load_level", "Level of load reduction; 0: none.", lambda s: s.load_level),
    ("real_time_factor", "Median latency / hop.", lambda s: s.latency.get("real_time_factor")),
    ("temperature_celsius", "Warmest thermal zone.", lambda s: s.machine.get("temperature_c")),
    ("throttled_flags", "Raspberry Pi get_throttled flags.", lambda s: s.machine.get("throttled")),
    ("disk_free_bytes", "Free disk space for the journal.",
     lambda s: None if s.free_disk_mb is None else s.free_disk_mb * BYTES_PER_MB),
    ("journal_pending", "Detections that wait to be written to disk.", lambda s: s.journal_pending),
    ("clock_synchronised", "1: clock is synchronised.", lambda s: s.clock.get("synchronised")),
)  # fmt: skip
COUNTERS: tuple[tuple[str, str, tuple[str, ...], Callable[[Status], Mapping[Any, float]]], ...] = (
    ("samples", "Samples by coverage kind and reason.", ("kind", "reason"),
     lambda s: {(k, r): n for k, by in s.coverage.items() for r, n in by.items()}),
    ("detections", "Detections by label.", ("label",), lambda s: bounded(s.detections)),
    ("windows", "Windows analysed.", (), lambda s: {(): s.windows}),
    ("reconnects", "Number of microphone reconnections.", (), lambda s: {(): s.reconnects}),
    ("alarms", "Alarms raised.", ("kind",), lambda s: _keyed(s.alarms_total)),
    ("sink_sent", "Detections sent.", ("sink",),
     lambda s: {(name,): float(sink.get("sent", 0)) for name, sink in s.sinks.items()}),
)  # fmt: skip


class Metrics:
    """HTTP server of the metrics.

    Parameters
    ----------
    port : int
        Port on the loopback interface; 0 chooses a free one.
    clock : callable
        Returns monotonic seconds.

    Raises
    ------
    EdgepruneError
        The port is in use or cannot be used (status 1).
        The port is taken (status 1) or may not be used.

    """

    def __init__(self, port: int, clock: Callable[[], float] = time.monotonic) -> None:
        from prometheus_client import CollectorRegistry, start_http_server

        self.status = Status(STARTING)
        """The status shown; the loop replaces it."""
        self._clock = clock
        registry = CollectorRegistry()
        registry.register(self)  # it needs only collect
        try:
            self._server, self._thread = start_http_server(port, LOOPBACK, registry)
        except OSError as error:
            taken = error.errno == errno.EADDRINUSE
            why = "is used by another program" if taken else f"cannot be used: {error.strerror}"
            raise EdgepruneError(
                f"Port {port} for the metrics {why}.",
                "Choose another with operate.metrics_port; 0 turns metrics off.", FAILED_CHECK,
            ) from None  # fmt: skip
        self.port = int(self._server.server_address[1])

    def collect(self) -> Iterator[Any]:
        """Yield the metric families of the current status, for the registry."""
        return families(self.status, self._clock())

    def close(self) -> None:
        """Stop the server and its thread."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def families(status: Status, monotonic: float) -> Iterator[Any]:
    """Yield a status as Prometheus metric families.

    Parameters
    ----------
    status : Status
    monotonic : float
        Current monotonic time in seconds, for the age of the last window.

    """
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        InfoMetricFamily,
        StateSetMetricFamily,
    )

    for name, said, keys, read in COUNTERS:
        counter = CounterMetricFamily(f"edgeprune_{name}", said, labels=keys)
        for values, count in read(status).items():
            counter.add_metric(values, count)
        yield counter
    age = None if status.last_window_at is None else max(0.0, monotonic - status.last_window_at)
    plain = [(name, said, read(status)) for name, said, read in GAUGES]
    for name, said, value in (
        *plain,
        ("last_window_age_seconds", "Age of the last window.", age),
    ):
        gauge = GaugeMetricFamily(f"edgeprune_{name}", said)
        if value is not None:
            gauge.add_metric((), float(value))
        yield gauge
    waiting = GaugeMetricFamily(
        "edgeprune_sink_waiting", "Detections that wait to be sent.", labels=("sink",)
    )
    for name, sink in status.sinks.items():
        waiting.add_metric((name,), float(sink.get("waiting", 0)))
    yield waiting
    standing = GaugeMetricFamily("edgeprune_alarm", "Active alarms.", labels=("kind",))
    for kind in status.alarms_total.keys() | status.alarms.keys():
        standing.add_metric((kind,), float(kind in status.alarms))
    yield standing
    yield StateSetMetricFamily(
        "edgeprune_state", "State of the recorder.", {name: name == status.state for name in STATES}
    )
    yield InfoMetricFamily("edgeprune", "Version, bundle and source.", {
        "version": _version(), "bundle": status.bundle, "digest": status.digest,
        "source": status.source,
    })  # fmt: skip
    latency = HistogramMetricFamily("edgeprune_window_latency_seconds", "Latency of a window.")
    if status.latency_buckets:
        ends = [("+Inf" if end == float("inf") else f"{end:g}", float(count))
                for end, count in status.latency_buckets]  # fmt: skip
        latency.add_metric((), ends, status.latency_sum_seconds)
    yield latency


def bounded(counts: Mapping[str, int]) -> dict[tuple[str], float]:
    """Return the counts of the first ``MOST_LABELS`` labels, and the sum of all others."""
    ordered = list(counts.items())
    found = {(label,): float(count) for label, count in ordered[:MOST_LABELS]}
    if rest := ordered[MOST_LABELS:]:
        found[(OTHERS,)] = float(sum(count for _, count in rest))
    return found


def _keyed(counts: Mapping[str, int]) -> dict[tuple[str], float]:
    return {(key,): float(count) for key, count in counts.items()}


def _version() -> str:
    try:
        return importlib.metadata.version("edgeprune")
    except importlib.metadata.PackageNotFoundError:
        return ""
