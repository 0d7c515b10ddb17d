"""``make faults``: what each fault test tried and what was lost, as a table.

A test asks for the fixture ``tally`` and says what it counted; the table is made from those counts
alone, at the end of the run. With ``--faults-out FILE`` they are also written as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

FAULTS = {
    "F1": "SIGKILL while it writes", "F2": "full disk", "F3": "read-only folder",
    "F4": "microphone vanishes", "F5": "audio server killed", "F6": "audio server frozen",
    "F7": "microphone absent or renumbered", "F8": "rate not supported",
    "F9": "NaN, infinity, 3e38 in the sound", "F10": "dead microphone: silence, DC, stuck, clipped",
    "F11": "model slower than the sound", "F12": "model hangs", "F13": "scores NaN or constant",
    "F14": "corrupted bundle", "F15": "bundle that contradicts itself", "F16": "hostile zip",
    "F17": "wall clock jumps", "F18": "journal locked by another program",
    "F19": "broker or webhook down or slow", "F20": "SIGTERM while it works",
    "F21": "systemd's watchdog contract", "F22": "soak", "F23": "power cut (copies at random instants)",
}  # fmt: skip
PROPERTY = "fault"
MOST_NOTES = 3  # of a row; all are in the JSON
Tally = Callable[..., None]


@pytest.fixture
def tally(request: pytest.FixtureRequest) -> Tally:
    """Return ``tally(tried, lost, note="")``; ``lost`` counts what had been acknowledged."""
    name = str(next(request.node.iter_markers("fault")).args[0])

    def count(tried: int, lost: int, note: str = "") -> None:
        request.node.user_properties.append(
            (PROPERTY, {"fault": name, "tried": tried, "lost": lost, "note": note})
        )

    return count


def rows_of(reports: Sequence[Any]) -> list[dict[str, Any]]:
    """Return a row for each fault that was tried: times tried, tests, lost, notes."""
    rows: dict[str, dict[str, Any]] = {}
    for report in reports:
        for key, value in report.user_properties:
            if key != PROPERTY:
                continue
            row = rows.setdefault(
                value["fault"],
                {"fault": value["fault"], "what": FAULTS[value["fault"]], "tests": 0, "tried": 0,
                 "lost": 0, "notes": []},
            )  # fmt: skip
            row["tests"] += 1
            row["tried"] += value["tried"]
            row["lost"] += value["lost"]
            row["notes"] += [value["note"]] if value["note"] else []
    return sorted(rows.values(), key=lambda row: int(re.sub(r"\D", "", row["fault"])))


def table_of(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| fault | | times tried | acknowledged and lost | what was seen |",
             "|---|---|---|---|---|"]  # fmt: skip
    for row in rows:
        notes = list(dict.fromkeys(row["notes"]))[:MOST_NOTES]
        cells = (row["fault"], row["what"], f"{row['tried']:,}", str(row["lost"]), "; ".join(notes))
        lines.append("| " + " | ".join(cell.replace("|", "/") for cell in cells) + " |")
    return "\n".join(lines)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--faults-out", default="", help="Write what fault tests counted here (JSON).")


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print the table after a run that was asked for it."""
    out = config.getoption("--faults-out")
    if not out:
        return
    rows = rows_of(terminalreporter.stats.get("passed", []))
    Path(out).write_text(json.dumps(rows, indent=1) + "\n", "utf-8")
    terminalreporter.write_line(table_of(rows))
