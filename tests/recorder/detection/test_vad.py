"""The voice activity detector: silero's own frames, in any chunks, on real speech and real rain."""

from __future__ import annotations

import csv
import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import soxr
from faults_table import Tally
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from repository import shared

from edgeprune_device.audio.sound_files import read_clip
from edgeprune_device.detection.vad import Frame, Vad, open_vad
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Gate, Privacy, Settings

RATE = 16000
Samples = NDArray[np.float32]
VARIANTS = ("silero_vad.onnx", "silero_vad_16k_op15.onnx")


@pytest.fixture(scope="module")
def models(pytestconfig: pytest.Config) -> Path:
    return shared("models/silero_vad", pytestconfig)


@pytest.fixture(scope="module")
def speech(models: Path) -> Samples:
    """Give silero's own minute of speech."""
    return np.asarray(soundfile.read(models / "test.wav", dtype="float32")[0])


def as_silero_does(model: Path, sound: Samples) -> list[float]:
    """Return each frame's voice as silero's OnnxWrapper computes it, written anew."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    state, found = np.zeros((2, 1, 128), np.float32), []
    whole = np.pad(sound, (64, -len(sound) % 512))
    for first in range(0, len(whole) - 64, 512):
        feed = {"input": whole[None, first : first + 576], "state": state, "sr": np.array(RATE)}
        out, state = session.run(None, feed)
        found.append(float(out[0, 0]))
    return found


def frames(vad: Vad, sound: Samples, chunks: list[int], first: int = 0) -> list[Frame]:
    done, turn = 0, itertools.cycle(chunks)
    while done < len(sound):
        piece = sound[done : done + next(turn)]
        vad.push(first + done, piece)
        done += len(piece)
    vad.flush()
    return vad.fresh()


@pytest.mark.parametrize("name", VARIANTS)
def test_every_frame_is_what_silero_itself_says(models: Path, speech: Samples, name: str) -> None:
    sound = speech[: 10 * RATE + 77]
    found = frames(Vad(models / name, RATE), sound, [1600])
    assert [f.speech_probability for f in found] == pytest.approx(
        as_silero_does(models / name, sound), abs=1e-6
    )
    assert [f.first for f in found] == list(range(0, len(sound), 512))
    assert [f.last for f in found] == [*range(512, len(sound), 512), len(sound)]


def test_most_of_silero_s_own_recording_is_speech(models: Path, speech: Samples) -> None:
    found = np.array(
        [f.speech_probability for f in frames(Vad(models / VARIANTS[1], RATE), speech, [4000])]
    )
    assert np.mean(found >= 0.5) == pytest.approx(0.774, abs=0.01)


@pytest.mark.parametrize(
    ("name", "label", "least", "most"),
    [("librispeech_237", "", 0.75, 0.85), ("esc10", "rain", 0.0, 0.001),
     ("esc10", "sea_waves", 0.0, 0.001), ("esc10", "helicopter", 0.0, 0.005)],
)  # fmt: skip
def test_speech_is_a_voice_and_rain_is_not(
    pytestconfig: pytest.Config, models: Path, name: str, label: str, least: float, most: float
) -> None:
    manifest = shared(f"data/{name}/labels.csv", pytestconfig)
    with manifest.open(encoding="utf-8") as file:
        rows = [row for row in csv.DictReader(file) if label in ("", row["label"])]
    vad, found = Vad(models / VARIANTS[1], RATE), []
    for row in rows[:12]:
        vad.gap(vad.position + RATE)
        found += frames(vad, read_clip(manifest.parent / row["path"], RATE), [8000], vad.position)
    share = float(
        np.mean([f.speech_probability is not None and f.speech_probability >= 0.5 for f in found])
    )
    assert least <= share <= most


@settings(deadline=None, max_examples=15)
@given(
    st.sampled_from([16000, 48000, 44100, 22050, 8000]),
    st.lists(st.integers(1, 30_000), min_size=1, max_size=6), st.integers(2000, 40_000),
)  # fmt: skip
def test_chunks_do_not_matter_at_any_rate(
    models: Path, speech: Samples, rate: int, chunks: list[int], window: int
) -> None:
    """Frames are equal to the bit, and so is what is said of each window when it ends."""
    sound = soxr.resample(speech[: 3 * RATE], RATE, rate, quality="HQ").astype(np.float32)

    def run(sizes: list[int]) -> tuple[list[Frame], list[float | None]]:
        vad, asked, turn, position = Vad(models / VARIANTS[1], rate), [], itertools.cycle(sizes), 0
        begin = 0
        while position < len(sound):
            piece = sound[position : position + next(turn)]
            vad.push(position, piece)
            position += len(piece)
            while begin + window <= position:
                asked.append(vad.max_probability(begin, begin + window))
                begin += 3000
        vad.gap(position + 500)
        return vad.fresh(), asked

    found, asked = run(chunks)
    assert (found, asked) == run([len(sound)])
    assert found[0].first == 0
    assert found[-1].last == len(sound)  # every sample is in one frame
    assert all(a.last == b.first for a, b in itertools.pairwise(found))


def test_a_resampled_stream_is_heard_as_the_stream_itself(models: Path, speech: Samples) -> None:
    sound = speech[: 20 * RATE]
    own = np.array(
        [f.speech_probability for f in frames(Vad(models / VARIANTS[1], RATE), sound, [1600])]
    )
    wide = soxr.resample(sound, RATE, 48000, quality="VHQ").astype(np.float32)
    found = np.array(
        [f.speech_probability for f in frames(Vad(models / VARIANTS[1], 48000), wide, [4800])]
    )
    assert len(found) == len(own)
    assert np.mean((found >= 0.5) == (own >= 0.5)) > 0.99


def test_after_a_gap_it_begins_anew(models: Path, speech: Samples) -> None:
    vad, part = Vad(models / VARIANTS[1], RATE), speech[RATE : 3 * RATE]
    first = frames(vad, part, [1000])
    vad.gap(100_000)
    again = frames(vad, part, [1000], 100_000)
    assert [f.speech_probability for f in again] == [f.speech_probability for f in first]
    assert [f.first - 100_000 for f in again] == [f.first for f in first]


def test_what_it_has_not_heard_it_does_not_know(models: Path, speech: Samples) -> None:
    vad = Vad(models / VARIANTS[1], RATE)
    vad.push(0, speech[:RATE])
    assert vad.max_probability(0, RATE) is not None
    assert vad.max_probability(5 * RATE, 6 * RATE) is None
    assert vad.max_probability(0, 100) is None  # no frame was full by then


@pytest.mark.fault("F13")
def test_a_voice_that_is_no_number_is_unknown_and_the_next_frames_are_heard(
    models: Path, speech: Samples, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """One frame of 62 is NaN, and its state: that frame is lost, those after are numbers again."""
    vad = Vad(models / VARIANTS[1], RATE)
    session, calls = vad._session, itertools.count()

    class Broken:
        def run(self, *args: Any) -> Any:
            out, state = session.run(*args)
            return (out * np.nan, state * np.nan) if next(calls) == 30 else (out, state)

    monkeypatch.setattr(vad, "_session", Broken())
    vad.push(0, speech[: 2 * RATE])
    found = vad.fresh()
    assert [i for i, f in enumerate(found) if f.speech_probability is None] == [30]
    assert vad.max_probability(0, 2 * RATE) is None
    assert vad.max_probability(31 * 512, 2 * RATE) is not None
    tally(1, 0)


def test_a_model_that_is_not_there_or_another_is_one_sentence(
    models: Path, tmp_path: Path, tiny_bundle: Path
) -> None:
    (tmp_path / "broken.onnx").write_bytes((models / VARIANTS[1]).read_bytes()[:5000])
    for path, sentence in (
        (tmp_path / "none.onnx", "cannot be read"), (tmp_path / "broken.onnx", "is not a model"),
        (tiny_bundle / "model.onnx", "but not silero's"), (tmp_path, "cannot be read"),
    ):  # fmt: skip
        with pytest.raises(EdgepruneError, match=sentence) as error:
            Vad(path, RATE)
        assert "silero-vad" in error.value.hint


def test_a_detector_is_opened_for_a_gate_or_for_privacy_and_else_not(models: Path) -> None:
    path = str(models / VARIANTS[1])
    assert open_vad(Settings(), RATE) is None
    assert open_vad(Settings(gate=Gate("vad", vad_model=path)), RATE) is not None
    assert open_vad(Settings(gate=Gate(vad_model=path), privacy=Privacy(vad=True)), RATE)
