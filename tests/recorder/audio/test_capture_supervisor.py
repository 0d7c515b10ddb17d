"""The capture process as its parent sees it: what it has opened, its records, its last words, its end."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections import deque
from contextlib import closing

import numpy as np
import pytest
from fake_sound_fixture import Fake, Heard
from fakes.sounddevice import counted

from edgeprune_device.audio.capture_supervisor import CaptureFailure, CaptureProcess, keep_lines
from edgeprune_device.audio.shared_ring import Record
from edgeprune_device.audio.sources import from_microphone
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Audio

RATE = 48000
pytestmark = pytest.mark.usefixtures("nothing_is_left")


TALKATIVE = """
import os, sys, time
from edgeprune_device.audio import capture_process
def capture(options):
    sys.stderr.write("ALSA lib pcm.c:8545:(snd_pcm_recover) overrun occurred\\n" * 10000)
    sys.exit("the card has gone")
capture_process.capture = capture
capture_process.main()
"""


def test_a_capture_process_that_complains_without_end_is_still_understood(
    fake_sound: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_sound()
    popen = subprocess.Popen
    monkeypatch.setattr(
        "edgeprune_device.audio.capture_supervisor.Popen",
        lambda command, **options: popen(
            [sys.executable, "-c", TALKATIVE, *command[3:]], **options
        ),
    )
    with (
        closing(from_microphone(Audio(), RATE)) as microphone,
        pytest.raises(EdgepruneError, match=r"ended by itself \(the card has gone\)"),
    ):
        Heard(microphone).until(lambda h: False)


def heard(child: CaptureProcess, records: int = 1, seconds: float = 30.0) -> list[Record]:
    """Wait until so many records have come, or the process has ended."""
    found, deadline = list[Record](), time.monotonic() + seconds
    while len(found) < records and not child.ended:
        assert time.monotonic() < deadline, "nothing has come"
        found += child.wait(0.1)
    return found


def test_it_tells_what_it_has_opened_and_a_record_for_each_callback(fake_sound: Fake) -> None:
    fake_sound(pace=10)
    child = CaptureProcess(Audio(channel=2, buffer_seconds=3.0), "", RATE)
    try:
        assert (dict(child.opened), child.reader) == ({}, None)
        records = heard(child, 3)
        assert child.opened == {
            "identity": "counter", "name": "counter", "rate": RATE, "kind": "int16", "channels": 2,
            "capacity": 5 * RATE, "alone": True,  # 3 s that may wait, and the guard
        }  # fmt: skip
        assert [record.total for record in records] == [
            4800 * number for number in range(1, len(records) + 1)
        ]
        assert {record.frames for record in records} == {4800}
        assert child.reader is not None
        assert child.reader.keep == 3 * RATE
        lost, samples = child.reader.read(records[0].total, RATE)
        assert lost == 0
        np.testing.assert_array_equal(np.rint(samples * 32768), counted(np.arange(4800)) + 1)
        assert os.path.exists(f"/proc/{child.number}")
    finally:
        child.kill()


def test_without_sound_a_wait_ends_in_its_time_and_gives_nothing(fake_sound: Fake) -> None:
    fake_sound(pace=0.001)  # the first callback comes after 100 s
    child = CaptureProcess(Audio(), "", RATE)
    try:
        deadline = time.monotonic() + 30
        while not child.opened:
            assert child.wait(0.1) == []
            assert time.monotonic() < deadline
        began = time.monotonic()
        assert child.wait(0.2) == []
        assert 0.19 < time.monotonic() - began < 10
        assert not child.ended
    finally:
        child.kill()


@pytest.mark.parametrize(
    ("told", "wanted", "trouble"),
    [({}, "gramophone", ("absent", "There is no input 'gramophone'.", 2)),
     ({"rates": []}, "", ("refused", "The input counter supports none of the sample rates 48000, 44100, "
                          "32000, 16000 Hz in 16 bits or float32.", 2)),
     ({"stop": 4800}, "", ("lost", "The input counter has stopped.", 1))],
)  # fmt: skip
def test_why_it_ended_is_in_its_last_words(
    told: dict[str, object], wanted: str, trouble: tuple[str, str, int], fake_sound: Fake
) -> None:
    fake_sound(**told)
    child = CaptureProcess(Audio(), wanted, RATE)
    heard(child, 1000)
    found = child.failure()
    child.kill()
    assert (found.kind, found.text, found.status) == trouble
    assert found.hint


def test_one_that_is_killed_by_another_has_no_last_words(fake_sound: Fake) -> None:
    fake_sound()
    child = CaptureProcess(Audio(), "", RATE)
    heard(child)
    os.kill(child.number, signal.SIGKILL)
    heard(child, 1000)
    assert child.failure() == CaptureFailure(
        "lost", "The capture process ended by itself (no message).",
        "edgeprune devices lists the inputs.",
    )  # fmt: skip
    child.kill()


def test_killing_it_twice_is_fine_and_afterwards_it_has_ended(fake_sound: Fake) -> None:
    fake_sound()
    child = CaptureProcess(Audio(), "", RATE)
    heard(child)
    number = child.number
    os.kill(number, signal.SIGSTOP)  # whatever it is doing
    child.kill()
    child.kill()
    assert (child.ended, child.reader, child.wait(10.0)) == (True, None, [])
    assert not os.path.exists(f"/proc/{number}")


BABBLING = "import os, sys; os.write(int(sys.argv[sys.argv.index('--records') + 1]), {told!r})"


@pytest.mark.parametrize("told", [b"hello\n", b"{}\n", b'{"kind": "int16", "rate": 1}\n'])
def test_what_is_no_capture_process_is_an_error_that_the_microphone_takes(
    told: bytes, fake_sound: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    popen = subprocess.Popen
    program = [sys.executable, "-c", BABBLING.format(told=told)]
    monkeypatch.setattr(
        "edgeprune_device.audio.capture_supervisor.Popen",
        lambda command, **options: popen([*program, *command[3:]], **options),
    )
    child = CaptureProcess(Audio(), "", RATE)
    try:
        with pytest.raises((ValueError, KeyError)):
            heard(child)
    finally:
        child.kill()


def test_of_what_it_says_the_last_lines_are_kept_and_empty_ones_are_none() -> None:
    said = deque[bytes](maxlen=3)
    text = b"".join(b"line %d\n\n" % number for number in range(5000)) + b"last"
    keep_lines(io.BytesIO(text), said)
    assert list(said) == [b"line 4998", b"line 4999", b"last"]
    said.clear()
    keep_lines(io.BytesIO(b"  \n\n"), said)
    assert not said
