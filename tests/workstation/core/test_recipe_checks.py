"""Checks of a recipe: ranges, choices, and settings that contradict each other."""

from __future__ import annotations

from typing import Any

import pytest

from edgeprune.core.recipe import build_settings
from edgeprune_device.errors import EdgepruneError


def test_a_rule_to_fine_tune_that_is_none_is_named() -> None:
    with pytest.raises(EdgepruneError, match="contains 'greedy', which is not known"):
        build_settings({"finetune": {"rules": ["greedy"]}})


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (
            {"augment": {"noise_share": 5.0}},
            r"augment\.noise_share = 5\.0 is out of range \(allowed: at most 1\)",
        ),
        (
            {"augment": {"mask_time": 3.0}},
            r"augment\.mask_time = 3\.0 is out of range \(allowed: at most 1\)",
        ),
        (
            {"mimic": {"kernel": 4}},
            r"mimic\.kernel = 4 is out of range \(allowed: odd numbers from 1\)",
        ),
        (
            {"student": {"kernel": -1}},
            r"student\.kernel = -1 is out of range \(allowed: odd numbers from 1\)",
        ),
        ({"steps": ["trim", "student"]}, "step student starts a new model"),
        ({"steps": ["mimic", "depth"]}, "depth cannot follow mimic"),
        ({"steps": ["depth", "depth"]}, "depth cannot follow depth"),
        ({"precision": "fp16"}, "precision = 'fp16' is not known"),
    ],
)
def test_what_could_not_work_is_refused_before_any_training(
    values: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        build_settings(values)


@pytest.mark.parametrize(
    "steps", [["trim", "depth", "mimic"], ["student", "trim"], ["depth", "trim", "trim"], []]
)
def test_steps_that_go_with_each_other_are_taken(steps: list[str]) -> None:
    assert list(build_settings({"steps": steps}).steps) == steps


def test_a_recipe_asks_for_halves_of_an_onnx_file_only() -> None:
    asked = {"quantize": {"incremental": "on"}}
    with pytest.raises(EdgepruneError, match=r"export\.formats does not include onnx"):
        build_settings(asked, {"export": {"formats": ("tflite",)}})
    build_settings(asked, {"export": {"formats": ("tflite", "onnx")}})
    with pytest.raises(EdgepruneError, match="is not known"):
        build_settings({"quantize": {"incremental": "yes"}})


def test_together_asks_for_two_formats() -> None:
    with pytest.raises(EdgepruneError, match=r"export\.formats has only one") as error:
        build_settings({}, {"export": {"together": True}})
    assert "--format onnx,tflite" in error.value.hint


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"clips": {"task": "tag"}}, "clips.task = 'tag' is not known"),
        ({"clips": {"task": "ctc", "tokens": "phones"}}, "clips.tokens = 'phones' is not known"),
        ({"clips": {"task": "ctc"}, "teach": {"head": "mlp"}}, "does not fit clips.task"),
        ({"teach": {"head": "bilstm"}}, "'bilstm' does not fit clips.task = 'classes'"),
        ({"clips": {"task": "tags", "context": "file"}}, "needs classes, but clips.task = 'tags'"),
        (
            {"clips": {"task": "ctc"}, "score": {"labelings": ["speaker"]}},
            "have no classes whose convexity",
        ),
    ],
)
def test_settings_that_do_not_go_together_are_refused(
    changes: dict[str, dict[str, object]], sentence: str
) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        build_settings(changes)
