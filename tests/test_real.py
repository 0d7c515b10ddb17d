"""A real model on real recordings: the Keyword Transformer learns spoken digits and loses layers."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import shared

RECIPE = """
seeds = 1
max_drop = 0.02
[teach]
epochs = 4
[prune]
keep = 10
recovery_epochs = 2
[distill]
epochs = 2
label_epochs = 1
[bench]
seconds = 0.5
rounds = 3
"""


@pytest.mark.slow
def test_ten_layers_of_the_keyword_transformer_tell_spoken_digits_apart(
    kwt_folder: Path, tmp_path: Path, pytestconfig: pytest.Config
) -> None:
    digits = shared("data/fsdd_digits/labels.csv", pytestconfig)
    (tmp_path / "recipe.toml").write_text(RECIPE)
    done = subprocess.run(
        [sys.executable, "-m", "edgeprune.cli", "compress", str(kwt_folder), str(digits),
         "-o", str(tmp_path / "run"), "--recipe", str(tmp_path / "recipe.toml"), "--json"],
        capture_output=True, text=True, timeout=1200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["seeds"][0]["taught"]  # its own head knows yes and no, not the digits
    assert report["summary"]["teacher"]["accuracy"] > 0.9
    assert report["summary"]["bundle"]["layers"] == 10
    assert report["summary"]["bundle"]["agreement"] > 0.9
    assert report["seeds"][0]["export_difference"] < 1e-4
    assert list(report["score"]["curves"]["teacher"]) == ["label", "speaker"]
