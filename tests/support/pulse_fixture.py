"""A microphone without hardware: a private PulseAudio whose null sink's monitor PortAudio hears."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

RATE = 16000
PULSE = ("pulseaudio", "paplay", "parec", "pactl")
START_SECONDS = 10


class Pulse:
    """A sound server of its own, with sources that can be taken away and given back.

    Parameters
    ----------
    folder : Path
        Its socket and files.

    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700)
        self.folder, self.server = folder, f"unix:{folder}/native"
        self.environment = {
            **os.environ, "XDG_RUNTIME_DIR": str(folder), "PULSE_RUNTIME_PATH": str(folder),
            "PULSE_STATE_PATH": str(folder), "HOME": str(folder), "PULSE_SERVER": self.server,
            "ALSA_CONFIG_PATH": str(folder / "asound.conf"),
            "PYTHONPATH": os.pathsep.join(part for part in sys.path if part),
        }  # fmt: skip
        self._processes: list[subprocess.Popen[bytes]] = []
        self._players: list[subprocess.Popen[bytes]] = []
        self.inputs(default="mic")

    def inputs(self, **sources: str) -> None:
        """Write what PortAudio lists: a name, and the source behind it, in this order."""
        pcm = "".join(
            f'pcm.{"!" * (name == "default")}{name} {{ type pulse server "{self.server}" '
            f'device "{source}" hint {{ show on description "virtual microphone" }} }}\n'
            for name, source in sources.items()
        )
        (self.folder / "asound.conf").write_text(
            "</usr/share/alsa/alsa.conf>\n" + pcm
            + f'ctl.!default {{ type pulse server "{self.server}" }}\n'
        )  # fmt: skip

    def start(self) -> None:
        """Start the server and wait until it answers."""
        starting = {k: v for k, v in self.environment.items() if k != "PULSE_SERVER"}
        (self.folder / "native").unlink(missing_ok=True)  # of one that was killed
        self._processes = [subprocess.Popen(
            ["pulseaudio", "-n", "--daemonize=no", "--exit-idle-time=-1", "--use-pid-file=no",
             "--high-priority=no", "--realtime=no", "--log-level=error",
             "-L", f"module-native-protocol-unix socket={self.folder}/native auth-anonymous=1",
             "-L", f"module-null-sink sink_name=vmic rate={RATE} channels=1 format=s16le",
             "-L", "module-remap-source source_name=mic master=vmic.monitor"],
            env=starting, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL, start_new_session=True,
        )]  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while subprocess.run(
            ["pactl", "info"], env=self.environment, capture_output=True, check=False
        ).returncode:
            assert time.monotonic() < deadline, "PulseAudio did not start"
            time.sleep(0.05)
        self._processes.append(subprocess.Popen(  # keeps the sink running: no block comes late
            ["parec", "-d", "vmic.monitor", "--latency-msec=10", f"--rate={RATE}", "--channels=1",
             "--format=s16le"],
            env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        ))  # fmt: skip

    def stop(self) -> None:
        """Kill the server, if it is there, and what hangs on it."""
        for process in (*self._players, *reversed(self._processes)):
            process.kill()
            process.wait()
        self._processes, self._players = [], []

    def freeze(self) -> None:
        """Stop the server without a word to its clients."""
        self._processes[0].send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._processes[0].send_signal(signal.SIGCONT)

    def unload(self) -> None:
        """Take the sink and its source away; the server goes on."""
        self.control("unload-module", "module-remap-source")
        self.control("unload-module", "module-null-sink")

    def load(self) -> None:
        """Give them back."""
        self.control("load-module", "module-null-sink", "sink_name=vmic", f"rate={RATE}",
                     "channels=1", "format=s16le")  # fmt: skip
        self.control("load-module", "module-remap-source", "source_name=mic", "master=vmic.monitor")

    def control(self, *arguments: str) -> str:
        """Run pactl and return what it prints."""
        return subprocess.run(["pactl", *arguments], env=self.environment, check=True,
                              capture_output=True, text=True).stdout.strip()  # fmt: skip

    def play(self, path: Path, sink: str = "vmic") -> subprocess.Popen[bytes]:
        """Begin to play a file into a sink."""
        player = subprocess.Popen(["paplay", "-d", sink, str(path)], env=self.environment,
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
        self._players.append(player)
        return player

    def capture_processes(self) -> list[int]:
        """Return the capture processes that listen to this server."""
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                command = (process / "cmdline").read_bytes()
                place = (process / "environ").read_bytes()
                if (
                    b"edgeprune_device.audio.capture_process" in command
                    and self.server.encode() in place
                ):
                    found.append(int(process.name))
        return found


@pytest.fixture
def pulse(tmp_path: Path) -> Iterator[Pulse]:
    """Start a private PulseAudio whose null sink ``vmic`` is heard as the source ``mic``."""
    if missing := [name for name in PULSE if not shutil.which(name)]:
        pytest.skip(f"{missing[0]} is not installed: apt-get install pulseaudio pulseaudio-utils "
                    "libasound2-plugins libportaudio2")  # fmt: skip
    server = Pulse(tmp_path / "pulse")
    try:
        server.start()
        yield server
    finally:
        server.stop()


@pytest.fixture
def virtual_microphone(pulse: Pulse) -> dict[str, str]:
    """Return the environment in which the default input is the virtual microphone."""
    return pulse.environment
