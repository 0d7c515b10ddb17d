"""Faults of the microphone, through real PortAudio: F4 to F7, and processes that die or freeze.

Each fault is tried once in the quick suite and five times with ``-m slow``. What is lost is held
against what was played: noise is heard before and after, and where it lies tells how much of it
went by meanwhile, whatever the program says.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_sound_fixture import Heard
from faults_table import Tally
from numpy.typing import NDArray
from pulse_fixture import RATE, Pulse

from edgeprune_device.audio import microphone as live
from edgeprune_device.audio.microphone import Microphone
from edgeprune_device.audio.sources import from_microphone
from edgeprune_device.settings import Audio

TRIES = pytest.mark.parametrize("tries", [1, pytest.param(5, marks=pytest.mark.slow)])
STALL = 1.0
PIECE = 2000  # samples of noise that tell a place


@pytest.fixture
def microphone(pulse: Pulse, monkeypatch: pytest.MonkeyPatch) -> Iterator[Microphone]:
    """Listen to the virtual microphone; afterwards no capture process is left."""
    for name, value in pulse.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(live, "HEALTHY_SECONDS", 0.5)  # the first wait each time, and not the next
    with closing(from_microphone(Audio(stall_seconds=STALL), RATE)) as source:
        yield source
    assert not pulse.capture_processes()


@pytest.fixture(scope="module")
def noise(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, NDArray[np.float32]]:
    """A minute of noise, as a file and as samples."""
    path = tmp_path_factory.mktemp("noise") / "noise.wav"
    samples = np.random.default_rng(0).integers(-8000, 8000, 60 * RATE).astype(np.int16)
    soundfile.write(path, samples, RATE, subtype="PCM_16")
    return path, samples.astype(np.float32) / np.float32(32768)


def place(line: NDArray[np.float32], at: int, noise: NDArray[np.float32]) -> int:
    """Return where in the noise a piece of the stream's line lies, less its place in the line."""
    piece = line[at : at + PIECE]
    assert not np.isnan(piece).any()
    size = 1 << int(np.ceil(np.log2(len(noise) + PIECE)))
    spectrum = np.fft.rfft(noise, size) * np.conj(np.fft.rfft(piece, size))
    found = int(np.fft.irfft(spectrum, size)[: len(noise) - PIECE].argmax())
    np.testing.assert_allclose(piece, noise[found : found + PIECE], atol=2e-4)
    return found - at


def error_of_gaps(heard: Heard, noise: NDArray[np.float32], before: int) -> float:
    """Return how many seconds of noise went by in a stretch of gaps more than were counted."""
    line = heard.line
    return (place(line, len(line) - PIECE, noise) - place(line, before - PIECE, noise)) / RATE


def kept_up(heard: Heard, began: float, tolerance: float = 0.3) -> None:
    """Samples heard and lost are as many as the clock says."""
    assert heard.position / RATE == pytest.approx(time.monotonic() - began, abs=tolerance)


@pytest.mark.fault("F4")
@TRIES
def test_a_source_that_vanishes_is_noticed_counted_and_heard_again(
    pulse: Pulse, microphone: Microphone, tries: int, tally: Tally
) -> None:
    """Once (five times): the sink and its source are unloaded, and loaded again; lost: that time.

    Both, as PulseAudio moves a stream to another source if there is one, and tells nobody.
    """
    heard = Heard(microphone).until(lambda h: h.captured > RATE)
    began, noticed = time.monotonic() - heard.position / RATE, []
    for number in range(1, tries + 1):
        gone, lost = time.monotonic(), heard.lost
        pulse.unload()
        heard.until(heard.noted("microphone-lost", number))
        noticed.append(time.monotonic() - gone)
        pulse.load()
        heard.until(heard.noted("microphone-back", number))
        back = time.monotonic()
        heard.until(heard.more(RATE))
        assert (heard.lost - lost) / RATE == pytest.approx(back - gone, abs=1.0)
        kept_up(heard, began)
    assert heard.kinds == ["microphone-lost", "microphone-back"] * tries
    assert {reason for _, _, reason in heard.losses} == {"microphone lost"}
    assert microphone.reconnects == tries
    assert max(noticed) < 1.0
    assert heard.slowest < 1.0
    tally(tries, 0, f"source unloaded: noticed after {max(noticed):.2f} s, reconnected")


