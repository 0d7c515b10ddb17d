"""The three packages, their sub-packages and modules, from their docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from generators.markdown import line, prose, table

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "edgeprune": ROOT / "edgeprune",
    "edgeprune_device": ROOT / "device" / "edgeprune_device",
    "edgeprune_calibration": ROOT / "calibration" / "edgeprune_calibration",
}


def wings(package: str) -> str:
    """Return a table of a package's sub-packages: purpose and number of modules."""
    rows = []
    for folder in _folders(PACKAGES[package]):
        if folder != PACKAGES[package]:
            told = line(_docstring(folder / "__init__.py"))
            anchor = f"{package}-{folder.name}".replace("_", "-")
            name = f"[`{folder.name}`](modules.md#{anchor})"
            rows.append((name, told, str(len(_modules(folder)))))
    return table(("Sub-package", "Purpose", "Modules"), rows)


def listing() -> str:
    """Return every package with its sub-packages, and a line for each module."""
    parts = []
    for package, root in PACKAGES.items():
        parts.append(f"## {package}\n\n{_about(root)}")
        for folder in _folders(root):
            modules = _modules(folder)
            if not modules:
                continue
            if folder != root:
                parts.append(f"### {package}.{folder.name}\n\n{_about(folder)}")
            rows = [(f"`{file.name}`", _first(_docstring(file))) for file in modules]
            parts.append(table(("Module", "What it holds"), rows))
    return "\n\n".join(parts)


def _folders(root: Path) -> Iterator[Path]:
    """Yield a package's folder, then its sub-packages, in the order of their names."""
    yield root
    yield from sorted(path.parent for path in root.glob("*/__init__.py"))


def _modules(folder: Path) -> list[Path]:
    return sorted(file for file in folder.glob("*.py") if file.name != "__init__.py")


def _docstring(file: Path) -> str:
    return ast.get_docstring(ast.parse(file.read_text("utf-8"))) or ""


def _about(folder: Path) -> str:
    return prose(_docstring(folder / "__init__.py").split("\n\n    ")[0])


def _first(docstring: str) -> str:
    """Return a docstring's first paragraph on one line."""
    return line(docstring)
