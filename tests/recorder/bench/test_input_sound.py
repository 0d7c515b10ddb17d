"""What a benchmark listens to: loops without an end, of real sound where there is some, never silence."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edgeprune_device.audio.windowing import Windower
from edgeprune_device.bench.input_sound import (
    LoopedSound,
    loop_of,
    loud_enough,
    made_sound,
    prepare,
)
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


def test_windows_of_a_loop_are_those_of_its_endless_repetition() -> None:
    loop = LoopedSound("wav", "x", np.arange(7, dtype=np.float32))
    whole = np.tile(loop.samples, 20)
    for window, hop in ((3, 2), (5, 7), (16, 3), (2, 9)):
        for turn, found in enumerate(itertools.islice(loop.windows(window, hop), 8)):
            np.testing.assert_array_equal(found, whole[turn * hop : turn * hop + window])


@pytest.mark.parametrize(("window", "hop"), [(3, 2), (5, 7), (16, 3), (4, 4)])
def test_blocks_of_a_loop_give_the_recorders_windower_one_window_each(
    window: int, hop: int
) -> None:
    loop = LoopedSound("wav", "x", np.arange(7, dtype=np.float32))
    windower, windows = Windower(window, hop), loop.windows(window, hop)
    for block in itertools.islice(loop.blocks(window, hop), 8):
        [(_, found)] = windower.push(block)
        np.testing.assert_array_equal(found, next(windows))


def test_golden_inputs_are_heard_and_made_sound_only_where_they_are_silent(
    tiny_bundle: Path,
) -> None:
    bundle = read_bundle(tiny_bundle)
    loop = loop_of(bundle, None)
    assert loop.kind == "golden"
    heard = [golden.samples for golden in bundle.golden if loud_enough(golden.samples)]
    np.testing.assert_array_equal(loop.samples, np.concatenate(heard))
    for golden in bundle.golden:
        golden.samples[:] = 0
    silent = loop_of(bundle, None)
    assert silent.kind == "noise"
    assert loud_enough(silent.samples)


def test_made_sound_is_never_silent_and_low_tones_prevail_as_in_wind() -> None:
    sound = made_sound(16_000)
    pieces = sound.reshape(-1, 1600)
    assert np.sqrt(np.mean(pieces**2, axis=1)).min() > 0.01
    power = np.abs(np.fft.rfft(sound)) ** 2
    assert power[: len(power) // 10].sum() > power[len(power) // 2 :].sum()
    assert np.sqrt(np.mean(sound**2)) == pytest.approx(0.1, rel=1e-3)


def test_a_file_is_heard_at_the_bundles_rate_for_a_minute_and_silence_is_refused(
    tmp_path: Path,
) -> None:
    tone = np.sin(np.arange(70 * 8000) * 0.3).astype(np.float32)
    soundfile.write(tmp_path / "tone.wav", tone, 8000)
    samples = np.load(prepare(tmp_path / "tone.wav", 16_000, tmp_path))
    assert len(samples) == 60 * 16_000
    soundfile.write(tmp_path / "silence.wav", np.zeros(8000, np.float32), 8000)
    with pytest.raises(EdgepruneError, match="is silent"):
        prepare(tmp_path / "silence.wav", 16_000, tmp_path)
