"""Which file is delivered: the fastest, or the one with the fewest instructions, that is right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_recordings import RATE

from edgeprune.core.console import Silent
from edgeprune.data.tasks import same_decisions, task_of
from edgeprune.data.windows import Windows
from edgeprune.deployment.candidates import TARGETS, Candidate, choose, score_of, try_files
from edgeprune.export.export import RUNNERS
from edgeprune_device.errors import EdgepruneError


def made(format: str, method: str, ms: float, loss: float, size: int = 10) -> Candidate:
    return Candidate(format, method, bytes(size), ms, 0.9 - loss, 1.0, loss)


FAST_AND_WRONG = made("onnx", "dynamic", 1.0, 0.03)
FAST = made("tflite", "dynamic", 2.0, 0.004)
SMALL = made("onnx", "weights", 2.1, 0.0, 5)
FLOAT = made("onnx", "none", 5.0, 0.0, 40)


def test_what_loses_too_much_is_not_delivered_however_fast() -> None:
    chosen, why = choose([FAST_AND_WRONG, FLOAT, FAST], "here", 0.005)
    assert chosen is FAST
    assert why == "fastest here within the allowed loss"


def test_of_two_files_that_are_about_as_fast_the_smaller_is_delivered() -> None:
    assert choose([FAST, SMALL, FLOAT], "here", 0.005)[0] is SMALL


def test_for_a_board_counted_instructions_decide_and_not_this_machine() -> None:
    slow_here = made("tflite", "dynamic", 9.0, 0.0)
    for target in ("pi4", "pi5", "x86"):
        chosen, why = choose([SMALL, FLOAT, slow_here], target, 0.005)
        assert chosen is slow_here
        assert target in why


def test_a_target_ranks_every_file_that_auto_tries() -> None:
    pairs = {(f, m) for f in ("onnx", "tflite") for m in ("dynamic", "weights", "none")}
    assert all(set(order) == pairs for name, order in TARGETS.items() if name != "here")


def test_where_none_holds_the_one_that_loses_least_is_kept_and_said_so() -> None:
    chosen, why = choose([FAST_AND_WRONG, made("onnx", "static", 2.0, 0.02)], "here", 0.005)
    assert chosen.method == "static"
    assert why == "all lose more than 0.5 pp; this one loses least"


@pytest.mark.parametrize(
    ("task", "scores", "reference", "share"),
    [
        ("classes", [[0.6, 0.4], [0.2, 0.8]], [[0.9, 0.1], [0.7, 0.3]], 0.5),
        ("tags", [[0.6, 0.4], [0.2, 0.8]], [[0.9, 0.7], [0.3, 0.9]], 0.75),
        ("ctc", [[[0.6, 0.4], [0.2, 0.8]]], [[[0.9, 0.1], [0.7, 0.3]]], 0.5),
    ],
)
def test_files_agree_in_decisions(task: str, scores: Any, reference: Any, share: float) -> None:
    one, other = np.array(scores, np.float32), np.array(reference, np.float32)
    assert same_decisions(one, other, task_of(task).activation) == share


def test_files_are_scored_as_models_are(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: tuple[dict[str, Any], ...] = tuple({"label": x, "columns": {}} for x in ("a", "b", "b"))
    samples = np.array([[1.0, 0], [0, 1], [1, 0]], np.float32)  # the last is taken for an "a"
    windows = Windows(samples, np.tile([0, 2], (3, 1)), np.arange(3), rows, ("a", "b"), RATE)
    assert score_of(samples, windows, ("a", "b")) == pytest.approx(2 / 3)
    opened = {b"right": lambda x: x, b"wrong": lambda x: x[:, ::-1]}
    monkeypatch.setitem(RUNNERS, "onnx", opened.__getitem__)
    files = [("onnx", "none", b"right"), ("onnx", "dynamic", b"wrong")]
    right, wrong = try_files(files, windows, ("a", "b"), Silent())
    assert (right.agreement, right.loss) == (1.0, 0.0)
    assert wrong.agreement == 0.0
    assert wrong.loss == pytest.approx(1 / 3)
    assert right.milliseconds > 0
    assert wrong.facts()["bytes"] == 5


def test_a_file_whose_numbers_overflow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    rows: tuple[dict[str, Any], ...] = ({"label": "a", "columns": {}},)
    samples = np.ones((1, 2), np.float32)
    windows = Windows(samples, np.array([[0, 2]]), np.arange(1), rows, ("a", "b"), RATE)
    monkeypatch.setitem(RUNNERS, "onnx", lambda _: lambda x: x * np.float32(np.nan))
    with pytest.raises(EdgepruneError, match="method 'half' contain NaN or infinity") as error:
        try_files([("onnx", "half", b"")], windows, ("a", "b"), Silent())
    assert error.value.status == 1
