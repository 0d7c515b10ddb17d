"""The microphone's process: choosing an input, its packets, and a real one that PulseAudio plays."""

from __future__ import annotations

import contextlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import RATE, TONES, tone

from edgeprune_device import capture
from edgeprune_device.capture import FULL_SCALE, Block, packets
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.microphone import HEADER, MAGIC, choose_device

DEVICES: list[dict[str, Any]] = [
    {"index": 0, "name": "USB Audio: hw 1,0", "channels": 1, "rate": 48000.0},
    {"index": 3, "name": "USB Audio: hw 2,0", "channels": 2, "rate": 44100.0},
    {"index": 4, "name": "default", "channels": 32, "rate": 44100.0},
]


@pytest.mark.parametrize(
    ("wanted", "index"), [(None, 4), ("3", 3), ("default", 4), ("hw 1", 0), ("HW 2,0", 3)]
)
def test_an_input_is_chosen_by_number_name_or_part_of_a_name(
    wanted: str | None, index: int
) -> None:
    assert choose_device(wanted, DEVICES, 4)["index"] == index


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [("7", "There is no input '7'"), ("webcam", "There is no input 'webcam'"),
     ("USB", "2 inputs fit input 'USB'")],
)  # fmt: skip
def test_another_input_is_never_taken_in_silence(wanted: str, sentence: str) -> None:
    with pytest.raises(EdgepruneError, match=sentence) as error:
        choose_device(wanted, DEVICES, 4)
    assert "USB Audio: hw 2,0" in error.value.hint


def test_a_machine_without_inputs_says_so() -> None:
    with pytest.raises(EdgepruneError, match="There is no input"):
        choose_device(None, [], -1)


def test_without_a_default_the_only_input_is_taken_and_of_several_none() -> None:
    assert choose_device(None, DEVICES[:1], -1)["index"] == 0
    with pytest.raises(EdgepruneError, match="None of the 3 inputs is the default"):
        choose_device(None, DEVICES, -1)


def packet(samples: np.ndarray, total: int, rate: int = RATE, overflows: int = 0) -> bytes:
    return (
        HEADER.pack(MAGIC, rate, total, len(samples), overflows) + samples.astype("<i2").tobytes()
    )


def test_packets_become_blocks_and_frames_that_are_missing_are_counted() -> None:
    ramp = np.arange(300)
    sent = packet(ramp[:100], 100) + packet(ramp[200:], 300)  # a hundred frames never came
    first, second = packets(io.BytesIO(sent), RATE)
    assert (first.lost_samples, second.lost_samples) == (0, 100)
    np.testing.assert_allclose(second.samples * FULL_SCALE, ramp[200:])


def test_an_overflow_of_unknown_size_is_a_gap_once() -> None:
    ramp = np.arange(100)
    sent = b"".join(packet(ramp, 100 * i, overflows=n) for i, n in ((1, 0), (2, 1), (3, 1)))
    assert [block.lost_samples for block in packets(io.BytesIO(sent), RATE)] == [0, 1, 0]


def test_what_a_full_queue_loses_last_is_counted_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(capture, "QUEUE_SECONDS", 2 * capture.BLOCK_SECONDS)
    done = threading.Event()

    def read() -> Iterator[Block]:
        for _ in range(5):
            yield Block(np.ones(10, np.float32))
        done.set()

    source = capture._read_aside(read, drop=True)
    blocks = [next(source)]  # starts the thread, which is far ahead of its reader
    assert done.wait(5)
    blocks += list(source)
    heard = [block for block in blocks if block is not None]
    assert sum(len(block.samples) + block.lost_samples for block in heard) == 50
    assert sum(block.lost_samples for block in heard) > 0


def test_an_unforeseen_error_of_a_source_reaches_the_reader() -> None:
    def read() -> Iterator[Block]:
        yield Block(np.ones(10, np.float32))
        raise RuntimeError("the resampler broke")

    with pytest.raises(RuntimeError, match="the resampler broke"):
        for _, _ in zip(capture._read_aside(read, drop=True), range(20), strict=False):
            pass


TALKATIVE = """
import sys
from edgeprune_device.microphone import HEADER, MAGIC
for i in range(1, 101):
    sys.stdout.buffer.write(HEADER.pack(MAGIC, 16000, 1600 * i, 1600, 0) + bytes(3200))
    sys.stdout.buffer.flush()
    sys.stderr.write("ALSA lib pcm.c:8545:(snd_pcm_recover) overrun occurred\\n" * 50)
    sys.stderr.flush()
sys.exit("the card has gone")
"""


