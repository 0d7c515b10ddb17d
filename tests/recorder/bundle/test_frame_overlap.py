"""Which frames are kept and which computed: every one right, none twice needed, none forgotten."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeprune_device.bundle.frame_overlap import (
    FrameOverlap,
    files_of,
    overlap_of,
    problem_of_incremental,
)


@st.composite
def plans(draw: st.DrawFn) -> FrameOverlap:
    left, right, new = (draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.integers(1, 9)))
    chunk = left + right + new
    frames = chunk + draw(st.integers(1, 40))
    return FrameOverlap(frames, chunk, 10, frames * 10 + 7, left, right)


def covered(plan: FrameOverlap, kept: range) -> list[int]:
    """Return how often each frame of a window is computed, refusing what a chunk cannot know."""
    times = [0] * plan.frames
    for begin, start, stop in plan.chunks(kept):
        assert 0 <= begin <= plan.frames - plan.chunk, "the chunk lies in the window"
        assert begin <= start < stop <= begin + plan.chunk
        for frame in range(start, stop):
            inside = frame - begin
            assert inside >= plan.left or begin == 0, "its left edge is not the window's"
            right = begin + plan.chunk == plan.frames
            assert inside < plan.chunk - plan.right or right, "its right edge is not the window's"
            times[frame] += 1
    return times


@given(plans(), st.integers(0, 60))
def test_every_frame_that_is_not_kept_is_computed_from_a_chunk_that_knows_it(
    plan: FrameOverlap, shift: int
) -> None:
    kept = plan.kept(shift)
    for frame, times in enumerate(covered(plan, kept)):
        assert times >= (frame not in kept)


@given(plans(), st.integers(0, 60))
def test_a_kept_frame_touches_no_edge_of_either_window(plan: FrameOverlap, shift: int) -> None:
    for frame in plan.kept(shift):
        for place in (frame, frame + shift):
            assert plan.left <= place < plan.frames - plan.right


@given(plans())
def test_at_its_own_hop_a_window_costs_one_chunk_and_one_more_for_a_left_edge(
    plan: FrameOverlap,
) -> None:
    assert len(plan.chunks(plan.kept(plan.new))) == (2 if plan.left else 1)


def test_without_edges_a_window_is_tiled_once() -> None:
    plan = FrameOverlap(frames=10, chunk=4, step=5, window_samples=60)
    assert plan.chunk_samples == 30
    assert plan.chunks(plan.kept(10)) == [(0, 0, 4), (4, 4, 8), (6, 8, 10)]
    assert plan.chunks(plan.kept(4)) == [(6, 6, 10)]
    assert plan.chunks(plan.kept(2)) == [(6, 8, 10)]
    assert plan.chunks(plan.kept(0)) == []


def model(**changes: Any) -> dict[str, Any]:
    entry = {
        "step": 5, "left": 0, "right": 0, "axis": 1,
        "front": {"file": "front.onnx", "input": {"shape": [1, 30]}, "output": {"shape": [1, 4, 3]}},
        "back": {"file": "back.onnx", "input": {"shape": [1, 10, 3]}, "output": {"shape": [1, 2]}},
    }  # fmt: skip
    return {"format": "onnx", "input": {"shape": [1, 60]}, "incremental": {**entry, **changes}}


def test_a_manifest_gives_the_plan() -> None:
    assert problem_of_incremental(model()) == ""
    assert overlap_of(model()) == FrameOverlap(frames=10, chunk=4, step=5, window_samples=60)
    assert files_of(model()) == ("front.onnx", "back.onnx")
    assert files_of({"format": "onnx"}) == ()


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"step": 0}, "0 samples apart"),
        ({"step": 10}, "has no samples"),
        ({"step": 4}, "has the shape"),
        ({"axis": 2}, "frames"),
        ({"left": 2, "right": 2}, "with 2 and 2 edge frames"),
        ({"left": -1}, "with -1 and 0 edge frames"),
        ({"front": {"file": "f", "input": {"shape": [1, 31]}, "output": {"shape": [1, 4, 3]}}},
         "has the shape [1, 31]"),
        ({"front": {"file": "f", "input": {"shape": [1, 30]}, "output": {"shape": [1, 4, 2]}}},
         "different frame shapes: [1, 4, 2] and [1, 10, 3]"),
        ({"front": {"file": 5, "input": {"shape": [1, 30]}, "output": {"shape": [1, 4, 3]}}},
         "no name"),
        ({"back": {"file": "b", "input": {"shape": [1, 1 << 30, 3]}}}, "frames"),
    ],
)  # fmt: skip
def test_a_manifest_whose_halves_do_not_fit_is_refused(changes: dict[str, Any], said: str) -> None:
    assert said in problem_of_incremental(model(**changes))


def test_only_an_onnx_model_has_halves_and_the_reason_against_them_is_a_sentence() -> None:
    assert "its incremental model is not ONNX" in problem_of_incremental(
        {**model(), "format": "tflite"}
    )
    assert "not_incremental is not a text" in problem_of_incremental({"not_incremental": 5})
