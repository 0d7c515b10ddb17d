"""Doctor's recording: what is counted of it, how fast it came, and what its seconds are like."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from tiny_recordings import RATE

from edgeprune_device.doctor import probe as probe
from edgeprune_device.doctor.sound_check import Recording, clock_ratio, record, seconds_of
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Audio
from edgeprune_device.stream import Block, Notice


class Scripted:
    """A source that gives what it is told to."""

    device, rate = "scripted", 48_000

    def __init__(self, items: list[Any]) -> None:
        self.items, self.closed = items, False

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def close(self) -> None:
        self.closed = True


def test_losses_and_notices_are_counted_and_the_source_is_closed() -> None:
    piece = np.ones(RATE // 10, np.float32)
    source = Scripted([None, Notice("x", "It hiccuped."), Block(piece), Block(piece, 40, "driver"),
                       *[Block(piece)] * 20])  # fmt: skip
    heard = record(Audio(), RATE, 1.0, open_microphone=lambda _a, _r: source)
    assert (heard.lost, heard.reasons, heard.notices) == (40, ("driver",), ("It hiccuped.",))
    assert heard.seconds == pytest.approx(1.0)
    assert source.closed
    assert (heard.device, heard.rate) == ("scripted", 48_000)


def test_a_microphone_that_sends_nothing_ends_after_its_patience() -> None:
    clock = iter(float(n) for n in range(100))
    with pytest.raises(EdgepruneError, match="The microphone has sent no audio for 30 s"):
        record(Audio(), RATE, 1.0, open_microphone=lambda _a, _r: Scripted([None] * 90),
               clock=lambda: next(clock))  # fmt: skip


def test_the_rate_is_the_slope_after_the_first_burst() -> None:
    burst = [(10.0, 8000)] + [(10.0 + n / 10, 8000 + 1600 * n) for n in range(1, 50)]
    assert clock_ratio(burst, RATE) == pytest.approx(1.0)
    slow = [(10.0 + n / 10, 1470 * n) for n in range(1, 50)]
    assert clock_ratio(slow, RATE) == pytest.approx(1470 / 1600)
    assert clock_ratio(burst[:5], RATE) is None
    assert clock_ratio([], RATE) is None


def test_a_recording_ends_when_there_is_enough_and_not_before() -> None:
    pieces = [Block(np.full(RATE // 10, n, np.float32)) for n in range(100)]
    heard = record(Audio(), RATE, 2.5, open_microphone=lambda _a, _r: Scripted(pieces))
    assert heard.seconds == 2.5
    assert heard.samples[:: RATE // 10].tolist() == list(range(25))


def test_what_was_asked_for_is_opened_and_what_is_not_told_has_a_name() -> None:
    asked = list[tuple[Audio, int]]()
    audio = Audio(device="usb")

    class Nameless(Scripted):
        device, rate = "", 0

    def opened(*given: Any) -> Scripted:
        asked.append(given)
        return Nameless([Block(np.ones(RATE, np.float32))])

    heard = record(audio, RATE, 1.0, open_microphone=opened)
    assert asked == [(audio, RATE)]
    assert (heard.device, heard.rate, heard.model_rate) == ("default", RATE, RATE)


def recording(samples: Any) -> Recording:
    return Recording("d", RATE, np.asarray(samples, np.float32), RATE, 0, (), None, ())


def test_the_figures_of_a_recording_are_those_of_its_samples() -> None:
    sine = 0.5 * np.sin(2 * np.pi * 440 * np.arange(3 * RATE) / RATE) + 0.1
    sine[:48] = 1.0
    found = recording(sine).described()
    assert found["seconds"] == 3.0
    assert found["level_db"] == pytest.approx(10 * np.log10(np.mean(sine**2)), abs=1e-3)
    assert found["peak_db"] == pytest.approx(0.0, abs=1e-6)
    assert found["offset"] == pytest.approx(sine.mean(), abs=1e-6)
    assert found["clipped"] == pytest.approx(48 / (3 * RATE))
    assert found["faults"] == {"offset": 3, "clipping": 1}


def test_faults_are_counted_by_the_second_and_silence_has_no_level() -> None:
    noise = np.random.default_rng(0).normal(0, 0.02, 2 * RATE)
    found = recording(np.concatenate([np.zeros(3 * RATE), noise])).described()
    assert found["faults"] == {"silent": 3}
    silent = recording(np.zeros(RATE)).described()
    assert (silent["level_db"], silent["peak_db"]) == (-np.inf, -np.inf)
    nothing = recording([]).described()
    assert (nothing["seconds"], nothing["offset"], nothing["faults"]) == (0, 0, {})


def test_what_had_waited_and_comes_at_once_is_no_faster_clock() -> None:
    waited = [(10.0 + n / 100, 1600 * (n + 1)) for n in range(20)]  # two seconds in a fifth of one
    steady = [(10.2 + n / 10, 32_000 + 1600 * (n + 1)) for n in range(30)]
    assert clock_ratio([*waited, *steady], RATE) == pytest.approx(1.0)


def test_whole_seconds_are_looked_at_and_of_less_than_one_all_there_is() -> None:
    assert [len(one) for one in seconds_of(np.zeros(25, np.float32), 10)] == [10, 10]
    assert [len(one) for one in seconds_of(np.zeros(7, np.float32), 10)] == [7]
    assert list(seconds_of(np.zeros(0, np.float32), 10)) == []
