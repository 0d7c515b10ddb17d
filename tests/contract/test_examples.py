"""The examples run: three scripts on tiny models and clips, the notebook from its first cell to its last."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from repository import ROOT
from tiny_recipes import QUICK_TOML
from tiny_recordings import RATE, TONES, tone

EXAMPLES = ROOT / "examples"


def run(script: str, *arguments: object, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / script), *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False, cwd=folder,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_run_a_bundle_prints_the_windows_with_a_sure_label(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    sound = 0.003 * np.random.default_rng(0).standard_normal(3 * RATE)
    sound[RATE : RATE + 4800] += tone(TONES["high"], 0.3, 1)
    soundfile.write(tmp_path / "forest.wav", sound, RATE)
    lines = run("run_a_bundle.py", tiny_bundle, "forest.wav", "0.9", folder=tmp_path).splitlines()
    assert lines[0] == "tiny: low, middle, high"
    assert {line.split()[-1] for line in lines[1:]} == {"high"}
    assert lines[1].split()[0] == "0.95"


def test_plot_convexity_writes_a_picture_and_says_what_to_keep(
    backbone: Path, recordings: Path, tmp_path: Path
) -> None:
    said = run("plot_convexity.py", backbone, recordings, "score", folder=tmp_path)
    assert "of 3 layers" in said
    assert (tmp_path / "score" / "convexity.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "score" / "report.html").is_file()


@pytest.mark.slow
def test_compress_a_model_prints_the_table_and_leaves_a_bundle(
    backbone: Path, recordings: Path, tmp_path: Path
) -> None:
    (tmp_path / "quick.toml").write_text(QUICK_TOML, "utf-8")
    said = run("compress_a_model.py", backbone, recordings, "run", "quick.toml", folder=tmp_path)
    assert "teacher, float32" in said
    assert "times as fast" in said.splitlines()[-1]
    assert (tmp_path / "run" / "bundle" / "bundle.json").is_file()


@pytest.mark.slow
def test_the_notebook_runs_and_shows_its_tables(tmp_path: Path) -> None:
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(EXAMPLES / "first_compression.ipynb", 4)
    NotebookClient(notebook, timeout=1200, resources={"metadata": {"path": tmp_path}}).execute()
    shown = [page_of(cell) for cell in notebook.cells if cell.cell_type == "code"]
    scored, plotted, compressed, said, predicted = shown[1:]
    assert "convexity of label" in scored
    assert "image/png" in plotted
    for row in ("teacher, float32", "student, float32", "bundle, onnx"):
        assert row in compressed
    assert "times smaller" in said
    assert "<th>score</th>" in predicted


def page_of(cell: Any) -> str:
    """Return everything a cell shows: texts, pages, and the kinds of its pictures."""
    parts = []
    for output in cell.outputs:
        if output.output_type == "stream":
            parts.append(output.text)
        for kind, content in output.get("data", {}).items():
            parts.append(kind if kind.startswith("image/") else content)
    return "\n".join(parts)
