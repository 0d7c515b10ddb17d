"""F21 from end to end: what systemd hears of a real recorder whose sound server freezes."""

from __future__ import annotations

import contextlib
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from faults_table import Tally
from pulse_fixture import RATE, Pulse
from tiny_recordings import TONES, tone

SETTINGS = "[operate]\nheartbeat_seconds = 1\n[audio]\nstall_seconds = 1.0\n"
SECONDS = 5.0
"""Of the watchdog."""


class Manager:
    """Hears the recorder's datagrams, with the time of each."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.settimeout(0.1)
        self.heard: list[tuple[float, str]] = []

    def listen(self, seconds: float, until: str = "") -> bool:
        """Listen for so long, or until a word is heard."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            with contextlib.suppress(TimeoutError):
                text = self.socket.recv(4096).decode()
                self.heard.append((time.monotonic(), text))
                if until and until in text.splitlines():
                    return True
        return not until

    def times(self, word: str) -> list[float]:
        """Return when a word was heard."""
        return [at for at, text in self.heard if word in text.splitlines()]


@pytest.mark.slow
@pytest.mark.fault("F21")
def test_the_watchdog_is_fed_while_sound_is_analysed_and_not_while_it_stands_still(
    pulse: Pulse, tiny_bundle: Path, tmp_path: Path, tally: Tally
) -> None:
    """One freeze (SIGSTOP) and thaw: READY after the first window, beats before, none meanwhile,
    beats again after. The journal's rows are those that were acknowledged: none is lost.
    """  # fmt: skip
    sound = np.concatenate([tone(TONES["high"], 1.0, seed) for seed in range(90)])
    soundfile.write(tmp_path / "sound.wav", sound, RATE)
    (tmp_path / "r.toml").write_text(SETTINGS)
    manager = Manager(tmp_path / "notify")
    environ = pulse.environment | {
        "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": str(round(SECONDS * 1e6)),
    }  # fmt: skip
    player = pulse.play(tmp_path / "sound.wav")
    with subprocess.Popen(
        [sys.executable, "-m", "edgeprune.cli", "listen", str(tiny_bundle), "--wait",
         "--settings", str(tmp_path / "r.toml"), "-o", str(tmp_path / "j"), "--json"],
        env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as recorder:  # fmt: skip
        try:
            assert manager.listen(60, until="READY=1"), manager.heard
            assert not manager.times("WATCHDOG=1")
            assert manager.listen(20, until="WATCHDOG=1"), manager.heard
            manager.listen(3)
            assert len(manager.times("WATCHDOG=1")) >= 2
            pulse.freeze()
            frozen = time.monotonic()
            manager.listen(SECONDS + 3)
            thawed = time.monotonic()
            late = [at - frozen for at in manager.times("WATCHDOG=1") if at > frozen + 2.5]
            assert not late, late  # systemd would have started it anew by now
            pulse.thaw()
            assert manager.listen(60, until="WATCHDOG=1"), manager.heard[-10:]
            assert manager.times("WATCHDOG=1")[-1] > thawed
            recorder.send_signal(signal.SIGTERM)
            begin = time.monotonic()
            _, errors = recorder.communicate(timeout=15)
            assert time.monotonic() - begin < 8
            assert recorder.returncode == 0, errors.decode()
            manager.listen(0.5)
            assert manager.times("STOPPING=1")
        finally:
            recorder.kill()
            player.kill()
            player.wait()
            manager.socket.close()
    tally(1, 0, f"no beat for {thawed - frozen:.0f} s of a frozen server, beats again after it")
