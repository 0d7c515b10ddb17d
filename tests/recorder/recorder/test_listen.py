"""The recorder loop on a file, on standard input, and stopped in the middle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from tiny_recordings import RATE, TONES, tone

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.recorder import components as parts_module
from edgeprune_device.recorder import listen as module
from edgeprune_device.recorder.listen import listen
from edgeprune_device.settings import Decide, Schedule, Settings
from edgeprune_device.stream import Block

SUNG = {1.0: "low", 3.2: "high", 5.0: "middle"}
"""What is heard in the stream, and when in seconds."""


def stream() -> NDArray[np.float32]:
    sound = 0.003 * np.random.default_rng(0).standard_normal(8 * RATE)
    for second, label in SUNG.items():
        first = round(second * RATE)
        sound[first : first + 4800] += tone(TONES[label], 0.3, 1)
    return sound.astype(np.float32)


@pytest.fixture
def wav(tmp_path: Path) -> Path:
    soundfile.write(tmp_path / "stream.wav", stream(), RATE, subtype="FLOAT")
    return tmp_path / "stream.wav"


def hear(bundle: Path, out: Path, wav: Path, **options: Any) -> dict[str, Any]:
    part = {key: options.pop(key) for key in ("hop_seconds", "threshold") if key in options}
    settings = Settings(decide=Decide(**part))
    return listen(bundle, out, settings, source="wav", from_wav=wav, say=lambda _: None, **options)


def detections(journal: Path) -> list[dict[str, Any]]:
    text = (journal / "detections.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_every_tone_is_found_once_where_it_is(tiny_bundle: Path, wav: Path, tmp_path: Path) -> None:
    stats = hear(tiny_bundle, tmp_path / "j", wav)
    found = detections(tmp_path / "j")
    assert [d["label"] for d in found] == list(SUNG.values())
    for second, detection in zip(SUNG, found, strict=True):
        assert detection["start_seconds"] < second + 0.3
        assert detection["end_seconds"] > second
    assert stats["detections"] == {"low": 1, "middle": 1, "high": 1}
    assert stats["reason"] == "end of file"
    assert stats["captured_seconds"] == pytest.approx(8.0)


def test_a_file_gives_the_same_bytes_each_time(
    tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    for name in ("a", "b"):
        hear(tiny_bundle, tmp_path / name, wav)
    first, second = ((tmp_path / n / "detections.jsonl").read_bytes() for n in ("a", "b"))
    assert first == second


def test_two_files_of_the_same_name_are_both_in_the_journal(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    for card, level in (("a", 1.0), ("b", 0.9)):
        (tmp_path / card).mkdir()
        soundfile.write(tmp_path / card / "rec.wav", level * stream(), RATE, subtype="FLOAT")
        for _ in range(2):  # the same file again adds nothing
            hear(tiny_bundle, tmp_path / "j", tmp_path / card / "rec.wav")
    assert [d["label"] for d in detections(tmp_path / "j")] == 2 * list(SUNG.values())


def test_windows_are_counted_and_the_hop_can_be_changed(
    tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    window, samples = read_bundle(tiny_bundle).window_samples, 8 * RATE
    for hop in (0.05, 0.1, 0.5):
        stats = hear(tiny_bundle, tmp_path / str(hop), wav, hop_seconds=hop)
        whole = (samples - window) // round(hop * RATE) + 1
        assert stats["windows"] - whole in (0, 1)  # and a last one that ends with the file


def test_a_file_at_another_rate_is_heard_the_same(
    tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    import soxr

    soundfile.write(tmp_path / "fast.flac", soxr.resample(stream(), RATE, 44100), 44100)
    hear(tiny_bundle, tmp_path / "j", tmp_path / "fast.flac")
    assert [d["label"] for d in detections(tmp_path / "j")] == list(SUNG.values())


def test_a_threshold_no_score_reaches_says_nothing_and_the_time_can_be_limited(
    tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    stats = hear(tiny_bundle, tmp_path / "j", wav, threshold=1.0, seconds=2.0)
    assert stats["reason"] == "time is up"
    assert stats["captured_seconds"] == pytest.approx(2.0)


@pytest.mark.parametrize(("hop", "share"), [(0.05, 1.0), (0.1, 1.0), (0.4, 0.25)])
def test_the_sound_that_stood_in_a_window_is_counted_once(
    hop: float, share: float, tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    stats = hear(tiny_bundle, tmp_path / "j", wav, hop_seconds=hop)  # a window lasts 0.1 s
    assert stats["analysed_seconds"] == pytest.approx(8 * share, abs=0.11)
    assert stats["analysed_seconds"] <= stats["captured_seconds"]


def test_lost_audio_is_counted_and_the_clock_goes_on(
    tiny_bundle: Path, wav: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sound = stream()
    blocks = [Block(sound[: 2 * RATE]), None, Block(sound[3 * RATE :], lost_samples=RATE)]
    monkeypatch.setattr(module, "open_source", lambda *_, **__: (block for block in blocks))
    stats = hear(tiny_bundle, tmp_path / "j", wav)
    assert stats["lost_seconds"] == pytest.approx(1.0)
    assert stats["captured_seconds"] == pytest.approx(7.0)
    assert stats["coverage"]["not captured"] == {"lost": RATE}
    assert sum(sum(x.values()) for x in stats["coverage"].values()) == stats["position_samples"]
    starts = [d["start_seconds"] for d in detections(tmp_path / "j")]
    assert starts == pytest.approx([1.0, 3.2, 5.0], abs=0.35)


def test_a_microphone_that_is_not_there_leaves_no_journal(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: Any, **__: Any) -> Iterator[Block]:
        raise EdgepruneError("There is no input.")
        yield

    monkeypatch.setattr(module, "open_source", gone)
    with pytest.raises(EdgepruneError, match="There is no input"):
        listen(tiny_bundle, tmp_path / "j", source="microphone", say=lambda _: None)
    assert not (tmp_path / "j").exists()


def test_an_event_that_is_going_on_when_the_source_fails_is_in_the_journal(
    tiny_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(*_: Any, **__: Any) -> Iterator[Block]:
        yield Block(stream()[: round(1.06 * RATE)])  # the first tone has begun
        raise EdgepruneError("The card has gone.")

    monkeypatch.setattr(module, "open_source", failing)
    with pytest.raises(EdgepruneError, match="The card has gone"):
        listen(tiny_bundle, tmp_path / "j", source="microphone", say=lambda _: None)
    assert [d["label"] for d in detections(tmp_path / "j")] == ["low"]
    stats = json.loads((tmp_path / "j" / "stats.json").read_text("utf-8"))
    assert stats["detections"] == {"low": 1}
    assert stats["reason"] == "error: The card has gone."


@pytest.mark.parametrize(
    ("options", "sentence"),
    [({"hop_seconds": 1e-5}, "decide.hop_seconds = 1e-05 is less than one sample"),
     ({"seconds": -2.0}, "--seconds -2")],
)  # fmt: skip
def test_options_out_of_range_leave_no_journal(
    options: dict[str, Any], sentence: str, tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        hear(tiny_bundle, tmp_path / "j", wav, **options)
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [(("--hop", "-1"), "--hop -1 is out of range"), (("--threshold", "1.5"), "--threshold 1.5"),
     (("--threads", "0"), "--threads 0")],
)  # fmt: skip
def test_options_of_the_command_line_are_refused_by_their_names(
    options: tuple[str, ...], sentence: str, tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "listen", str(tiny_bundle), "--from-wav", str(wav),
         "-o", str(tmp_path / "j"), *options],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert f"error: {sentence}" in done.stderr
    assert not (tmp_path / "j").exists()


def test_a_file_that_is_not_audio_leaves_no_journal(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("not a sound")
    with pytest.raises(EdgepruneError, match=r"text\.wav cannot be read as audio"):
        hear(tiny_bundle, tmp_path / "j", tmp_path / "text.wav")
    with pytest.raises(EdgepruneError, match="There is no sound file"):
        hear(tiny_bundle, tmp_path / "j", tmp_path / "nothing.wav")
    assert not (tmp_path / "j").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_in_under_five_seconds_with_everything_written(
    number: signal.Signals, tiny_bundle: Path, tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "edgeprune.cli", "listen", str(tiny_bundle), "--stdin",
               "-o", str(tmp_path / "j"), "--json"]  # fmt: skip
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        process.stdin.write((stream() * 32767).astype("<i2").tobytes())
        process.stdin.flush()
        lines, deadline = tmp_path / "j" / "detections.jsonl", time.monotonic() + 30
        while not (lines.exists() and lines.read_text().count("\n") == 3):
            assert time.monotonic() < deadline, "the tones were not found"
            time.sleep(0.05)
        begin = time.monotonic()
        process.send_signal(number)
        assert process.wait(timeout=5) == 0
        assert time.monotonic() - begin < 5
        assert process.stdout is not None
        stats = json.loads(process.stdout.read())
    assert stats["reason"] == "interrupted"
    assert stats == json.loads((tmp_path / "j" / "stats.json").read_text("utf-8"))
    assert [d["label"] for d in detections(tmp_path / "j")] == list(SUNG.values())
    assert all("utc" in d for d in detections(tmp_path / "j"))


@pytest.mark.parametrize(
    ("source", "windows", "fails"),
    [("microphone", 3, False), ("microphone", 10_000, True), ("wav", 3, True)],
)
def test_scores_that_are_none_end_with_status_1_unless_a_recorder_has_got_over_them(
    source: Any, windows: int, fails: bool, tiny_bundle: Path, wav: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """The model says NaN for its first windows, of a hundred and sixty."""
    real, left = parts_module._model, [windows]

    def broken(*arguments: Any) -> Any:
        model, *others = real(*arguments)

        def run(first: int, window: NDArray[np.float32]) -> NDArray[np.float32]:
            left[0] -= 1
            scores = model(first, window)
            return scores * np.float32(np.nan) if left[0] >= 0 else scores

        return run, *others

    monkeypatch.setattr(parts_module, "_model", broken)
    monkeypatch.setattr(module, "open_source", lambda *_, **__: (Block(stream()) for _ in range(1)))
    with pytest.raises(EdgepruneError, match="no valid scores") if fails else nullcontext():
        listen(tiny_bundle, tmp_path / "j", source=source, from_wav=wav, say=lambda _: None)
    stats = json.loads((tmp_path / "j" / "stats.json").read_text("utf-8"))
    assert stats["bad_scores"] == min(windows, stats["windows"])


def test_a_schedule_is_said_to_have_no_effect_on_a_file(
    tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    said: list[str] = []
    settings = Settings(schedule=Schedule(listen=("05:00-09:00",)))
    listen(tiny_bundle, tmp_path / "j", settings, from_wav=wav, say=said.append)
    assert said[0] == "[schedule] has no effect: it is for a microphone only."


def test_a_wrong_schedule_is_refused_with_a_file_too(
    tiny_bundle: Path, wav: Path, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match="25:00"):
        listen(tiny_bundle, tmp_path / "j", Settings(schedule=Schedule(listen=("25:00-26:00",))),
               from_wav=wav)  # fmt: skip
    assert not (tmp_path / "j").exists()


def test_settings_may_be_the_name_of_their_file(tiny_bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[decide]\nhop_secs = 1\n", "utf-8")
    with pytest.raises(EdgepruneError, match=r"r\.toml has an unknown key 'decide\.hop_secs'"):
        listen(tiny_bundle, tmp_path / "j", tmp_path / "r.toml", from_wav=tmp_path / "s.wav")
