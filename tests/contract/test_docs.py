"""The documentation says what the code says, and its site loads nothing from another host."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from repository import ROOT

DOCS = ROOT / "docs"
LOADING = {
    "script": ("src",), "link": ("href",), "img": ("src", "srcset"), "source": ("src", "srcset"),
    "iframe": ("src",), "video": ("src", "poster"), "audio": ("src",), "object": ("data",),
    "embed": ("src",), "use": ("href", "xlink:href"), "image": ("href", "xlink:href"),
    "input": ("src",), "track": ("src",),
}  # fmt: skip
"""Attributes by which a page loads something; the ``href`` of an ``a`` loads nothing."""
HARMLESS = {"canonical", "search", "index", "next", "prev", "author", "license"}
"""Kinds of ``link`` that a browser does not load."""
ELSEWHERE = re.compile(r"^\s*(?:[a-z][a-z0-9+.-]*:)?//", re.IGNORECASE)
IN_STYLES = re.compile(r"(?:url\(\s*['\"]?|@import\s+['\"])([^'\")\s]+)")
PYTHON = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(
    str(ROOT / part) for part in ("", "device", "calibration"))}  # fmt: skip


class Page(HTMLParser):
    """What a page loads, where its links lead, and which places it offers."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.places |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and set(given.get("rel", "").split()) <= HARMLESS:
            return
        self.loads += [given[name] for name in LOADING.get(tag, ()) if name in given]
        self.loads += IN_STYLES.findall(given.get("style", ""))


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env=PYTHON, capture_output=True, text=True,
        timeout=600, check=False,
    )  # fmt: skip


def test_the_generated_pages_are_what_the_code_says() -> None:
    done = run("docs/generate.py", "--check")
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_module_has_its_line() -> None:
    page = (DOCS / "contributing/modules.md").read_text("utf-8")
    for root in (ROOT / "edgeprune", ROOT / "device/edgeprune_device",
                 ROOT / "calibration/edgeprune_calibration"):  # fmt: skip
        for file in root.rglob("*.py"):
            assert file.name == "__init__.py" or f"`{file.name}`" in page, file


def test_every_page_can_be_reached_from_its_section() -> None:
    for folder in (path for path in DOCS.iterdir() if (path / "index.md").is_file()):
        index = (folder / "index.md").read_text("utf-8")
        for page in folder.glob("*.md"):
            assert page.stem == "index" or f"]({page.name})" in index, page


def test_figures_name_results_that_are_there() -> None:
    for page in DOCS.rglob("*.md"):
        for name in re.findall(r"`([\w-]+-\d{4}-\d\d-\d\d\.json)`", page.read_text("utf-8")):
            assert (ROOT / "benchmarks/results" / name).is_file(), f"{page}: {name}"


def test_what_a_page_loads_is_found() -> None:
    found = Page(
        '<link rel="stylesheet" href="//a.example/x.css"><link rel="canonical" href="https://b">'
        '<script src="https://c.example/m.js"></script><a href="https://d.example">d</a>'
        '<p style="background: url(http://e.example/e.png)">'
    ).loads
    assert [bool(ELSEWHERE.match(address)) for address in found] == [True, True, True]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if find_spec("sphinx") is None:
        pytest.skip("the extra docs is not installed")
    out = tmp_path_factory.mktemp("docs") / "html"
    done = run("-m", "sphinx", "-q", "-n", "-W", "--keep-going", "-b", "html", "docs", str(out))
    assert done.returncode == 0, done.stderr
    return out


def pages_of(site: Path) -> Iterator[tuple[Path, Page]]:
    for file in sorted(site.rglob("*.html")):
        yield file, Page(file.read_text("utf-8"))


@pytest.mark.slow
def test_no_page_loads_anything_from_another_host(site: Path) -> None:
    for file, page in pages_of(site):
        assert not [address for address in page.loads if ELSEWHERE.match(address)], file
    for style in site.rglob("*.css"):
        loaded = IN_STYLES.findall(style.read_text("utf-8"))
        assert not [address for address in loaded if ELSEWHERE.match(address)], style
    for script in site.rglob("*.js"):
        text = script.read_text("utf-8")
        assert not re.findall(r"(?:import\(|importScripts\(|\.src\s*=)\s*['\"]https?:", text), (
            script
        )


@pytest.mark.slow
def test_links_inside_the_site_lead_somewhere(site: Path) -> None:
    found = dict(pages_of(site))
    for file, page in found.items():
        for address in page.links + page.loads:
            parts = urlsplit(address)
            if parts.scheme or parts.netloc:
                continue
            target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
            assert target.exists(), f"{file}: {address}"
            if parts.fragment and target in found:
                assert unquote(parts.fragment) in found[target].places, f"{file}: {address}"
