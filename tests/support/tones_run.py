"""The recipe of the run that many tests look at: two seeds on tiny recordings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from said import Lines
from tiny_recipes import CLASSES_RECIPE

from edgeprune.core.recipe import build_settings
from edgeprune.core.settings import Settings

STAGES = ("teach", "states", "score", "depth", "distill", "export-teacher", "export", "quantize",
          "verify")  # fmt: skip
HOP_SECONDS = 0.05


def settings(**changes: Any) -> Settings:
    return build_settings(CLASSES_RECIPE, {"quantize": {"hop_seconds": HOP_SECONDS}}, changes)


def report_of(out: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((out / "report.json").read_text("utf-8"))
    return found


class ReusedLines(Lines):
    """Tells which stages were reused."""

    @property
    def reused(self) -> set[str]:
        return {line.split()[0] for line in self.said if line.endswith("reused")}
