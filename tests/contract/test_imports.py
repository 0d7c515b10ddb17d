"""The direction of imports, between packages and between wings, and what may be loaded where."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import json
import re
import subprocess
import sys

import pytest
from house import PACKAGES, WINGS, imported, modules
from repository import ROOT

from edgeprune.core.settings import STEPS
from edgeprune.models.serialization import PARTS
from edgeprune.width_pruning.units import READY

NEVER = {  # beside the order of the wings
    **{wing: set(WINGS["edgeprune"]) - {wing} for wing in ("core", "metrics", "nn")},
    "reports": {"models", "nn"},
    "replacement": {"depth_pruning", "width_pruning"},
    "depth_pruning": {"replacement", "width_pruning"},
    "width_pruning": {"replacement", "depth_pruning"},
}
RECORDER_NEVER = {
    "bundle": {"edgeprune_device.inference"},
    "detection": {"edgeprune_device.audio"},
}
DETECTION_MAY = {"edgeprune_device.audio.level", "edgeprune_device.audio.sound_files.QUALITY"}
RECORDER = {"numpy", "onnxruntime", "ai_edge_litert", "tflite_runtime", "sounddevice", "soundfile",
            "soxr", "paho", "prometheus_client"}  # fmt: skip
INSIDE = {"bundle/signature.py": {"cryptography"}}
HEAVY = {"torch", "transformers", "onnx", "scipy", "matplotlib", "pandas", "pydantic", "rich"}


def top(dotted: str) -> str:
    return dotted.split(".")[0]


def wing_of(dotted: str) -> str:
    """Return the wing an imported name of ours stands in; "" for the top of its package."""
    package, *rest = dotted.split(".")
    return rest[0] if rest and rest[0] in WINGS[package] else ""


def loaded_by(code: str) -> set[str]:
    """Return the top-level modules a fresh interpreter has loaded after running code."""
    script = (
        f"import sys\n{code}\nimport json; print(json.dumps(sorted(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True
    )
    return {top(name) for name in json.loads(done.stderr.strip().splitlines()[-1])}


@pytest.mark.parametrize("package", PACKAGES)
def test_packages_import_one_way(package: str) -> None:
    allowed = set(list(PACKAGES)[: list(PACKAGES).index(package) + 1])
    for file in PACKAGES[package].rglob("*.py"):
        own = {top(name) for name in imported(file) if top(name).startswith("edgeprune")}
        assert own <= allowed, file


@pytest.mark.parametrize("package", PACKAGES)
def test_wings_import_one_way(package: str) -> None:
    """Imports inside functions count, so that there can be no circle."""
    floors, wrong = WINGS[package], set()
    for module in modules():
        if module.package != package:
            continue
        for name in imported(module.file):
            other = wing_of(name) if top(name) == package else module.wing
            if other == "" and "" not in floors:  # the version, at the top of the workstation
                assert name == f"{package}.__version__", f"{module.name} imports {name}"
                continue
            if floors.index(other) > floors.index(module.wing):
                wrong.add(f"{module.name} imports {name}")
    assert not wrong, "\n".join(sorted(wrong))


def test_some_wings_never_import_some_that_stand_before_them() -> None:
    for module in modules():
        for name in imported(module.file):
            if module.package == "edgeprune" and top(name) == "edgeprune":
                assert wing_of(name) not in NEVER.get(module.wing, ()), f"{module.name}: {name}"
            if module.package == "edgeprune_device":
                never = RECORDER_NEVER.get(module.wing, ())
                if any(name.startswith(other) for other in never):
                    assert any(name.startswith(may) for may in DETECTION_MAY), (
                        f"{module.name}: {name}"
                    )
    for module in modules():
        if module.wing == "reports":
            assert "torch" not in {top(name) for name in imported(module.file)}, module.name


def test_the_recorder_imports_nothing_but_numpy_a_runtime_and_sound() -> None:
    for package in ("edgeprune_device", "edgeprune_calibration"):
        for file in PACKAGES[package].rglob("*.py"):
            others = {top(name) for name in imported(file)} - set(sys.stdlib_module_names)
            allowed = INSIDE.get(str(file.relative_to(PACKAGES[package])), set())
            assert others - set(PACKAGES) - RECORDER <= allowed, file


@pytest.mark.parametrize("name", INSIDE)
def test_what_only_some_recorders_need_is_imported_inside_a_function(name: str) -> None:
    tree = ast.parse((PACKAGES["edgeprune_device"] / name).read_text("utf-8"))
    at_top = {
        top(found)
        for node in tree.body
        for found in (
            [alias.name for alias in node.names] if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    assert not at_top & INSIDE[name]


def test_every_name_that_is_loaded_by_a_string_is_there() -> None:
    names = [*PARTS.values(), *(work for work, _ in STEPS.values()),
             *(f"{module}:make_trimmable" for module in READY.values())]  # fmt: skip
    for name in names:
        module, _, attribute = name.partition(":")
        assert hasattr(importlib.import_module(module), attribute), name


def test_every_module_that_is_started_as_a_program_is_there() -> None:
    """``python -m edgeprune...``, in the code, the tests and the benchmarks."""
    started = re.compile(
        r"[\"']-m[\"'],\s*[\"'](edgeprune[\w.]*)[\"']|run_module\(\s*[\"'](edgeprune[\w.]*)"
    )
    folders = (*PACKAGES.values(), ROOT / "tests", ROOT / "benchmarks")
    found = {
        one or other
        for folder in folders
        for file in folder.rglob("*.py")
        for one, other in started.findall(file.read_text("utf-8"))
    }
    assert {"edgeprune.cli", "edgeprune_device.audio.capture_process"} <= found
    for name in found:
        spec = importlib.util.find_spec(name)
        assert spec is not None, name
        if spec.submodule_search_locations is not None:
            assert importlib.util.find_spec(f"{name}.__main__") is not None, name


@pytest.mark.parametrize(
    "command",
    ["", "compress", "score", "verify", "bench", "listen", "demo", "doctor", "service", "status",
     "calibrate", "calibration select"],
)  # fmt: skip
def test_help_loads_nothing_heavy(command: str) -> None:
    arguments = [*command.split(), "--help"]
    code = (
        f"sys.argv = ['edgeprune', *{arguments!r}]\n"
        "from edgeprune.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )
    assert not loaded_by(code) & (HEAVY | {"numpy", "onnxruntime", "sounddevice"})


def test_the_recorders_commands_load_nothing_of_the_workstation() -> None:
    names = ("edgeprune_device.recorder.listen", "edgeprune_device.bench.runner",
             "edgeprune_device.inference.predict", "edgeprune.deployment.verify")  # fmt: skip
    assert not loaded_by(f"import {', '.join(names)}") & HEAVY


@pytest.mark.parametrize("package", ["edgeprune", "edgeprune_device"])
def test_importing_a_package_loads_no_third_party_module(package: str) -> None:
    others = loaded_by(f"import {package}") - loaded_by("pass") - set(sys.stdlib_module_names)
    assert others <= {package}
