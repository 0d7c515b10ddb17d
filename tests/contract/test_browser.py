"""The reports of score and compress in a real browser: nothing fetched, all drawn, no side-scrolling."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from compress_report_fixture import make_report
from scores_fixture import make_scores

from edgeprune.reports.compress_report import to_html_page
from edgeprune.reports.compress_tables import make_tables
from edgeprune.reports.score_report import score_report

pytestmark = pytest.mark.slow

BROWSER, DRIVER = "chromium", "chromedriver"
WIDTHS = (390, 1280)
"""Of a phone and of a desk, in CSS pixels."""


@pytest.fixture(scope="module")
def browser(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give a headless Chromium that writes down what it requests and complains of."""
    found = shutil.which(BROWSER), shutil.which(DRIVER)
    if not all(found):
        missing = f"{BROWSER} or {DRIVER} is missing: apt-get install chromium chromium-driver"
        if pytestconfig.getoption("--no-shared-is-an-error"):
            pytest.fail(missing)
        pytest.skip(missing)
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = str(found[0])
    profile = tmp_path_factory.mktemp("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     f"--user-data-dir={profile}"):  # fmt: skip
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL", "browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(str(found[1])))
    driver.get("about:blank")  # the start page's own requests end here, not in a test's log
    yield driver
    driver.quit()


@pytest.fixture(scope="module", params=[3, 12, 24])
def page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the page of a model of so many layers, with long names in it."""
    out = tmp_path_factory.mktemp("score") / "run"
    (out / "score").mkdir(parents=True)
    scores = make_scores(request.param, classes=[f"Phylloscopus collybita {i}" for i in range(9)])
    scores["data"] = "/data/" + "a_very_long_folder_name/" * 8
    (out / "score" / "scores.json").write_text(json.dumps(scores), "utf-8")
    score_report(out / "score", out)
    return out / "report.html"


@pytest.fixture(scope="module", params=["classes", "tags"])
def compress_page(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the report of a compressed model, with long names and paths in it."""
    page: Path = tmp_path_factory.mktemp("compress") / "report.html"
    r = make_report(request.param, ("teacher", "student", "bundle", "other"))
    r["data"]["source"] = "/data/" + "a_very_long_folder_name/" * 8
    page.write_text(to_html_page(r, make_tables(r), 'data = "' + "long/" * 60 + '"'), "utf-8")
    return page


def assert_asks_for_nothing_else(browser: Any, page: Path) -> None:
    """Open a page and hold that it requests itself alone and has nothing to complain of."""
    for kind in ("performance", "browser"):
        browser.get_log(kind)  # what was before
    opened(browser, page, 1280)
    events = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = {event["params"]["request"]["url"] for event in events
             if event["method"] == "Network.requestWillBeSent"}  # fmt: skip
    assert {url for url in asked if not url.startswith("data:")} == {page.as_uri()}
    assert browser.get_log("browser") == []


def assert_no_side_scrolling(browser: Any, width: int) -> None:
    """Hold that the page is as wide as its window; a page too wide makes a phone zoom out."""
    wide, inner = browser.execute_script(
        "return [document.documentElement.scrollWidth, window.innerWidth]"
    )
    assert inner == width
    assert wide <= inner


def opened(browser: Any, page: Path, width: int) -> None:
    """Open the page in a window of so many CSS pixels, everything unfolded."""
    size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    browser.get(page.as_uri())
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")


def test_the_page_asks_for_nothing_but_itself_and_has_nothing_to_complain_of(
    browser: Any, page: Path
) -> None:
    assert_asks_for_nothing_else(browser, page)


def test_every_plot_is_drawn(browser: Any, page: Path) -> None:
    opened(browser, page, 1280)
    drawn = browser.execute_script(
        "return [...document.querySelectorAll('figure')].map(figure => {"
        "  const svg = figure.querySelector('svg'), box = svg.getBoundingClientRect();"
        "  return {name: figure.id, width: box.width, height: box.height,"
        "          paths: svg.querySelectorAll('path').length,"
        "          spill: [...svg.querySelectorAll('text')].filter(text => {"
        "            const at = text.getBoundingClientRect();"
        "            return at.left < box.left - 2 || at.right > box.right + 2 ||"
        "                   at.top < box.top - 2 || at.bottom > box.bottom + 2;"
        "          }).map(text => text.textContent)}})"
    )
    assert {plot["name"] for plot in drawn} == {
        path.stem for path in (page.parent / "figures").glob("*.svg")
    }
    for plot in drawn:
        assert min(plot["width"], plot["height"]) > 150, plot
        assert plot["paths"] > 5, plot
        assert not plot["spill"], plot


@pytest.mark.parametrize("width", WIDTHS)
def test_the_page_fits_its_window(browser: Any, page: Path, width: int) -> None:
    opened(browser, page, width)
    assert_no_side_scrolling(browser, width)
    cut = browser.execute_script(
        "return [...document.querySelectorAll('figure svg')]"
        ".filter(svg => svg.getBoundingClientRect().right > window.innerWidth).length"
    )
    assert cut == 0


def test_the_report_of_compress_asks_for_nothing_but_itself(
    browser: Any, compress_page: Path
) -> None:
    assert_asks_for_nothing_else(browser, compress_page)


@pytest.mark.parametrize("width", WIDTHS)
def test_the_report_of_compress_fits_its_window(
    browser: Any, compress_page: Path, width: int
) -> None:
    opened(browser, compress_page, width)
    assert_no_side_scrolling(browser, width)


def test_the_table_before_and_after_needs_no_scrolling_at_1100_pixels(
    browser: Any, compress_page: Path
) -> None:
    opened(browser, compress_page, 1100)
    wide, shown = browser.execute_script(
        "const table = document.querySelector('.scroll');"
        "return [table.scrollWidth, table.clientWidth]"
    )
    assert wide <= shown, "the table before and after is wider than its place"
