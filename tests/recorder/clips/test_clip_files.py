"""Clips on the disk: their names, tags and locks, and 16 bits of the sound."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from edgeprune_device.clips.clip_files import clip_path, to_pcm16

RATE = 1000


NOON = datetime(2026, 5, 1, 12, 0, 0, tzinfo=UTC)


def noise(samples: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, samples).astype(np.float32)


@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=50))
def test_sixteen_bit_sound_survives_exactly(values: list[int]) -> None:
    np.testing.assert_array_equal(
        to_pcm16(np.array(values, np.float32) / np.float32(32768)), values
    )


def test_what_lies_outside_full_scale_is_clipped_and_what_is_no_number_is_zero() -> None:
    odd = np.array([1.0, 2.0, -3.0, np.inf, -np.inf, np.nan], np.float32)
    np.testing.assert_array_equal(to_pcm16(odd), [32767, 32767, -32768, 32767, -32768, 0])


def test_a_clip_of_a_file_is_named_by_stream_time() -> None:
    assert clip_path("owl", "a1", None, 3 * 3600 + 62.9) == "clips/stream/owl/030102_a1.flac"
    assert clip_path("owl", "a1", None, 100 * 3600) == "clips/stream/owl/1000000_a1.flac"
