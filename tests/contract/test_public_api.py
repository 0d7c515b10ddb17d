"""The public API: what is exported, that it is typed and documented, and that it is used in one line."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from house import WINGS
from numpy.typing import NDArray
from repository import ROOT
from tiny_recordings import RATE, TONES, tone

import edgeprune
import edgeprune_device
from edgeprune.core.settings import Settings

NAMES = {
    "edgeprune": [
        "EdgepruneError", "Settings", "__version__", "bench", "compress", "graph_convexity",
        "keep_layers", "layer_similarity", "listen", "load_bundle", "load_model", "load_recipe",
        "open_model", "score", "verify", "wrap",
    ],
    "edgeprune_device": ["EdgepruneError", "listen", "load_bundle", "open_model"],
}  # fmt: skip


@pytest.mark.parametrize("package", NAMES)
def test_exactly_the_public_names_are_exported(package: str) -> None:
    module = importlib.import_module(package)
    assert module.__all__ == sorted(module.__all__) == NAMES[package]
    assert dir(module) == NAMES[package]


@pytest.mark.parametrize("package", NAMES)
def test_every_public_name_is_what_type_checkers_see(package: str) -> None:
    """The lazy table and the imports under ``TYPE_CHECKING`` name the same objects."""
    module = importlib.import_module(package)
    text = Path(module.__file__ or "").read_text("utf-8")
    for name, home in module._MODULES.items():
        assert f"    from {home} import " in text
        assert getattr(module, name) is getattr(importlib.import_module(home), name)


@pytest.mark.parametrize("package", NAMES)
def test_every_public_function_is_typed_and_documented(package: str) -> None:
    module = importlib.import_module(package)
    for name in module.__all__:
        found = getattr(module, name)
        if not inspect.isfunction(found):
            continue
        described = inspect.getdoc(found) or ""
        for parameter in inspect.signature(found).parameters.values():
            assert parameter.annotation is not parameter.empty, f"{name}({parameter.name})"
            assert parameter.name in described, f"{name} does not document {parameter.name}"
        assert "Raises\n" in described, name


@pytest.mark.parametrize("package", NAMES)
def test_a_name_that_is_not_public_is_an_attribute_error(package: str) -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        importlib.import_module(package).nothing  # noqa: B018


def test_no_public_name_is_a_wings() -> None:
    for package, names in NAMES.items():
        assert not set(names) & set(WINGS[package])


def test_a_missing_extra_is_a_sentence_and_a_hint() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import edgeprune\n"
        "try:\n    edgeprune.load_model\n"
        "except edgeprune.EdgepruneError as error:\n    print(error, error.hint, error.status)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith("pip install 'edgeprune[compress]' 3")
    assert "needs torch, which is not installed" in done.stdout


def test_a_recipe_is_a_presets_settings_with_single_values_changed() -> None:
    assert edgeprune.load_recipe() == Settings()
    found = edgeprune.load_recipe("tiny", seeds=1, clips={"label": "species"})
    assert found.steps == ("student",)
    assert (found.seeds, found.clips.label) == (1, "species")
    with pytest.raises(edgeprune.EdgepruneError, match=r"no setting clips\.lable") as error:
        edgeprune.load_recipe(clips={"lable": "species"})
    assert "clips.label" in error.value.hint


def test_bad_input_is_an_error_of_ours_and_never_an_exit(tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    for call in (
        lambda: edgeprune.compress(nothing, nothing, tmp_path / "run"),
        lambda: edgeprune.score(nothing, nothing, tmp_path / "run"),
        lambda: edgeprune.verify(nothing, nothing),
        lambda: edgeprune.bench(nothing, tmp_path / "bench"),
        lambda: edgeprune.listen(nothing, tmp_path / "journal", from_wav=nothing),
        lambda: edgeprune.load_bundle(nothing),
        lambda: edgeprune.open_model(nothing),
        lambda: edgeprune.load_model(nothing),
        lambda: edgeprune.wrap(nothing, tmp_path / "bundle"),
        lambda: edgeprune.wrap(nothing, tmp_path / "bundle", lables=("a",)),
        lambda: edgeprune.load_recipe("nothing"),
        lambda: edgeprune.graph_convexity(np.zeros((3, 2)), ["a", "b"], k=1),
        lambda: edgeprune.layer_similarity([np.zeros((3, 2)), np.zeros((4, 2))]),
    ):
        with pytest.raises(edgeprune.EdgepruneError):
            call()
    assert not (tmp_path / "run").exists()


def test_a_bundle_predicts_the_tones_it_was_made_for(tiny_bundle: Path, tmp_path: Path) -> None:
    sound: NDArray[np.float64] = 0.003 * np.random.default_rng(0).standard_normal(3 * RATE)
    sound[RATE : RATE + 4800] += tone(TONES["high"], 0.3, 1)
    soundfile.write(tmp_path / "forest.wav", sound, RATE)
    model = edgeprune_device.load_bundle(tiny_bundle)
    best = max(model.predict(tmp_path / "forest.wav"), key=lambda found: found.score)
    assert best.label == "high"
    assert 0.9 < best.start_seconds < 1.3


def test_the_example_scripts_are_short() -> None:
    scripts = sorted((ROOT / "examples").glob("*.py"))
    assert len(scripts) == 3
    assert all(len(script.read_text("utf-8").splitlines()) < 40 for script in scripts)
