"""F22: an hour of sound through a recorder: memory and files stay, every sample is accounted for."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from faults_table import Tally
from tiny_recordings import RATE, TONES, tone

HOUR = 3600
LOOK_SECONDS = 0.5
MOST_GROWTH_MB = 8.0  # between the first third and the last


def looked(process: int) -> tuple[float, int]:
    """Return resident memory in MB (1e6 bytes) and open files."""
    status = Path(f"/proc/{process}/status").read_text()
    kib = int(status.split("VmRSS:")[1].split()[0])
    return kib * 1024 / 1e6, len(list(Path(f"/proc/{process}/fd").iterdir()))


@pytest.mark.slow
@pytest.mark.fault("F22")
def test_an_hour_of_sound_leaves_memory_files_and_balance_as_they_were(
    tiny_bundle: Path, tmp_path: Path, tally: Tally
) -> None:
    """One hour with a song every four seconds, as fast as it goes; clips are kept and deleted."""
    piece = 0.003 * np.random.default_rng(0).standard_normal(4 * RATE)
    piece[RATE : RATE + 4800] += tone(TONES["low"], 0.3, 1)
    data = (np.clip(piece, -1, 1) * 32767).astype("<i2").tobytes()
    (tmp_path / "r.toml").write_text(
        "[clips]\nsave = true\n[retention]\nmegabytes = 2\nevery_seconds = 1\n"
        "[operate]\nheartbeat_seconds = 1\n[command]\nrun = ['/bin/true']\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeprune.cli", "listen", str(tiny_bundle), "--stdin", "--json",
         "-o", str(tmp_path / "j"), "--settings", str(tmp_path / "r.toml")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    assert process.stdin is not None
    assert process.stdout is not None
    pipe, seen = process.stdin, list[tuple[float, int]]()

    def push() -> None:
        with pipe:
            for _ in range(HOUR // 4):
                pipe.write(data)

    threading.Thread(target=push, daemon=True).start()
    while process.poll() is None:
        try:
            seen.append(looked(process.pid))
        except (OSError, IndexError):  # it has ended meanwhile
            break
        time.sleep(LOOK_SECONDS)
    with process.stdout as answer:
        stats = json.loads(answer.read())
    assert process.wait() == 0
    assert stats["position_samples"] == HOUR * RATE
    assert sum(sum(reasons.values()) for reasons in stats["coverage"].values()) == HOUR * RATE
    assert stats["detections"] == {"low": HOUR // 4}
    third = len(seen) // 3
    memory, files = np.array([row[0] for row in seen]), np.array([row[1] for row in seen])
    growth = float(np.median(memory[-third:]) - np.median(memory[third : 2 * third]))
    assert growth < MOST_GROWTH_MB
    assert np.median(files[-third:]) <= np.median(files[third : 2 * third]) + 1
    tally(1, 0, f"an hour of sound: memory {growth:+.1f} MB in the last third, samples balance")
