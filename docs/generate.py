"""Write the generated parts of these pages, or check that they are what the code says.

    python docs/generate.py            writes them
    python docs/generate.py --check    status 1, with the names of the pages that are stale

A generated part stands between two comments, ``<!-- generated: NAME -->`` and
``<!-- end generated -->``; what stands around it is written by hand. The NAME is a row of ``PARTS``.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path[:0] = [str(DOCS), str(ROOT), str(ROOT / "device"), str(ROOT / "calibration")]

from generators import command_line, journal, modules, public_api, recipe, recorder  # noqa: E402

PARTS: dict[str, Callable[[], str]] = {
    "commands": command_line.listing,
    "command-summary": command_line.summary,
    "recipe": recipe.listing,
    "recipe-summary": recipe.summary,
    "presets": recipe.presets,
    "recorder": recorder.listing,
    "recorder-summary": recorder.summary,
    "journal": journal.listing,
    "deliveries": journal.deliveries,
    "modules": modules.listing,
    "wings-edgeprune": partial(modules.wings, "edgeprune"),
    "wings-device": partial(modules.wings, "edgeprune_device"),
    "api": public_api.listing,
    "api-summary": public_api.summary,
    "api-device": public_api.device,
    "api-results": public_api.results,
}
"""Name of a part -> what writes it."""
PART = re.compile(r"(<!-- generated: ([a-z-]+) -->\n).*?(<!-- end generated -->)", re.DOTALL)


def pages() -> dict[Path, str]:
    """Return every page that holds a generated part, as it should be."""
    found = {}
    for path in sorted(DOCS.rglob("*.md")):
        text = path.read_text("utf-8")
        if "_build" not in path.parts and PART.search(text):
            found[path] = PART.sub(_filled, text)
    return found


def main(arguments: list[str]) -> int:
    """Write or check the pages; return the exit status."""
    wanted = pages()
    missing = set(PARTS) - {
        name for path in wanted for _, name, _ in PART.findall(path.read_text("utf-8"))
    }
    stale = [path for path, text in wanted.items() if path.read_text("utf-8") != text]
    if "--check" in arguments:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is stale: run python docs/generate.py")
        for name in sorted(missing):
            print(f"no page has the generated part {name}")
        return int(bool(stale or missing))
    for path in stale:
        path.write_text(wanted[path], "utf-8")
        print(f"{path.relative_to(ROOT)} written")
    return 0


def _filled(match: re.Match[str]) -> str:
    return f"{match[1]}\n{PARTS[match[2]]()}\n\n{match[3]}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
