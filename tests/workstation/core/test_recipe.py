"""Recipes: read, merged, checked in sentences, and written back to the same settings."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from edgeprune.core.recipe import (
    build_settings,
    find_recipe,
    load_recipe,
    read_recipe,
    settings_of,
    to_toml,
)
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
    (tmp_path / "mine.toml").write_text("prune.kepp = 2\n", "utf-8")
    with pytest.raises(EdgepruneError, match=r"mine\.toml: The recipe has no setting prune\.kepp"):
        load_recipe(tmp_path / "mine.toml")


def test_a_name_close_to_a_preset_is_suggested() -> None:
    with pytest.raises(EdgepruneError) as error:
        find_recipe("tinny")
    assert error.value.hint == "Did you mean tiny?"


def test_settings_are_given_as_they_are_by_name_by_file_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text("seeds = 4\n", "utf-8")
    assert settings_of(None) == Settings()
    assert settings_of(Settings(seeds=2)) == Settings(seeds=2)
    assert settings_of("tiny") == load_recipe("tiny")
    assert settings_of(tmp_path / "mine.toml") == Settings(seeds=4)
    with pytest.raises(EdgepruneError, match="settings of type dict are not supported") as error:
        settings_of({"seeds": 4})  # type: ignore[arg-type]
    assert "load_recipe" in error.value.hint
