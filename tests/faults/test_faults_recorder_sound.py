"""The recorder's sound, through ``edgeprune listen``: lost, frozen, absent, paused, swapped, compared.

How long an outage lasted is told from outside: a song is played before and after it, and between
its first tones as the journal has them lies as much stream time as went by between the two starts.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from faults_table import Tally
from listener_fixture import Listen, Listener
from numpy.typing import NDArray
from pulse_fixture import Pulse
from tiny_bundle import make_bundle
from tiny_recordings import RATE, TONES

OUTAGE_SECONDS = 2.0
QUICK = "[audio]\nstall_seconds = 1.0\n"


def play(pulse: Pulse, song_file: Path, listener: Listener) -> tuple[float, float]:
    """Play the song; return when it began and at which stream time its first tone is heard."""
    listener.until(lambda: listener.count("sessions"))  # sound has come
    before = listener.count()
    began = time.monotonic()
    pulse.play(song_file)
    listener.until(lambda: listener.count() > before)
    label, start = listener.rows(
        "SELECT label, start_seconds FROM detections ORDER BY seq LIMIT 1 OFFSET ?", before
    )[0]
    assert label == "low"
    return began, start


def quiet(pulse: Pulse) -> None:
    """End what is played."""
    for player in pulse._players:
        player.kill()
        player.wait()
    time.sleep(0.7)  # a tone that has begun ends, and is reported


def cli(*arguments: str) -> dict[str, Any]:
    """Run a command of edgeprune and return its JSON."""
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", *arguments, "--json"], check=True,
        capture_output=True, text=True,
        env={"PATH": "/usr/bin", "PYTHONPATH": ":".join(part for part in sys.path if part)},
    )  # fmt: skip
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def accounted(listener: Listener, reason: str) -> float:
    """Assert that the session balances; return the seconds lost for a reason, by the command."""
    stats = listener.balanced()
    told = cli("coverage", str(listener.journal))["total"]
    seconds = sum(sum(reasons.values()) for reasons in told["kinds"].values())
    assert seconds == pytest.approx(stats["position_samples"] / RATE, abs=1e-5)
    assert told["over"] == 0
    assert set(told["kinds"]["not captured"]) == {reason}
    return float(told["kinds"]["not captured"][reason])


def unloaded(pulse: Pulse, noticed: Callable[[], None]) -> None:
    pulse.unload()
    noticed()
    pulse.load()


def killed(pulse: Pulse, noticed: Callable[[], None]) -> None:
    pulse.stop()
    noticed()
    pulse.start()


def frozen(pulse: Pulse, noticed: Callable[[], None]) -> None:
    pulse.freeze()
    noticed()
    pulse.thaw()


@pytest.mark.parametrize("tries", [1, pytest.param(5, marks=pytest.mark.slow)])
@pytest.mark.parametrize(
    ("outage", "kind", "reason"),
    [
        pytest.param(unloaded, "lost", "microphone lost", marks=pytest.mark.fault("F4")),
        pytest.param(killed, "lost", "microphone lost", marks=pytest.mark.fault("F5")),
        pytest.param(frozen, "stalled", "stalled", marks=pytest.mark.fault("F6")),
    ],
)
def test_an_outage_of_the_microphone_is_in_the_journal_as_long_as_it_was(
    outage: Callable[..., None], kind: str, reason: str, tries: int, pulse: Pulse,
    song_file: Path, listen_to: Listen, tally: Tally,
) -> None:  # fmt: skip
    """Once (five times) each: 2 s without the source, the server, or its life.

    Lost: that time, which the journal has to 0.5 s; detections come before and after.
    """
    listener = listen_to(environment=pulse.environment, settings=QUICK)
    before = play(pulse, song_file, listener)
    errors, outages = [], 0.0
    for number in range(1, tries + 1):
        quiet(pulse)
        gone = time.monotonic()

        def noticed(gone: float = gone, number: int = number) -> None:
            listener.until(listener.noted(f"microphone-{kind}", number))
            time.sleep(max(0.0, gone + OUTAGE_SECONDS - time.monotonic()))

        outage(pulse, noticed)
        listener.until(listener.noted("microphone-back", number))
        outages += time.monotonic() - gone
        after = play(pulse, song_file, listener)
        errors.append((after[1] - before[1]) - (after[0] - before[0]))
        before = after
    listener.end()
    lost = accounted(listener, reason)
    assert max(abs(error) for error in errors) < 0.5
    assert lost == pytest.approx(outages, abs=tries)
    told_of = listener.events("microphone-")
    assert (told_of[0], told_of[-1]) == (f"microphone-{kind}", "microphone-back")
    worst = 1000 * max(errors, key=abs)
    tally(tries, 0, f"listen: {lost:.1f} s lost and told, {worst:+.0f} ms off at most")


@pytest.mark.fault("F7")
def test_a_microphone_that_is_absent_at_the_start_is_waited_for(
    pulse: Pulse, song_file: Path, listen_to: Listen, tally: Tally
) -> None:
    """Once: it comes after 3 s; without --wait the start fails with a sentence. Lost: that time."""
    pulse.unload()
    plain = listen_to(environment=pulse.environment, name="plain")
    listener = listen_to("--wait", environment=pulse.environment)
    plain.wait(status=1)
    assert plain.said.startswith("error: The input ")
    assert len(plain.said.splitlines()) == 2
    assert not plain.journal.exists()
    listener.until(listener.noted("microphone-absent"))
    time.sleep(1.5)
    pulse.load()
    listener.until(listener.noted("microphone-back"))
    began, first = play(pulse, song_file, listener)
    listener.end()
    lost = accounted(listener, "absent")
    [[started]] = listener.rows("SELECT started_utc FROM sessions")
    start = time.monotonic() - (datetime.now(UTC) - datetime.fromisoformat(started)).total_seconds()
    error = first - 0.45 - (began - start)
    assert abs(error) < 0.6
    told_of = listener.events("microphone-")
    assert (told_of[0], told_of[-1]) == ("microphone-absent", "microphone-back")
    tally(1, 0, f"absent for {lost:.1f} s, which is told to {1000 * error:+.0f} ms")


def heard(journal: Path) -> list[tuple[str, int, float]]:
    """Return label, first sample and score of a journal's detections."""
    with closing(sqlite3.connect(journal / "journal.sqlite")) as database:
        return database.execute(
            "SELECT label, first_sample, score FROM detections ORDER BY seq"
        ).fetchall()