@pytest.mark.fault("F5")
@TRIES
def test_a_sound_server_that_is_killed_and_started_again_is_heard_again(
    pulse: Pulse, microphone: Microphone, tries: int, tally: Tally
) -> None:
    """Once (five times): SIGKILL to the server, and a new one; lost: that time."""
    heard = Heard(microphone).until(lambda h: h.captured > RATE)
    began, noticed = time.monotonic() - heard.position / RATE, []
    for number in range(1, tries + 1):
        gone, lost = time.monotonic(), heard.lost
        pulse.stop()
        heard.until(heard.noted("microphone-lost", number))
        noticed.append(time.monotonic() - gone)
        pulse.start()
        heard.until(heard.noted("microphone-back", number))
        back = time.monotonic()
        heard.until(heard.more(RATE))
        assert (heard.lost - lost) / RATE == pytest.approx(back - gone, abs=1.0)
        kept_up(heard, began)
    assert heard.kinds == ["microphone-lost", "microphone-back"] * tries
    assert max(noticed) < 1.0
    assert heard.slowest < 1.0
    tally(tries, 0, f"noticed after {max(noticed):.2f} s, reconnected")


@pytest.mark.fault("F6")
@TRIES
def test_a_sound_server_that_freezes_costs_a_capture_process_and_never_the_parent(
    pulse: Pulse, microphone: Microphone, tries: int, tally: Tally
) -> None:
    """Once (five times): SIGSTOP to the server; replaced within the stall time and two seconds."""
    heard = Heard(microphone).until(lambda h: h.captured > RATE)
    began, replaced = time.monotonic() - heard.position / RATE, []
    for number in range(1, tries + 1):
        first, frozen = microphone.child, time.monotonic()
        pulse.freeze()
        heard.until(heard.noted("microphone-stalled", number))
        while microphone.child in (None, first):
            heard.take(next(microphone))
        replaced.append(time.monotonic() - frozen)
        assert not Path(f"/proc/{first}").exists()
        pulse.thaw()
        heard.until(heard.noted("microphone-back", number))
        heard.until(heard.more(RATE))
        kept_up(heard, began)
    assert heard.kinds == ["microphone-stalled", "microphone-back"] * tries
    assert {reason for _, _, reason in heard.losses} == {"stalled"}
    assert max(replaced) < STALL + 2
    assert heard.slowest < 1.0
    note = (
        f"capture replaced after {max(replaced):.2f} s (stall_seconds {STALL:g}), the loop never "
    )
    tally(tries, 0, f"{note}waited over {heard.slowest:.2f} s")


@pytest.mark.fault("F6")
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
@TRIES
def test_a_capture_process_that_is_killed_or_frozen_is_replaced(
    pulse: Pulse, microphone: Microphone, noise: tuple[Path, NDArray[np.float32]],
    how: signal.Signals, tries: int, tally: Tally,
) -> None:  # fmt: skip
    """Once (five times) each: a signal to the capture process; lost: until the next, to 50 ms."""
    player, wrong = pulse.play(noise[0]), []
    heard = Heard(microphone).until(lambda h: h.captured > RATE)
    for number in range(1, tries + 1):
        before, at = heard.position, time.monotonic()
        os.kill(microphone.child or 0, how)
        kind = "microphone-lost" if how == signal.SIGKILL else "microphone-stalled"
        heard.until(heard.noted(kind, number))
        assert time.monotonic() - at < (0.5 if how == signal.SIGKILL else STALL + 2)
        heard.until(heard.noted("microphone-back", number))
        heard.until(heard.more(RATE))
        wrong.append(abs(error_of_gaps(heard, noise[1], before)))
    player.kill()
    player.wait()
    assert max(wrong) < 0.05
    assert heard.slowest < 1.0
    tally(tries, 0, f"{how.name} to the capture process: replaced, the gap known to "
                    f"{1000 * max(wrong):.1f} ms")  # fmt: skip


