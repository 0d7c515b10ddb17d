"""What holds the house up: the direction of imports, and what may be loaded where."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path

import pytest
from repository import ROOT

PACKAGES = {
    "edgeprune_device": ROOT / "device" / "edgeprune_device",
    "edgeprune_calibration": ROOT / "calibration" / "edgeprune_calibration",
    "edgeprune": ROOT / "edgeprune",
}
MAY_IMPORT = {  # of our own
    "edgeprune_device": {"edgeprune_device"},
    "edgeprune_calibration": {"edgeprune_calibration", "edgeprune_device"},
    "edgeprune": set(PACKAGES),
}
RECORDER = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "sounddevice", "soundfile",
            "soxr", "paho", "prometheus_client"}  # fmt: skip
INSIDE = {"bundle/signature.py": {"cryptography"}}
HEAVY = {"torch", "transformers", "onnx", "scipy", "matplotlib", "pandas", "pydantic", "rich"}


def imports_of(file: Path) -> set[str]:
    """Return the top-level names a file imports anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found.add((node.module or "").split(".")[0])
    return found


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules a fresh interpreter has loaded after running code."""
    script = (
        f"import sys\n{code}\nimport json; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    names = json.loads(done.stderr.strip().splitlines()[-1])
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_point_one_way(package: str) -> None:
    for file in PACKAGES[package].rglob("*.py"):
        own = {name for name in imports_of(file) if name.startswith("edgeprune")}
        assert own <= MAY_IMPORT[package], file


def test_the_recorder_imports_nothing_but_numpy_a_runtime_and_sound() -> None:
    for package in ("edgeprune_device", "edgeprune_calibration"):
        for file in PACKAGES[package].rglob("*.py"):
            others = imports_of(file) - set(sys.stdlib_module_names) - set(PACKAGES)
            allowed = INSIDE.get(str(file.relative_to(PACKAGES[package])), set())
            assert others - RECORDER <= allowed, file


@pytest.mark.parametrize("name", INSIDE)
def test_what_only_some_recorders_need_is_imported_inside_a_function(name: str) -> None:
    file = ROOT / "device/edgeprune_device" / name
    top = {
        alias.split(".")[0]
        for node in ast.parse(file.read_text("utf-8")).body
        for alias in (
            [found.name for found in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert not top & INSIDE[name]


@pytest.mark.parametrize(
    "command",
    [
        "",
        "compress",
        "score",
        "verify",
        "bench",
        "listen",
        "demo",
        "doctor",
        "service",
        "status",
        "calibrate",
        "calibration select",
    ],
)
def test_help_loads_nothing_heavy(command: str) -> None:
    arguments = [*command.split(), "--help"]
    code = (
        f"sys.argv = ['edgeprune', *{arguments!r}]\n"
        "from edgeprune.cli.app import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert not loaded_by(code) & (HEAVY | {"numpy", "onnxruntime", "sounddevice"})


def test_the_recorders_commands_load_nothing_of_the_workstation() -> None:
    names = ("edgeprune_device.recorder.listen", "edgeprune_device.bench.runner",
             "edgeprune.deployment.verify")  # fmt: skip
    code = f"import {', '.join(names)}"
    assert not loaded_by(code) & HEAVY


def test_every_file_says_what_it_is_for_and_stays_readable() -> None:
    for folder in (*PACKAGES.values(), ROOT / "tests", ROOT / "benchmarks"):
        for file in folder.rglob("*.py"):
            text = file.read_text("utf-8")
            assert ast.get_docstring(ast.parse(text)), f"{file} has no docstring"
            if folder.name != "tests":
                assert text.count("\n") <= 400, f"{file} is too long"
