"""Whether a recorder can work in the unit's sandbox: the calls it makes of those that are allowed."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pulse_fixture import RATE, Pulse
from tiny_recordings import TONES, tone

from edgeprune_device.settings_reader import build_settings
from edgeprune_device.system.systemd_unit import JOURNAL, unit

HARMLESS = {"fchown"}
"""SQLite, run by root, gives its new files the database's owner; refused, it goes on."""


def members(analyze: str, group: str) -> set[str]:
    """Return the calls of a group, by systemd's own list."""
    said = subprocess.run(
        [analyze, "syscall-filter", group], capture_output=True, text=True, check=True
    ).stdout
    words = {line.strip() for line in said.splitlines()[1:]} - {""}
    found = {word for word in words if word[0] not in "#@"}
    for inner in words:
        if inner.startswith("@"):
            found |= members(analyze, inner)
    return found


@pytest.mark.slow
def test_a_recorder_with_microphone_clips_metrics_and_a_sink_makes_no_call_that_is_refused(
    pulse: Pulse, tiny_bundle: Path, tmp_path: Path
) -> None:
    """The oracles: strace says which calls are made, systemd which are allowed."""
    tools = [shutil.which(name) for name in ("strace", "systemd-analyze")]
    if tools[0] is None or tools[1] is None:
        pytest.skip("strace or systemd-analyze is not installed: apt-get install strace systemd")
    strace, analyze = tools[0], tools[1]
    table = {"operate": {"heartbeat_seconds": 1}, "clips": {"save": True, "after_seconds": 0.5},
             "command": {"run": ["true"]}}  # fmt: skip
    (tmp_path / "r.toml").write_text(
        "[operate]\nheartbeat_seconds = 1\n[clips]\nsave = true\nafter_seconds = 0.5\n"
        '[command]\nrun = ["true"]\n'
    )
    sound = np.concatenate([tone(TONES["high"], 1.0, seed) for seed in range(60)])
    soundfile.write(tmp_path / "sound.wav", sound, RATE)
    player = pulse.play(tmp_path / "sound.wav")
    done = subprocess.run(
        [strace, "-f", "-qq", "-o", str(tmp_path / "calls"), sys.executable, "-m", "edgeprune.cli",
         "listen", str(tiny_bundle), "--settings", str(tmp_path / "r.toml"),
         "-o", str(tmp_path / "j"), "--seconds", "6"],
        env=pulse.environment, capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    player.kill()
    player.wait()
    assert done.returncode == 0, done.stderr
    used = set(re.findall(r"^\d+ +(\w+)\(", (tmp_path / "calls").read_text(), re.MULTILINE))
    assert len(used) > 50
    text = unit(tiny_bundle, JOURNAL, build_settings(table, "r.toml"), user="daemon")
    allowed: set[str] = set()
    for words in re.findall(r"^SystemCallFilter=(.*)$", text, re.MULTILINE):
        for word in words.removeprefix("~").split():
            named = members(analyze, word) if word.startswith("@") else {word}
            allowed = allowed - named if words.startswith("~") else allowed | named
    assert used - allowed <= HARMLESS
