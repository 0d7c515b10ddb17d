"""The microphone's process: what it opens, what it hears, and a real one that PulseAudio plays."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_sound_fixture import Heard
from fakes.sounddevice import PortAudioError
from faults_table import Tally
from pulse_fixture import Pulse
from tiny_recordings import RATE, TONES, tone

from edgeprune_device.audio import sources
from edgeprune_device.audio.capture_process import (
    channels_of,
    open_input,
    possible_rates,
    select_channel,
)
from edgeprune_device.audio.devices import Device
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Audio

CARD = Device(2, "USB: Audio (hw:1,0)", "ALSA", 2, 44100.0)
SERVER = Device(4, "default", "ALSA", 32, 44100.0)


class Sound:
    """A sound library that refuses: (rate, kind) -> PortAudio's number, else it opens."""

    PortAudioError = PortAudioError

    def __init__(self, refused: dict[tuple[int, str], int]) -> None:
        self.refused, self.asked = refused, list[tuple[int, str]]()

    def RawInputStream(self, **options: Any) -> dict[str, Any]:
        self.asked.append((options["samplerate"], options["dtype"]))
        if code := self.refused.get(self.asked[-1]):
            raise PortAudioError("Error opening RawInputStream: it says no [PaErrorCode 1]", code)
        return options


def opened(sound: Sound, rate: int = RATE, device: Device = CARD) -> tuple[Any, int, str]:
    return open_input(sound, device, 1, rate, lambda *_: None, lambda: None)


@pytest.mark.fault("F8")
def test_the_models_rate_is_asked_for_first_then_the_devices_own_then_the_usual(
    tally: Tally,
) -> None:
    """Six rates, all refused but one each time; nothing is recorded at a rate nobody asked for."""
    rates = possible_rates(22050, 96000.0)
    assert rates == [22050, 96000, 48000, 44100, 32000, 16000]
    device = Device(0, "card", "ALSA", 1, 96000.0)
    for position, taken in enumerate(rates):
        sound = Sound({(rate, "int16"): -9997 for rate in rates if rate != taken})
        stream, rate, kind = opened(sound, 22050, device)
        assert (rate, kind, stream["samplerate"]) == (taken, "int16", taken)
        assert stream["blocksize"] == round(taken / 10)
        assert [rate for rate, _ in sound.asked] == rates[: position + 1]
    tally(len(rates), 0, "-9997: the device's own rate or the next that it takes, resampled")


@pytest.mark.fault("F8")
def test_a_device_without_16_bits_is_opened_in_float32_at_the_same_rate(
    tally: Tally,
) -> None:
    """One device; nothing is lost by it."""
    assert opened(Sound({(RATE, "int16"): -9994}))[1:] == (RATE, "float32")
    tally(1, 0)


@pytest.mark.fault("F8")
def test_a_device_that_takes_nothing_is_one_sentence_with_what_was_tried(
    tally: Tally,
) -> None:
    """One device."""
    refused = {(rate, kind): -9997 for rate in (16000, 44100, 48000, 32000)
               for kind in ("int16", "float32")}  # fmt: skip
    with pytest.raises(
        EdgepruneError, match="supports none of the sample rates 16000, 44100, 48000, 32000 Hz"
    ):
        opened(Sound(refused))
    tally(1, 0, "no rate at all: one sentence")


def test_a_busy_device_is_not_asked_again_in_other_ways() -> None:
    sound = Sound({(RATE, "int16"): -9985})
    with pytest.raises(EdgepruneError, match=r"hw:1,0\) cannot be opened: .*it says no") as error:
        opened(sound)
    assert (error.value.status, len(sound.asked)) == (1, 1)


