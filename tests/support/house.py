"""The rooms of the house: packages, wings in their order, and every module with its test file.

Read by ``contract/test_imports.py`` and ``contract/test_modules.py``; CONTRIBUTING has it as a tree.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from repository import ROOT

PACKAGES = {
    "edgeprune_device": ROOT / "device" / "edgeprune_device",
    "edgeprune_calibration": ROOT / "calibration" / "edgeprune_calibration",
    "edgeprune": ROOT / "edgeprune",
}
"""In the order of their imports: a package may import those before it."""
WINGS = {
    "edgeprune": (
        "core", "metrics", "nn", "data", "models", "training", "export", "replacement",
        "depth_pruning", "width_pruning", "closed_form", "quantization", "deployment", "reports", "pipeline",
        "cli",
    ),
    "edgeprune_device": (
        "", "system", "bundle", "audio", "inference", "monitoring", "clips", "detection",
        "journal", "sinks", "bench", "recorder", "doctor",
    ),
    "edgeprune_calibration": ("",),
}  # fmt: skip
"""In the order of their imports: a wing may import those before it; "" is the package's top."""
TESTS = {
    "edgeprune": ROOT / "tests" / "workstation",
    "edgeprune_device": ROOT / "tests" / "recorder",
    "edgeprune_calibration": ROOT / "tests" / "calibration",
}


@dataclass(frozen=True)
class Module:
    """A file of ours that is not a package's ``__init__`` or ``__main__``."""

    package: str
    wing: str
    file: Path

    @property
    def name(self) -> str:
        """Dotted name."""
        return ".".join(filter(None, (self.package, self.wing, self.file.stem)))

    @property
    def test(self) -> Path:
        """Where its tests are."""
        return TESTS[self.package] / self.wing / f"test_{self.file.name}"


def modules() -> Iterator[Module]:
    """Give every module, package by package, wing by wing."""
    for package, folder in PACKAGES.items():
        for file in sorted(folder.rglob("*.py")):
            if file.name not in ("__init__.py", "__main__.py"):
                inside = file.relative_to(folder).parts
                yield Module(package, "/".join(inside[:-1]), file)


def imported(file: Path) -> Iterator[str]:
    """Give the dotted names that a file imports, inside functions and ``TYPE_CHECKING``, too."""
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