@pytest.mark.fault("F7")
@TRIES
def test_a_microphone_that_is_absent_at_the_start_is_waited_for(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch, tries: int, tally: Tally
) -> None:
    """Once (five times): the input is listed two seconds after the start; lost: until then."""
    for name, value in pulse.environment.items():
        monkeypatch.setenv(name, value)
    for _ in range(tries):
        pulse.inputs(default="mic")
        with closing(from_microphone(Audio(device="forest"), RATE, wait=True)) as source:
            began = time.monotonic()
            heard = Heard(source).until(lambda h, began=began: time.monotonic() > began + 2)  # type: ignore[misc]
            assert heard.kinds == ["microphone-absent"]
            assert "There is no input 'forest'" in heard.notices[0][1].text
            pulse.inputs(default="mic", forest="mic")
            heard.until(lambda h: h.captured > RATE)
            assert source.device == "forest"
            assert heard.kinds == ["microphone-absent", "microphone-back"]
            kept_up(heard, began)
    tally(tries, 0, "absent at the start: waited for, and the wait counted")


@pytest.mark.fault("F7")
@TRIES
def test_of_two_microphones_in_another_order_the_named_one_is_heard(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tries: int, tally: Tally
) -> None:
    """Once (five times) in each order: two sources of one tone each; never the other one's tone."""
    for name, value in pulse.environment.items():
        monkeypatch.setenv(name, value)
    pitches = {"oak": 500, "pine": 1500}
    players = []
    for name, pitch in pitches.items():
        pulse.control("load-module", "module-null-sink", f"sink_name={name}", f"rate={RATE}",
                      "channels=1", "format=s16le")  # fmt: skip
        tone = 0.5 * np.sin(2 * np.pi * pitch * np.arange(120 * RATE) / RATE)
        soundfile.write(tmp_path / f"{name}.wav", tone, RATE)
        players.append(pulse.play(tmp_path / f"{name}.wav", name))
    try:
        for turn in range(2 * tries):
            order = list(pitches)[:: 1 if turn % 2 else -1]
            pulse.inputs(**{name: f"{name}.monitor" for name in order}, default="mic")
            wanted = "oak" if turn % 4 < 2 else "pine"
            with closing(from_microphone(Audio(device=wanted), RATE)) as source:
                heard = Heard(source).until(lambda h: h.captured > RATE // 2)
                assert source.device == wanted
            sound = heard.line[-RATE // 4 :]
            spectrum = np.abs(np.fft.rfft(sound * np.hanning(len(sound))))
            assert spectrum.argmax() * 4 == pitches[wanted]
    finally:
        for player in players:
            player.kill()
            player.wait()
    tally(2 * tries, 0, "two inputs in either order: always the named one")


PARENT = """
import sys
from edgeprune_device.audio.sources import from_microphone
from edgeprune_device.settings import Audio
for item in (source := from_microphone(Audio(), 16000)):
    if getattr(item, "samples", None) is not None:
        print(source.child, flush=True)
"""


@pytest.mark.parametrize("frozen", [False, True])
@TRIES
def test_when_the_parent_is_killed_nothing_of_the_capture_is_left(
    pulse: Pulse, frozen: bool, tries: int
) -> None:
    """Once (five times) each: SIGKILL to the recorder, its capture process running or frozen."""
    before = set(os.listdir("/dev/shm"))
    for _ in range(tries):
        with subprocess.Popen([sys.executable, "-c", PARENT], env=pulse.environment,
                              stdout=subprocess.PIPE) as parent:  # fmt: skip
            assert parent.stdout is not None
            child = int(parent.stdout.readline())
            if frozen:
                os.kill(child, signal.SIGSTOP)
            parent.kill()
            parent.wait()
        deadline = time.monotonic() + 2
        while pulse.capture_processes():
            assert time.monotonic() < deadline, "the capture process lives on"
            time.sleep(0.02)
    left = set(os.listdir("/dev/shm")) - before
    assert not [name for name in left if "edgeprune" in name]