def test_as_many_channels_are_opened_as_are_needed() -> None:
    assert [channels_of(CARD, channel) for channel in (0, 1, 2)] == [2, 1, 2]
    assert [channels_of(SERVER, channel) for channel in (0, 2)] == [1, 2]  # it averages by itself
    with pytest.raises(EdgepruneError, match=r"has 2 channel\(s\), but audio.channel is 3"):
        channels_of(CARD, 3)


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_a_channel_is_itself_and_the_average_is_of_all(kind: str) -> None:
    scale = 1 if kind == "int16" else 1 / 32768
    frames = (np.array([[100, 300], [-32768, 32767], [7, 8]]) * scale).astype(kind)
    data = frames.tobytes()
    np.testing.assert_array_equal(select_channel(data, kind, 2, 1), frames[:, 0])
    np.testing.assert_array_equal(select_channel(data, kind, 2, 2), frames[:, 1])
    mean = select_channel(data, kind, 2, 0).astype(np.float64) * 32768
    np.testing.assert_allclose(mean, np.array([200, -0.5, 7.5]), rtol=1e-6)
    np.testing.assert_array_equal(select_channel(frames[:, 0].tobytes(), kind, 1, 0), frames[:, 0])


def test_what_is_played_is_heard_to_the_sample(
    pulse: Pulse, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in pulse.environment.items():
        monkeypatch.setenv(name, value)
    played = np.random.default_rng(1).integers(1, 9000, RATE).astype(np.int16)
    soundfile.write(tmp_path / "played.wav", played, RATE, subtype="PCM_16")
    with closing(sources.from_microphone(Audio(), RATE)) as microphone:
        listener = Heard(microphone).until(lambda h: h.captured > RATE // 4)
        with pulse.play(tmp_path / "played.wav"):
            listener.until(lambda h: bool(np.nanmax(np.abs(h.line[:-RATE]), initial=0.0)))
            listener.until(listener.more(RATE // 2))
    line = np.rint(listener.line * 32768)
    first = int(np.flatnonzero(line)[0])
    np.testing.assert_array_equal(line[first : first + len(played)], played)
    assert not listener.losses


@pytest.mark.slow
def test_what_is_played_to_a_real_microphone_is_heard_and_ctrl_c_ends_it(
    pulse: Pulse, tiny_bundle: Path, tmp_path: Path
) -> None:
    played = np.concatenate([np.zeros(RATE // 2), tone(TONES["high"], 0.3, 1), np.zeros(RATE),
                             tone(TONES["low"], 0.3, 1), np.zeros(RATE // 2)])  # fmt: skip
    soundfile.write(tmp_path / "played.wav", played, RATE)
    command = [sys.executable, "-m", "edgeprune.cli", "listen", str(tiny_bundle),
               "-o", str(tmp_path / "j"), "--json"]  # fmt: skip
    with subprocess.Popen(
        command, env=pulse.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        lines, deadline = tmp_path / "j" / "detections.jsonl", time.monotonic() + 30
        while not (lines.exists() and lines.read_text().count("\n") >= 2):
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline, "what was played was not heard"
            subprocess.run(["paplay", "-d", "vmic", str(tmp_path / "played.wav")],
                           env=pulse.environment, check=True)  # fmt: skip
            time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
        assert process.returncode == 0, errors.decode()
    stats = json.loads(output)
    labels = [json.loads(line)["label"] for line in lines.read_text().splitlines()]
    assert labels[:2] in (["high", "low"], ["low", "high"])
    assert stats["reason"] == "interrupted"
    assert stats["source"] == "microphone default"
    assert stats["captured_seconds"] > 2
    assert not pulse.capture_processes(), "the capture process is still there"


def test_an_input_that_is_not_there_is_one_sentence(
    pulse: Pulse, tiny_bundle: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "listen", str(tiny_bundle), "--device", "gramophone",
         "-o", str(tmp_path / "j")],
        env=pulse.environment, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: There is no input 'gramophone'." in done.stderr
    assert "hint: Known inputs: " in done.stderr
    assert not (tmp_path / "j").exists()


def test_the_inputs_are_listed(pulse: Pulse) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "devices", "--json"],
        env=pulse.environment, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "default" in [device["name"] for device in json.loads(done.stdout)["devices"]]
