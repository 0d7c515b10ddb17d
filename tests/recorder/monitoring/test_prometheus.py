"""What Prometheus gets, read with its own parser, over a real loopback socket."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import replace
from urllib.request import urlopen

import pytest
from prometheus_client.parser import text_string_to_metric_families
from running_status import RUNNING

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.monitoring.latency import LatencyTrack
from edgeprune_device.monitoring.prometheus import MOST_LABELS, OTHERS, Metrics, bounded
from edgeprune_device.monitoring.status import Status


@pytest.fixture(scope="module")
def metrics() -> Iterator[Metrics]:
    """Serve; each test sets the status that it asks for. (The end of a server takes half a second.)"""
    made = Metrics(0, clock=lambda: 110.0)
    yield made
    made.close()


def scraped(metrics: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    with urlopen(f"http://127.0.0.1:{metrics.port}/metrics", timeout=10) as page:
        text = page.read().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_counters_gauges_and_state_come_out_as_they_are(metrics: Metrics) -> None:
    metrics.status = replace(RUNNING, last_window_at=100.5, windows=7, reconnects=2,
                             alarms={"dead-microphone": "Silent."},
                             alarms_total={"dead-microphone": 3, "clipping": 1})  # fmt: skip
    found = scraped(metrics)
    hour = 16_000 * 3600
    expected = {
        ("edgeprune_samples_total", (("kind", "analysed"), ("reason", ""))): 97 * hour,
        ("edgeprune_samples_total", (("kind", "not captured"), ("reason", "microphone lost"))):
            2 * hour,
        ("edgeprune_detections_total", (("label", "robin"),)): 800,
        ("edgeprune_windows_total", ()): 7,
        ("edgeprune_reconnects_total", ()): 2,
        ("edgeprune_alarms_total", (("kind", "clipping"),)): 1,
        ("edgeprune_alarm", (("kind", "dead-microphone"),)): 1,
        ("edgeprune_alarm", (("kind", "clipping"),)): 0,
        ("edgeprune_sink_sent_total", (("sink", "mqtt"),)): 1230,
        ("edgeprune_sink_waiting", (("sink", "mqtt"),)): 4,
        ("edgeprune_last_window_age_seconds", ()): 9.5,
        ("edgeprune_temperature_celsius", ()): 61.3,
        ("edgeprune_throttled_flags", ()): 0x50000,
        ("edgeprune_disk_free_bytes", ()): 12_345.6e6,
        ("edgeprune_clock_synchronised", ()): 1,
        ("edgeprune_state", (("edgeprune_state", "listening"),)): 1,
        ("edgeprune_state", (("edgeprune_state", "lost"),)): 0,
    }  # fmt: skip
    for key, value in expected.items():
        assert found[key] == pytest.approx(value), key
    assert any(name == "edgeprune_info" for name, _ in found)


def test_latencies_are_a_histogram_that_reaches_a_minute(metrics: Metrics) -> None:
    latencies = LatencyTrack()
    for milliseconds in (3.0, 2000.0, 45_000.0):
        latencies.add(milliseconds)
    metrics.status = replace(RUNNING, latency_buckets=tuple(latencies.buckets()),
                             latency_sum_seconds=latencies.seconds)  # fmt: skip
    found = scraped(metrics)
    name = "edgeprune_window_latency_seconds"
    assert found[f"{name}_bucket", (("le", "0.005"),)] == 1
    assert found[f"{name}_bucket", (("le", "2.5"),)] == 2
    assert found[f"{name}_bucket", (("le", "60"),)] == 3
    assert found[f"{name}_bucket", (("le", "+Inf"),)] == 3
    assert found[f"{name}_sum", ()] == pytest.approx(47.003)


def test_what_is_not_known_has_no_line(metrics: Metrics) -> None:
    metrics.status = Status("starting")
    names = {name for name, _ in scraped(metrics)}
    for unknown in ("temperature_celsius", "throttled_flags", "disk_free_bytes", "level_dbfs",
                    "clock_synchronised", "real_time_factor", "last_window_age_seconds"):  # fmt: skip
        assert f"edgeprune_{unknown}" not in names
    assert "edgeprune_backlog_seconds" in names


def test_the_labels_are_bounded_and_the_first_ones_keep_their_series() -> None:
    counts = {f"text {n}": n + 1 for n in range(MOST_LABELS + 50)}
    found = bounded(counts)
    assert len(found) == MOST_LABELS + 1
    assert sum(found.values()) == sum(counts.values())
    counts["text 149"] += 1_000_000
    assert all(bounded(counts)[key] == found[key] for key in found if key != (OTHERS,))


def test_nobody_but_this_machine_can_ask(metrics: Metrics) -> None:
    assert metrics._server.server_address[0] == "127.0.0.1"


def test_a_port_that_is_taken_is_a_sentence() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(
            EdgepruneError, match=f"Port {port} for the metrics is used by"
        ) as error:
            Metrics(port)
        assert "operate.metrics_port" in error.value.hint


def test_when_it_is_closed_the_port_is_free_again() -> None:
    first = Metrics(0)
    port = first.port
    first.close()
    Metrics(port).close()