def test_a_capture_process_that_complains_without_end_is_still_heard(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def start(_command: list[str], **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", TALKATIVE], **options)

    monkeypatch.setattr(capture, "Popen", start)
    heard: list[Block | None] = []

    def hear() -> None:
        for block in capture.from_microphone(None, RATE):
            heard.append(block)
            assert len(heard) < 150, f"stuck after {len(heard)} blocks"

    with pytest.raises(EdgepruneError, match=r"ended by itself \(the card has gone\)"):
        hear()
    assert sum(block is not None for block in heard) == 100


def test_packets_at_another_rate_are_resampled_and_losses_are_in_the_models_samples() -> None:
    time_axis = np.arange(48000) / 48000
    sound = 10000 * np.sin(2 * np.pi * 1000 * time_axis)
    sent = b"".join(packet(sound[i : i + 4800], i + 4800, 48000) for i in range(0, 48000, 4800))
    blocks = list(packets(io.BytesIO(sent), RATE))
    whole = np.concatenate([block.samples for block in blocks])
    assert abs(len(whole) - RATE) < 400  # the resampler holds back its own length
    spectrum = np.abs(np.fft.rfft(whole[2000:10000] * np.hanning(8000)))
    assert spectrum.argmax() == 500  # 1000 Hz in bins of 2 Hz
    gap = packet(sound[:4800], 4800, 48000) + packet(sound[:4800], 4800 * 3, 48000)
    found = list(packets(io.BytesIO(gap), RATE))
    assert [block.lost_samples for block in found] == [0, 0, 1600]
    assert sum(len(block.samples) for block in found[:2]) == 1600  # nothing held back is forgotten


PULSE = ("pulseaudio", "paplay", "parec", "pactl")


@pytest.fixture
def virtual_microphone(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start a private PulseAudio whose null sink's monitor is the default input."""
    if missing := [name for name in PULSE if not shutil.which(name)]:
        pytest.skip(f"{missing[0]} is not installed: apt-get install pulseaudio pulseaudio-utils "
                    "libasound2-plugins libportaudio2")  # fmt: skip
    folder = tmp_path / "pulse"
    folder.mkdir(mode=0o700)
    server = f"unix:{folder}/native"
    (folder / "asound.conf").write_text(
        "</usr/share/alsa/alsa.conf>\n"
        f'pcm.!default {{ type pulse server "{server}" device "mic" '
        'hint { show on description "virtual microphone" } }\n'
        f'ctl.!default {{ type pulse server "{server}" }}\n'
    )
    environment = {**os.environ, "XDG_RUNTIME_DIR": str(folder), "PULSE_RUNTIME_PATH": str(folder),
                   "PULSE_STATE_PATH": str(folder), "HOME": str(folder), "PULSE_SERVER": server,
                   "ALSA_CONFIG_PATH": str(folder / "asound.conf")}  # fmt: skip
    starting = {k: v for k, v in environment.items() if k != "PULSE_SERVER"}
    processes = [subprocess.Popen(
        ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
         "--high-priority=no", "--realtime=no", "--log-level=error",
         "-L", f"module-native-protocol-unix socket={folder}/native auth-anonymous=1",
         "-L", f"module-null-sink sink_name=vmic rate={RATE} channels=1 format=s16le",
         "-L", "module-remap-source source_name=mic master=vmic.monitor"],
        env=starting, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, start_new_session=True,
    )]  # fmt: skip
    try:
        deadline = time.monotonic() + 10
        while subprocess.run(
            ["pactl", "info"], env=environment, capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline, "PulseAudio did not start"
            time.sleep(0.05)
        processes.append(subprocess.Popen(  # keeps the sink running, so that no block comes late
            ["parec", "-d", "vmic.monitor", "--latency-msec=10", f"--rate={RATE}", "--channels=1",
             "--format=s16le"],
            env=environment, stdout=subprocess.DEVNULL,
        ))  # fmt: skip
        yield environment
    finally:
        for process in reversed(processes):
            process.kill()
            process.wait()


def capture_processes(environment: dict[str, str]) -> list[str]:
    """Find the capture processes of this test's microphone; another test's may be running too."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            command = (process / "cmdline").read_bytes()
            place = (process / "environ").read_bytes()
            if b"edgeprune_device.microphone" in command:
                found += [process.name] * (environment["PULSE_SERVER"].encode() in place)
    return found


def test_what_is_played_to_a_real_microphone_is_heard_and_ctrl_c_ends_it(
    virtual_microphone: dict[str, str], tiny_bundle: Path, tmp_path: Path
) -> None:
    played = np.concatenate([np.zeros(RATE // 2), tone(TONES["high"], 0.3, 1), np.zeros(RATE),
                             tone(TONES["low"], 0.3, 1), np.zeros(RATE // 2)])  # fmt: skip
    soundfile.write(tmp_path / "played.wav", played, RATE)
    command = [sys.executable, "-m", "edgeprune.cli", "listen", str(tiny_bundle),
               "-o", str(tmp_path / "j"), "--json"]  # fmt: skip
    with subprocess.Popen(
        command, env=virtual_microphone, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        lines, deadline = tmp_path / "j" / "detections.jsonl", time.monotonic() + 30
        while not (lines.exists() and lines.read_text().count("\n") >= 2):
            assert process.poll() is None, process.communicate()[1].decode()
            assert time.monotonic() < deadline, "what was played was not heard"
            subprocess.run(["paplay", "-d", "vmic", str(tmp_path / "played.wav")],
                           env=virtual_microphone, check=True)  # fmt: skip
            time.sleep(0.3)
        begin = time.monotonic()
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=5)
        assert time.monotonic() - begin < 5
        assert process.returncode == 0, errors.decode()
    stats = json.loads(output)
    heard = [json.loads(line)["label"] for line in lines.read_text().splitlines()]
    assert heard[:2] in (["high", "low"], ["low", "high"])
    assert stats["reason"] == "interrupted"
    assert stats["source"] == "microphone default"
    assert stats["captured_seconds"] > 2
    assert not capture_processes(virtual_microphone), "the capture process is still there"


def test_an_input_that_is_not_there_is_one_sentence(
    virtual_microphone: dict[str, str], tiny_bundle: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "listen", str(tiny_bundle), "--device", "gramophone",
         "-o", str(tmp_path / "j")],
        env=virtual_microphone, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "error: There is no input 'gramophone'." in done.stderr
    assert "hint: Inputs here: " in done.stderr
    assert not (tmp_path / "j").exists()


def test_the_inputs_are_listed(virtual_microphone: dict[str, str]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "devices", "--json"],
        env=virtual_microphone, capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "default" in [device["name"] for device in json.loads(done.stdout)["devices"]]
