"""The recorder's install: the wheel, bare, in a clean environment, small, and listening."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from repository import ROOT
from tiny_recordings import RATE, TONES, tone

MOST_BYTES = 250_000_000
NEVER = {"torch", "transformers", "onnx", "scipy", "matplotlib", "jinja2", "pandas"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder), str(ROOT)],
        capture_output=True, check=True,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_the_three_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if ".dist-info/" not in name}
    assert tops == {"edgeprune", "edgeprune_calibration", "edgeprune_device"}
    for page in ("report.html.j2", "scores.html.j2", "page.css"):
        assert f"edgeprune/reports/{page}" in names
    assert "edgeprune/pipeline/demo_model/model.safetensors" in names
    assert wheel.stat().st_size < 4_500_000


@pytest.mark.slow
def test_installed_bare_it_is_small_and_listens(
    wheel: Path, tiny_bundle: Path, recordings: Path, tmp_path: Path
) -> None:
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "clean")], check=True)
    python = tmp_path / "clean" / "bin" / "python"
    before = size_of(tmp_path / "clean")
    subprocess.run(
        [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check",
         "-c", ROOT / "constraints.txt", wheel], check=True,
    )  # fmt: skip
    assert size_of(tmp_path / "clean") - before < MOST_BYTES
    listed = subprocess.run([python, "-m", "pip", "list", "--format", "json"],
                            capture_output=True, check=True)  # fmt: skip
    installed = {package["name"].lower() for package in json.loads(listed.stdout)}
    assert not installed & NEVER
    sound = 0.003 * np.random.default_rng(0).standard_normal(3 * RATE)
    sound[RATE : RATE + 4800] += tone(TONES["high"], 0.3, 1)
    soundfile.write(tmp_path / "stream.wav", sound, RATE)
    command = tmp_path / "clean" / "bin" / "edgeprune"
    done = subprocess.run(
        [command, "listen", tiny_bundle, "--from-wav", tmp_path / "stream.wav",
         "-o", tmp_path / "j", "--json"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(done.stdout)["detections"] == {"high": 1}
    bench = subprocess.run(
        [command, "bench", tiny_bundle, "-o", tmp_path / "bench", "--seconds", "0.1",
         "--threads", "1", "--json"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(bench.stdout)["variants"][0]["n"] >= 20
    verify = subprocess.run(
        [command, "verify", tiny_bundle, recordings, "--teacher", tiny_bundle, "--split", "all",
         "--json"], capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert json.loads(verify.stdout)["bundle"]["agreement"] == 1.0
    missing = subprocess.run([command, "compress", "a", "b", "-o", tmp_path / "c"],
                             capture_output=True, text=True, check=False)  # fmt: skip
    assert missing.returncode == 3
    assert "pip install 'edgeprune[compress]'" in missing.stderr


def size_of(folder: Path) -> int:
    """Return the bytes of all files of a folder, compiled ones not counted."""
    return sum(
        p.stat().st_size for p in folder.rglob("*")
        if p.is_file() and not p.is_symlink() and p.suffix != ".pyc"
    )  # fmt: skip
