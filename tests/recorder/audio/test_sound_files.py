"""Sound files of any rate, channels and length, whole and as a stream."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeprune_device.audio.sound_files import (
    pad_to_window,
    read_clip,
    seconds_of,
    stream_file,
    windows_of,
)
from edgeprune_device.errors import EdgepruneError


def sine(path: Path, rate: int, seconds: float, channels: int = 1, hertz: float = 440.0) -> Path:
    wave = 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(rate * seconds)) / rate)
    soundfile.write(path, np.repeat(wave[:, None], channels, axis=1), rate, subtype="FLOAT")
    return path


@pytest.mark.parametrize("rate", [8000, 16000, 22050, 44100, 48000])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_any_rate_and_channels_keep_pitch_level_and_length(
    rate: int, channels: int, tmp_path: Path
) -> None:
    sound = read_clip(sine(tmp_path / "s.wav", rate, 1.0, channels), 16000)
    assert sound.dtype == np.float32
    assert abs(len(sound) - 16000) <= 1
    middle = sound[4000:12000]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    assert spectrum.argmax() * 16000 / len(middle) == pytest.approx(440, abs=2)
    assert np.sqrt(np.mean(middle**2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.01)


def test_channels_are_averaged(tmp_path: Path) -> None:
    frames = np.stack([np.full(100, 0.5), np.full(100, -0.1)], axis=1)
    soundfile.write(tmp_path / "s.wav", frames, 16000, subtype="FLOAT")
    np.testing.assert_allclose(read_clip(tmp_path / "s.wav", 16000), 0.2, atol=1e-6)


def test_a_part_of_a_file_is_that_part(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "s.wav", np.arange(1600) / 3200, 1600, subtype="FLOAT")
    part = read_clip(tmp_path / "s.wav", 1600, 0.25, 0.5)
    np.testing.assert_allclose(part, np.arange(400, 800) / 3200, atol=1e-6)
    assert len(read_clip(tmp_path / "s.wav", 1600, 0.25)) == 1200
    assert seconds_of(tmp_path / "s.wav") == 1.0
    for start, end in ((2.0, 3.0), (0.5, 0.5)):
        with pytest.raises(EdgepruneError, match=r"The part from .* is not in .*s\.wav"):
            read_clip(tmp_path / "s.wav", 1600, start, end)


@pytest.mark.parametrize("rate", [16000, 44100])
@pytest.mark.parametrize("block", [1, 333, 4096, 10**6])
def test_a_stream_is_the_whole_file_however_it_is_cut(
    rate: int, block: int, tmp_path: Path
) -> None:
    path = sine(tmp_path / "s.wav", rate, 0.2)
    whole = read_clip(path, 16000)
    streamed = np.concatenate(list(stream_file(path, 16000, block)))
    assert len(streamed) == len(whole)
    np.testing.assert_allclose(streamed, whole, atol=1e-5)


@pytest.mark.parametrize(
    ("length", "window", "hop"), [(100, 30, 10), (101, 30, 10), (95, 30, 30), (30, 30, 7)]
)
def test_windows_cover_every_sample_and_the_last_ends_with_the_clip(
    length: int, window: int, hop: int
) -> None:
    clip = np.arange(length, dtype=np.float32)
    windows = windows_of(clip, window, hop)
    assert all(len(w) == window for w in windows)
    assert windows[-1][-1] == length - 1
    assert set(np.concatenate(windows).tolist()) == set(clip.tolist())


@pytest.mark.parametrize(("length", "first"), [(10, 0), (9, 0), (8, 1), (1, 4)])
def test_a_short_clip_stands_in_the_middle_of_zeros(length: int, first: int) -> None:
    window, begin = pad_to_window(np.ones(length, np.float32), 10)
    assert begin == first
    assert window.tolist() == [0] * first + [1] * length + [0] * (10 - first - length)


def test_what_cannot_be_read_is_said_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "text.wav").write_text("no sound")
    soundfile.write(tmp_path / "empty.wav", np.zeros(0), 16000)
    soundfile.write(tmp_path / "nan.wav", np.full(10, np.nan), 16000, subtype="FLOAT")
    soundfile.write(tmp_path / "slow.wav", np.zeros(10), 200)
    for name, sentence in (
        ("nothing.wav", "There is no sound file"), ("text.wav", r"text\.wav cannot be read as audio"),
        ("empty.wav", r"empty\.wav is empty"), ("nan.wav", "not finite numbers"),
        ("slow.wav", "200 Hz, is out of range"),
    ):  # fmt: skip
        with pytest.raises(EdgepruneError, match=sentence) as error:
            read_clip(tmp_path / name, 16000)
        assert error.value.status == 2
        with pytest.raises(EdgepruneError):
            list(stream_file(tmp_path / name, 16000, 1000))


@pytest.mark.parametrize(
    "frames", [[[np.inf], [-np.inf]], [[np.inf, -np.inf]], [[0.1, np.nan]], [[-np.inf], [0.0]]]
)
def test_samples_that_are_not_finite_are_said_without_a_warning(
    frames: list[list[float]], tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "s.wav", np.array(frames), 16000, subtype="FLOAT")
    with pytest.raises(EdgepruneError, match="not finite numbers"):
        read_clip(tmp_path / "s.wav", 16000)


def test_a_file_cut_short_is_said_wherever_reading_starts(tmp_path: Path) -> None:
    path = tmp_path / "s.flac"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(16000), 16000)
    path.write_bytes(path.read_bytes()[:9000])
    for start in (None, 0.9):
        with pytest.raises(EdgepruneError, match=r"s\.flac cannot be read as audio"):
            read_clip(path, 16000, start)


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
@pytest.mark.parametrize("length", [2, 3, 10, 1000, 44101])
def test_a_clip_of_any_length_has_its_length_at_the_other_rate(
    rate: int, length: int, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "s.wav", np.full(length, 0.25), rate)
    assert abs(len(read_clip(tmp_path / "s.wav", 16000)) - length * 16000 / rate) <= 1