def place_of(piece: NDArray[np.int16], whole: NDArray[np.int16]) -> int:
    """Return where a piece stands in a recording, bit for bit."""
    at: int = whole.tobytes().find(piece.tobytes())
    while at % 2:
        at = whole.tobytes().find(piece.tobytes(), at + 1)
    assert at >= 0, "the piece is not there"
    return at // 2


def test_what_is_heard_live_is_what_a_recording_of_the_same_sound_gives(
    pulse: Pulse, song_file: Path, listen_to: Listen, tmp_path: Path
) -> None:
    """parec records what the microphone hears; the file, begun at the same sample, says the same."""
    raw = tmp_path / "heard.raw"
    with raw.open("wb") as file, subprocess.Popen(
        ["parec", "-d", "mic", f"--rate={RATE}", "--channels=1", "--format=s16le"],
        env=pulse.environment, stdout=file,
    ) as parec:  # fmt: skip
        try:
            while not raw.stat().st_size:
                time.sleep(0.01)
            live = listen_to("--clips", environment=pulse.environment,
                             settings="[clips]\nbefore_seconds = 2.0\n")  # fmt: skip
            live.until(pulse.capture_processes)
            pulse.play(song_file)
            live.until(lambda: live.count() >= 6)
            live.end()
        finally:
            parec.kill()
    stats = live.balanced()
    assert set(stats["coverage"]) <= {"analysed", "dropped", "invalid"}
    recorded = np.frombuffer(raw.read_bytes()[: raw.stat().st_size // 2 * 2], "<i2")
    path, first = live.rows("SELECT path, first_sample FROM clips ORDER BY first_sample")[0]
    clip, _ = soundfile.read(live.journal / path, dtype="int16")
    begin = place_of(clip[-RATE:], recorded) - (first + len(clip) - RATE)
    assert begin >= 0
    soundfile.write(
        tmp_path / "same.wav", recorded[begin : begin + stats["position_samples"]], RATE
    )
    found = heard(live.journal)
    for seconds in ("0.1", "0.0371", "1.7"):
        folder = tmp_path / seconds
        folder.mkdir()
        (folder / "block-seconds").write_text(seconds)
        again = listen_to("--from-wav", str(tmp_path / "same.wav"), name=seconds, stub=True)
        again.wait()
        offline = heard(again.journal)
        assert [row[:2] for row in offline] == [row[:2] for row in found]
        np.testing.assert_allclose(
            [row[2] for row in offline], [row[2] for row in found], atol=1e-6
        )
    assert {row[0] for row in found} == set(TONES)


def test_standard_input_and_a_file_give_the_same_rows(
    song_file: Path, listen_to: Listen, tmp_path: Path
) -> None:
    samples, _ = soundfile.read(song_file, dtype="int16")
    samples = samples[: 20 * RATE + 123]
    soundfile.write(tmp_path / "part.wav", samples, RATE, subtype="PCM_16")
    (tmp_path / "part.raw").write_bytes(samples.tobytes())
    with (tmp_path / "part.raw").open("rb") as pipe:
        piped = listen_to("--stdin", name="piped", stdin=pipe)
        piped.wait()
    read = listen_to("--from-wav", str(tmp_path / "part.wav"), name="read")
    read.wait()
    rows = [
        [tuple(json.loads(line)[key] for key in ("label", "start_seconds", "end_seconds", "score"))
         for line in (one.journal / "detections.jsonl").read_text().splitlines()]
        for one in (piped, read)
    ]  # fmt: skip
    assert rows[0] == rows[1]
    assert len(rows[0]) == 20
    assert piped.balanced(reason="end of file")["coverage"] \
        == read.balanced(reason="end of file")["coverage"]  # fmt: skip


@pytest.mark.slow
def test_a_bundle_that_is_installed_takes_over_and_a_bad_one_does_not(
    pulse: Pulse, song_file: Path, listen_to: Listen, tmp_path: Path
) -> None:
    """The tones are 1 s apart, in three labels: what lies between two sessions is known exactly."""
    store = tmp_path / "store"
    cli("install", str(make_bundle(tmp_path / "one")), str(store))
    listener = listen_to(bundle=store / "current", environment=pulse.environment)
    pulse.play(song_file)
    listener.until(listener.more(3))
    bad = store / "bad-0123456789ab"
    shutil.copytree(store / (store / "current").readlink(), bad)
    (bad / "model.onnx").write_bytes((bad / "model.onnx").read_bytes()[:-100])
    (store / "link").symlink_to(bad.name)
    kept = (store / "current").readlink()
    (store / "link").replace(store / "current")
    listener.until(listener.noted("bundle-refused"))
    listener.until(listener.more(2))
    (store / "link").symlink_to(kept)
    (store / "link").replace(store / "current")
    cli("install", str(make_bundle(tmp_path / "two", seed=3)), str(store))
    listener.until(lambda: listener.count("sessions") >= 2)
    listener.until(listener.more(4))
    listener.end()
    listener.balanced()
    assert listener.rows("SELECT bundle, clean FROM sessions ORDER BY id") == [
        ("one", 1),
        ("two", 1),
    ]
    rows = listener.rows("SELECT session, label, start_seconds FROM detections ORDER BY seq")
    first, second = ([(list(TONES).index(label), at) for session, label, at in rows
                      if session == number and at > 0.5] for number in (1, 2))  # fmt: skip
    length = json.loads(listener.rows("SELECT stats FROM sessions WHERE id = 1")[0][0])
    [[total]] = listener.rows("SELECT sum(samples) FROM coverage WHERE session = 1")
    assert total == length["position_samples"]
    assert length["reason"] == "bundle swapped"
    tones = (second[0][0] - first[-2][0]) % 3 or 3  # the last may have been cut in two
    missing = tones - (total / RATE - first[-2][1]) - second[0][1]
    assert abs(missing) < 0.11  # two hops: either tone may be surest in another window


@pytest.mark.slow
def test_a_pause_closes_the_microphone_and_is_counted(
    pulse: Pulse, song_file: Path, listen_to: Listen
) -> None:
    listener = listen_to(environment={**pulse.environment, "SCREW_SCHEDULE": "1"}, stub=True,
                         settings='[schedule]\nlisten = ["00:00-23:59"]\n')  # fmt: skip
    before = play(pulse, song_file, listener)
    quiet(pulse)
    pause, began = listener.folder / "pause", time.monotonic()
    pause.touch()
    listener.until(listener.noted("paused"))
    assert time.monotonic() - began < 3  # it looks every second
    deadline = time.monotonic() + 1
    while pulse.capture_processes():
        assert time.monotonic() < deadline, "the microphone is not let go of"
    time.sleep(2.5)
    pause.unlink()
    listener.until(listener.noted("resumed"))
    listener.until(lambda: bool(pulse.capture_processes()))
    time.sleep(2)
    after = play(pulse, song_file, listener)
    listener.end()
    lost = accounted(listener, "schedule")
    error = (after[1] - before[1]) - (after[0] - before[0])
    assert lost > 2
    assert abs(error) < 0.25
