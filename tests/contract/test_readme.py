"""The commands of README and docs exist and take the options shown; the README's run in order."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import typer.main
from repository import ROOT
from tiny_recipes import QUICK_TOML
from tiny_recordings import RATE, TONES, tone

from edgeprune.cli.app import app

PAGES = (
    "README.md", "device/README.md", "device/BENCH.md", "calibration/README.md",
    "benchmarks/README.md", "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")
            if "_build" not in path.parts),
)  # fmt: skip


def commands(page: str) -> list[list[str]]:
    """Return the edgeprune commands of a page's shell blocks, continued lines joined.

    Of a group (``calibration select``), the command is both words.
    """
    groups = {name for name in named() if " " in name}
    text = (ROOT / page).read_text("utf-8")
    found = []
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            words = words[1:] if words[:1] == ["sudo"] else words
            if words and words[0] in ("edgeprune", ".venv/bin/edgeprune"):
                both = " ".join(words[1:3])
                found.append([both, *words[3:]] if both in groups else words[1:])
    return found


def named() -> dict[str, Any]:
    """Return every command by its name, those of a group as ``GROUP COMMAND``."""
    found: dict[str, Any] = {}
    whole: Any = typer.main.get_command(app)
    for name, command in whole.commands.items():
        own = getattr(command, "commands", None)
        found |= {f"{name} {n}": c for n, c in own.items()} if own else {name: command}
    return found


def options_of(command: str) -> set[str]:
    return {name for p in named()[command].params for name in (*p.opts, *p.secondary_opts)}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_and_option_that_is_shown_exists(page: str) -> None:
    for command, *words in commands(page):
        shown = {word.split("=")[0] for word in words if word.startswith("-")}
        assert shown <= options_of(command) | {"--help"}, f"{page}: edgeprune {command}"


def test_the_readme_opens_with_the_two_commands() -> None:
    first = re.search(r"```sh\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert first is not None
    assert [line.split("#")[0].strip() for line in first[1].splitlines()][:2] == [
        "make demo", "make test",
    ]  # fmt: skip


def test_every_command_is_in_the_reference() -> None:
    page = (ROOT / "docs/reference/command-line.md").read_text("utf-8")
    for name in named():
        assert f"### edgeprune {name}\n" in page


def test_links_to_files_lead_somewhere() -> None:
    for page in PAGES:
        text = (ROOT / page).read_text("utf-8")
        for target in re.findall(r"\]\(([^)#]+)", text):
            if not target.startswith("http"):
                assert ((ROOT / page).parent / target).exists(), f"{page}: {target}"


def test_the_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 150


@pytest.fixture(scope="module")
def workplace(
    backbone: Path, recordings: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, dict[str, str]]:
    """Give a folder as the README's reader has it, and what stands for the names it uses."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "quick.toml").write_text(QUICK_TOML)
    sound = 0.003 * np.random.default_rng(0).standard_normal(3 * RATE)
    sound[RATE : RATE + 4800] += tone(TONES["high"], 0.3, 1)
    soundfile.write(folder / "forest.wav", sound, RATE)
    return folder, {
        "facebook/wav2vec2-base-960h": str(backbone),
        "my-clips/labels.csv": str(recordings),
    }


@pytest.mark.slow
def test_every_command_runs_as_it_stands_and_in_its_order(
    workplace: tuple[Path, dict[str, str]],
) -> None:
    """On a tiny model and tiny recordings, with a recipe that makes it quick."""
    folder, names = workplace
    more = {"compress": ["--recipe", "quick.toml"], "score": ["--recipe", "quick.toml"],
            "verify": ["--max-drop", "90"], "bench": ["--seconds", "0.1"]}  # fmt: skip
    ran = []
    for command, *words in commands("README.md"):
        words = [names.get(word, word) for word in words]
        done = subprocess.run(
            [sys.executable, "-m", "edgeprune.cli", *command.split(), *words, *more.get(command, [])],
            cwd=folder, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        allowed = (0, 1) if command == "doctor" else (0,)  # this machine may have problems
        assert done.returncode in allowed, f"{command}: {done.stderr}"
        ran.append(command)
    assert ran == ["compress", "score", "verify", "bench", "doctor", "listen", "coverage", "export"]
    assert (folder / "detections.csv").read_text("utf-8").startswith("id,session,source,")


@pytest.mark.slow
def test_the_python_of_the_readme_runs_as_it_stands(
    workplace: tuple[Path, dict[str, str]],
) -> None:
    folder, names = workplace
    page = (ROOT / "README.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    for name, path in names.items():
        block = block.replace(name, path)
    block = block.replace('"runs/mine")', '"runs/python", edgeprune.load_recipe("quick.toml"))')
    done = subprocess.run(
        [sys.executable, "-c", block], cwd=folder, capture_output=True, text=True, timeout=300,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 3
