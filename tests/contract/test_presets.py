"""The recipes that ship with edgeprune: each is read, and each goes the whole way on a tiny model."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
from slow_cases import some_of

from edgeprune.core.console import Silent
from edgeprune.core.recipe import RECIPES, build_settings, find_recipe, read_recipe
from edgeprune.deployment.candidates import AUTO
from edgeprune.export import timing
from edgeprune.pipeline.compress import compress
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError

PRESETS = sorted(path.stem for path in RECIPES.glob("*.toml"))
SHORT: dict[str, Any] = {  # one epoch of everything that a preset trains for many
    "seeds": 1, "max_drop": 0.99, "teach": {"epochs": 1, "batch_size": 16},
    "score": {"neighbours": 3, "permutations": 5}, "prune": {"recovery_epochs": 0},
    "trim": {"epochs": 1, "recovery_epochs": 0}, "mimic": {"epochs": 1, "label_epochs": 1},
    "frontend": {"epochs": 1, "whole_epochs": 1, "label_epochs": 0},
    "student": {"epochs": 1, "label_epochs": 1, "width": 16, "layers": 1, "stem_channels": 2},
    "bench": {"seconds": 0.05, "threads": [1], "rounds": 3},
}  # fmt: skip


def test_the_presets_are_those_that_the_help_names() -> None:
    assert PRESETS == ["depth", "light", "mimic", "paper-2408.11858", "paper-2409.16302",
                       "paper-bird-poster", "paper-genova", "quick", "tiny", "trim"]  # fmt: skip


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_says_what_it_is_for_and_sets_only_what_is_known(name: str) -> None:
    text = find_recipe(name).read_text("utf-8")
    assert text.startswith("# ")
    built = build_settings(read_recipe(find_recipe(name)))
    assert list(built.steps) == tomllib.loads(text)["steps"]


@pytest.mark.parametrize("name", some_of(PRESETS, "tiny"))
def test_a_preset_goes_the_whole_way(
    name: str, backbone: Path, recordings: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "TIMED_SECONDS", 0.02)
    settings = build_settings(read_recipe(find_recipe(name)), SHORT)
    done = compress(str(backbone), recordings, tmp_path / "run", settings, ui=Silent())
    steps = done.report["seeds"][0]["steps"]
    assert [step["step"] for step in steps] == ["teach", *settings.steps]
    assert all(step["macs"] > 0 and step["parameters"] > 0 for step in steps)
    bundle = read_bundle(tmp_path / "run" / "bundle")
    asked = settings.quantize.method
    assert bundle.manifest["model"]["quantization"] in (AUTO if asked == "auto" else (asked,))
    assert bundle.manifest["provenance"]["steps"][-1]["macs"] == steps[-1]["macs"]
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert "Compression steps" in page
    assert json.loads((tmp_path / "run" / "report.json").read_text("utf-8"))["seeds"]


def test_a_recipe_of_ones_own_comes_before_a_preset_of_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe("tiny") == RECIPES / "tiny.toml"
    Path("tiny").write_text("seeds = 2\n", "utf-8")
    assert find_recipe("tiny") == Path("tiny")
    with pytest.raises(EdgepruneError, match="no recipe 'huge'") as error:
        find_recipe("huge")
    assert "paper-genova" in error.value.hint


@pytest.mark.parametrize(
    ("earlier", "name"),
    [("paper-seed1", "paper-bird-poster"), ("paper-seed2", "paper-2408.11858"),
     ("paper-seed3", "paper-2409.16302"), ("paper-seed4", "paper-genova")],
)  # fmt: skip
def test_an_earlier_name_of_a_preset_is_still_read(
    earlier: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert find_recipe(earlier) == RECIPES / f"{name}.toml"
    Path(earlier).write_text("seeds = 2\n", "utf-8")
    assert find_recipe(earlier) == Path(earlier)


def test_a_step_that_is_none_is_named() -> None:
    with pytest.raises(EdgepruneError, match="steps contains 'dept', which is not known") as error:
        build_settings({"steps": ["dept"]})
    assert "depth" in error.value.hint
