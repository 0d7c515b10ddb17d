"""The capture process and its parent, with a sound library that counts: every frame has its place."""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from fake_sound_fixture import Fake, Heard
from fakes.sounddevice import counted
from faults_table import Tally
from receivers import wait_for

from edgeprune_device.audio import capture_supervisor
from edgeprune_device.audio import microphone as live
from edgeprune_device.audio.capture_supervisor import CaptureProcess
from edgeprune_device.audio.clock_drift import ClockDrift
from edgeprune_device.audio.sources import from_microphone
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Audio
from edgeprune_device.stream import Block, Notice

pytestmark = pytest.mark.usefixtures("nothing_is_left")
RATE = 48000


def assert_counted(heard: Heard, channel: int = 1) -> None:
    """Every sample heard stands at the frame that it was captured as."""
    line = np.rint(heard.line * 32768)
    there = np.flatnonzero(~np.isnan(line))
    np.testing.assert_array_equal(line[there], counted(there) + channel - 1)


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_what_the_device_gives_is_what_is_heard_to_the_sample(fake_sound: Fake, kind: str) -> None:
    fake_sound(formats=[kind], pace=4)
    with closing(from_microphone(Audio(channel=2), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > 5 * RATE)
        assert not heard.losses
        assert_counted(heard, channel=2)
        assert (microphone.device, microphone.rate) == ("counter", RATE)


def test_all_channels_are_averaged_and_the_gain_is_applied(fake_sound: Fake) -> None:
    fake_sound(pace=4)
    with closing(from_microphone(Audio(gain_db=-6), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > RATE)
    wanted = (counted(np.arange(heard.captured)) + 0.5) / 32768 * 10 ** (-6 / 20)
    np.testing.assert_allclose(heard.line, wanted, atol=1e-7)


def test_a_gain_that_is_too_high_clips_and_does_not_overflow(fake_sound: Fake) -> None:
    fake_sound(pace=4)
    with closing(from_microphone(Audio(channel=1, gain_db=20), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > RATE)
    assert heard.line.max() == 1.0


def test_what_a_slow_reader_misses_is_counted_to_the_frame(fake_sound: Fake) -> None:
    fake_sound(pace=10)
    with closing(from_microphone(Audio(channel=1, buffer_seconds=2.0), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > RATE)
        for _ in range(3):
            time.sleep(0.5)  # five seconds of sound
            heard.until(heard.more(3 * RATE))
        assert {reason for _, _, reason in heard.losses} == {"backlog"}
        assert heard.lost > 3 * 2 * RATE
        assert_counted(heard)
        assert max(block.backlog_seconds for block in heard.blocks) > 0.5
        assert microphone.backlog_seconds <= 2.0


def test_a_reader_that_sleeps_longer_than_the_pipe_remembers_still_counts_exactly(
    fake_sound: Fake,
) -> None:
    fake_sound(pace=10_000, stop=RATE * 320)  # 3,200 records; a pipe holds 2,048
    with closing(from_microphone(Audio(channel=1, buffer_seconds=2.0), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: microphone.child is not None)
        wait_for(lambda: has_ended(microphone.child or 0))
        heard.until(heard.noted("microphone-lost"))
        captured, lost = heard.captured, heard.lost
    assert_counted(heard)
    assert captured == 2 * RATE
    assert captured + lost == RATE * 320


def has_ended(number: int) -> bool:
    """Say whether a process of ours has ended, and is only still listed."""
    return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] == "Z"


def test_at_another_rate_the_losses_are_in_the_models_samples(fake_sound: Fake) -> None:
    fake_sound(pace=10)
    with closing(from_microphone(Audio(channel=1, buffer_seconds=2.0), 16000)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > 16000)
        time.sleep(0.5)
        heard.until(heard.more(32000))
    line = heard.line * 32768
    there = np.flatnonzero(~np.isnan(line))
    frames = counted(3 * there)
    smooth = (frames > 3000) & (frames < 27000)  # away from where the count begins anew
    edges = np.flatnonzero(np.diff(there) > 1)
    for edge in edges:
        smooth[max(0, edge - 200) : edge + 200] = False  # the filter begins anew
    smooth[:200] = smooth[-200:] = False
    assert len(edges) >= 1
    assert smooth.sum() > 20000
    np.testing.assert_allclose(line[there][smooth], frames[smooth], atol=2)


def test_an_overflow_is_a_gap_of_one_sample_where_it_was(fake_sound: Fake) -> None:
    fake_sound(pace=4, overflow=[7, 23])
    with closing(from_microphone(Audio(channel=1), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > 5 * RATE)
    assert heard.losses == [(7 * 4800, 1, "overflow"), (23 * 4800 + 1, 1, "overflow")]


@pytest.mark.slow
@pytest.mark.fault("F4")
def test_a_loss_that_no_flag_tells_is_found_by_the_clock(
    fake_sound: Fake, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """One hole of 0.5 s without a flag; what is lost: the hole, counted to 50 ms."""
    monkeypatch.setattr(
        "edgeprune_device.audio.capture_session.ClockDrift", lambda rate: ClockDrift(rate, 1.0)
    )
    fake_sound(hole=[25, RATE // 2])
    with closing(from_microphone(Audio(channel=1), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: bool(h.losses))
        assert [reason for _, _, reason in heard.losses] == ["driver"]
        assert heard.lost / RATE == pytest.approx(0.5, abs=0.05)
        heard.until(heard.more(2 * RATE))
        assert len(heard.losses) == 1
        assert abs(microphone.drift_samples) < 0.05 * RATE
    tally(1, 0, "frames lost without a flag: found by the clock")


@pytest.mark.fault("F8")
@pytest.mark.parametrize("taken", [[44100], [48000], [32000, 16000]])
def test_a_rate_that_is_refused_is_replaced_by_the_devices_own_or_another(
    fake_sound: Fake, taken: list[int], tally: Tally
) -> None:
    """Once for each of three devices that answer -9997 to 22,050 Hz; nothing is lost."""
    fake_sound(devices=[["counter", 1, 44100]], rates=taken, pace=4)
    with closing(from_microphone(Audio(), 22050)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > 22050)
        assert microphone.rate == taken[0]
        assert not heard.losses
    tally(1, 0)


@pytest.mark.fault("F8")
@pytest.mark.parametrize("wait", [False, True])
def test_a_device_that_takes_no_rate_at_all_is_one_sentence(
    fake_sound: Fake, wait: bool, tally: Tally
) -> None:
    """Once with and once without waiting; nothing is captured, and it is said at once."""
    fake_sound(rates=[], devices=[["counter", 1, 44100]])
    with (
        closing(from_microphone(Audio(), 22050, wait=wait)) as microphone,
        pytest.raises(
            EdgepruneError, match="supports none of the sample rates 22050, 44100, 48000, 32000"
        ),
    ):
        Heard(microphone).until(lambda h: False)
    tally(1, 0)


@pytest.mark.parametrize(
    ("audio", "sentence"),
    [(Audio(device="gramophone"), "There is no input 'gramophone'"),
     (Audio(channel=3), "has 2 channel"), (Audio(device="count"), "2 inputs match input 'count'")],
)  # fmt: skip
def test_what_can_not_be_opened_at_the_start_is_one_sentence(
    fake_sound: Fake, audio: Audio, sentence: str
) -> None:
    fake_sound(devices=[["counter", 2, 48000], ["county", 2, 48000]])
    with (
        closing(from_microphone(audio, RATE)) as microphone,
        pytest.raises(EdgepruneError, match=sentence) as error,
    ):
        Heard(microphone).until(lambda h: False)
    assert error.value.status == 2


def test_a_busy_device_is_an_error_at_the_start_and_waited_for_by_a_service(
    fake_sound: Fake,
) -> None:
    fake_sound(open=["Device unavailable", -9985])
    with (
        closing(from_microphone(Audio(), RATE)) as microphone,
        pytest.raises(EdgepruneError, match=r"cannot be opened: .*Device unavailable"),
    ):
        Heard(microphone).until(lambda h: False)
    with closing(from_microphone(Audio(), RATE, wait=True)) as microphone:
        began = time.monotonic()
        heard = Heard(microphone).until(lambda h: bool(h.notices))
        assert heard.kinds == ["microphone-absent"]
        fake_sound(channels=1)
        heard.until(lambda h: h.captured > RATE)
        assert heard.kinds == ["microphone-absent", "microphone-back"]
        assert heard.position / RATE == pytest.approx(time.monotonic() - began, abs=3.0)
        assert {reason for _, _, reason in heard.losses} == {"absent"}


@pytest.mark.parametrize(
    "how", [signal.SIGKILL, pytest.param(signal.SIGSTOP, marks=pytest.mark.slow)]
)
def test_a_capture_process_that_dies_or_freezes_is_replaced_and_the_gap_measured(
    fake_sound: Fake, how: signal.Signals
) -> None:
    fake_sound()
    with closing(from_microphone(Audio(channel=1, stall_seconds=1.0), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > RATE)
        first = microphone.child
        assert first is not None
        os.kill(first, how)
        began = time.monotonic()
        heard.until(lambda h: bool(h.notices))
        found = time.monotonic() - began
        heard.until(heard.noted("microphone-back"))
        heard.until(heard.more(RATE))
        assert heard.kinds[0] == ("microphone-lost" if how == signal.SIGKILL else
                                  "microphone-stalled")  # fmt: skip
        assert found < 10.0  # the machine may be busy
        assert heard.slowest < 5.0  # never stuck in a read
        assert microphone.child != first
        assert microphone.reconnects == 1
        seconds = heard.notices[-1][1].details["seconds"]
        assert heard.lost / RATE == pytest.approx(seconds, abs=1e-3)
        last = heard.blocks[-1]
        assert last.heard_at == pytest.approx(time.monotonic(), abs=3.0)


@pytest.mark.slow
def test_the_default_that_was_lost_is_not_replaced_by_the_next_default(fake_sound: Fake) -> None:
    fake_sound()
    with closing(from_microphone(Audio(stall_seconds=1.0), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > RATE)
        fake_sound(devices=[["webcam", 1, 48000]])
        os.kill(microphone.child or 0, signal.SIGKILL)
        heard.until(heard.noted("microphone-absent"))
        assert "There is no input 'counter'" in heard.notices[-1][1].text
        fake_sound(devices=[["webcam", 1, 48000], ["counter", 2, 48000]])
        heard.until(heard.noted("microphone-back"))
        assert microphone.device == "counter"


def test_without_a_process_the_waits_between_tries_grow_to_half_a_minute_and_every_second_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On a clock that only a sleep moves: no process can be started for three minutes."""
    now, tries = [100.0], list[float]()

    def start(*_: object) -> CaptureProcess:
        tries.append(now[0] - 100.0)
        raise OSError("no more processes")

    def sleep(seconds: float) -> None:
        now[0] += seconds

    monkeypatch.setattr(live, "time", SimpleNamespace(sleep=sleep))
    microphone = live.Microphone(Audio(), 1000, clock=lambda: now[0], wait=True, start=start)
    items = []
    while now[0] < 280.0:
        items.append(next(microphone))
    assert tries == pytest.approx([0, 1, 3, 7, 15, 31, 61, 91, 121, 151])
    assert [item.kind for item in items if isinstance(item, Notice)] == [
        "microphone-absent", "microphone-lost",  # each kind of trouble once
    ]  # fmt: skip
    lost = [item for item in items if isinstance(item, Block)]
    assert {(block.reason, len(block.samples)) for block in lost} == {("absent", 0)}
    assert all(1000 <= block.lost_samples < 2000 for block in lost)
    rest = microphone.rest()
    assert rest is not None
    told = sum(block.lost_samples for block in [*lost, rest])
    assert told == pytest.approx(1000 * (now[0] - 100.0), abs=1)
    microphone.close()


@pytest.mark.slow
def test_the_waits_between_tries_grow_and_an_outage_is_told_each_second(
    fake_sound: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "LONGEST_WAIT_SECONDS", 2.0)
    fake_sound(stop=RATE // 2)
    with closing(from_microphone(Audio(channel=1), RATE)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured == RATE // 2)
        fake_sound(devices=[])
        heard.until(lambda h: len(h.losses) >= 3)
    assert [reason for _, _, reason in heard.losses] == ["microphone lost"] * 3
    assert all(RATE <= lost < 2 * RATE for _, lost, _ in heard.losses)


def test_closing_is_quick_even_if_the_capture_process_is_frozen(fake_sound: Fake) -> None:
    fake_sound()
    microphone = from_microphone(Audio(), RATE)
    Heard(microphone).until(lambda h: h.captured > 0)
    number = microphone.child
    assert number is not None
    os.kill(number, signal.SIGSTOP)
    begin = time.monotonic()
    microphone.close()
    microphone.close()
    assert time.monotonic() - begin < capture_supervisor.END_SECONDS  # it was not waited for
    assert not os.path.exists(f"/proc/{number}")
    with pytest.raises(StopIteration):
        next(microphone)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_whatever_happens_heard_and_lost_together_keep_up_with_the_clock(
    fake_sound: Fake, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setattr(live, "HEALTHY_SECONDS", 0.5)
    fake_sound()
    random = np.random.default_rng(seed)
    audio = Audio(channel=1, stall_seconds=1.0, buffer_seconds=2.0)
    with closing(from_microphone(audio, 16000)) as microphone:
        heard = Heard(microphone).until(lambda h: h.captured > 16000)
        began = time.monotonic() - heard.position / 16000
        for _ in range(12):
            event = random.integers(4)
            if event < 2 and microphone.child is not None:
                os.kill(microphone.child, (signal.SIGKILL, signal.SIGSTOP)[event])
            if event == 2:
                time.sleep(random.uniform(0.5, 4.0))  # the model is busy
            until = time.monotonic() + random.uniform(0.5, 3.0)
            while time.monotonic() < until:
                heard.take(next(microphone))
        heard.until(heard.more(2 * 16000))
        assert microphone.backlog_seconds < 0.5
        assert heard.position / 16000 == pytest.approx(time.monotonic() - began, abs=0.3)
        assert {"backlog", "stalled", "microphone lost"} >= {
            reason for _, _, reason in heard.losses
        }
