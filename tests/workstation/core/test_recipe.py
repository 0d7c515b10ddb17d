"""Recipes: read, merged, checked in sentences, and written back to the same settings."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgeprune.core.recipe import build_settings, find_recipe, load_recipe, read_recipe, to_toml
from edgeprune.core.settings import Settings
from edgeprune_device.errors import EdgepruneError


def test_a_recipe_that_was_saved_reads_back_to_the_same_settings(tmp_path: Path) -> None:
    changed = build_settings(
        {"seeds": 7, "clips": {"label": 'a "b" \\ c'}, "prune": {"layers": [0, 2]},
         "distill": {"temperature": 3}, "score": {"labelings": ["x", "y"]}}
    )  # fmt: skip
    for settings in (Settings(), changed):
        (tmp_path / "recipe.toml").write_text(to_toml(settings), "utf-8")
        assert build_settings(read_recipe(tmp_path / "recipe.toml")) == settings


@pytest.mark.parametrize("label", ["a\nb", "tab\there", "\x7f", "\x01", "Möwe 🐦", "'\"\\", ""])
def test_any_column_name_can_be_saved(label: str, tmp_path: Path) -> None:
    settings = build_settings({"clips": {"label": label}})
    (tmp_path / "recipe.toml").write_bytes(to_toml(settings).encode())
    assert build_settings(read_recipe(tmp_path / "recipe.toml")).clips.label == label


def test_the_command_line_wins_over_the_recipe() -> None:
    built = build_settings({"seeds": 5, "prune": {"keep": 3}}, {"seeds": 2})
    assert (built.seeds, built.prune.keep) == (2, 3)


@pytest.mark.parametrize(
    ("values", "sentence", "hint"),
    [
        ({"sedes": 1}, "no setting sedes", "Did you mean seeds"),
        ({"teach": {"epoch": 1}}, r"no setting teach\.epoch", r"Did you mean teach\.epochs"),
        ({"seeds": "3"}, "seeds = '3' has the wrong type", "Its default is 3"),
        ({"seeds": True}, "seeds = True has the wrong type", ""),
        ({"teach": 3}, "teach = 3 has the wrong type", ""),
        ({"seeds": 0}, r"seeds = 0 is out of range \(allowed: from 1\)", ""),
        ({"max_drop": -0.1}, r"max_drop = -0.1 is out of range \(allowed: from 0\)", ""),
        ({"max_drop": 1.5}, r"max_drop = 1.5 is out of range \(allowed: less than 1\)", ""),
        ({"max_drop": float("nan")}, "max_drop = nan has the wrong type", ""),
        (
            {"clips": {"fractions": [0.7, 0.3]}},
            r"clips\.fractions = \[0\.7, 0\.3\] has the wrong",
            "",
        ),
        ({"clips": {"fractions": ["a", "b", "c"]}}, r"clips\.fractions .* has the wrong type", ""),
        (
            {"clips": {"fractions": [1, -1, 1]}},
            r"clips\.fractions .* is out of range \(allowed: from 0\)",
            "",
        ),
        (
            {"clips": {"fractions": [0, 1, 1]}},
            r"clips\.fractions .* leaves no clips for training",
            "",
        ),
        ({"prune": {"layers": [1.0]}}, r"prune\.layers = \[1\.0\] has the wrong type", ""),
        ({"prune": {"layers": "12"}}, r"prune\.layers = '12' has the wrong type", ""),
        ({"score": {"labelings": [3]}}, r"score\.labelings = \[3\] has the wrong type", ""),
        (
            {"bench": {"threads": [1, 0]}},
            r"bench\.threads = \(1, 0\) is out of range \(allowed: from 1\)",
            "",
        ),
        ({"bench": {"threads": []}}, r"bench\.threads = \(\) is empty; it needs at least one", ""),
        (
            {"bench": {"seconds": 0}},
            r"bench\.seconds = 0\.0 is out of range \(allowed: more than 0\)",
            "",
        ),
        (
            {"distill": {"temperature": 0}},
            r"distill\.temperature = 0\.0 is out of range \(allowed: more than 0\)",
            "",
        ),
        (
            {"quantize": {"precision": 95}},
            r"quantize\.precision = 95\.0 is out of range \(allowed: at most 1\)",
            "",
        ),
        (
            {"quantize": {"smoothing_windows": 0}},
            r"smoothing_windows = 0 is out of range \(allowed: from 1\)",
            "",
        ),
        ({"bench": {"rounds": 2}}, r"bench\.rounds = 2 is out of range \(allowed: 3 to 7\)", ""),
        (
            {"export": {"opset": 11}},
            r"export\.opset = 11 is out of range \(allowed: 17 to 20\)",
            "",
        ),
        ({"quantize": {"method": "int3"}}, r"quantize\.method = 'int3' is not known", "dynamic"),
    ],
)
def test_what_makes_no_sense_is_named(values: dict[str, Any], sentence: str, hint: str) -> None:
    with pytest.raises(EdgepruneError, match=sentence) as error:
        build_settings(values)
    assert hint.replace("\\", "") in error.value.hint


def test_a_file_that_is_no_recipe_is_named(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("seeds = = 3")
    with pytest.raises(EdgepruneError, match=r"The recipe .*r\.toml is not TOML"):
        read_recipe(tmp_path / "r.toml")
    with pytest.raises(EdgepruneError, match=r"The recipe .*nothing\.toml cannot be read"):
        read_recipe(tmp_path / "nothing.toml")


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


def test_a_preset_is_loaded_by_its_name_and_single_values_changed() -> None:
    with find_recipe("tiny").open("rb") as file:
        written = tomllib.load(file)
    settings = load_recipe("tiny", seeds=1, clips={"label": "species"})
    assert list(settings.steps) == written["steps"]
    assert (settings.seeds, settings.clips.label) == (1, "species")
    assert load_recipe() == Settings()


def test_a_recipe_of_ones_own_is_loaded_from_its_file(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seeds = 4\n[prune]\nkeep = 2\n", "utf-8")
    settings = load_recipe(tmp_path / "mine.toml", prune={"tolerance": 0.5})
    assert (settings.seeds, settings.prune.keep, settings.prune.tolerance) == (4, 2, 0.5)
    with pytest.raises(EdgepruneError, match="There is no recipe 'hughe'"):
        load_recipe("hughe")
    with pytest.raises(EdgepruneError, match="no setting sead"):
        load_recipe(tmp_path / "mine.toml", sead=1)
