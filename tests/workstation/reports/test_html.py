"""Pages from templates: everything is escaped, and nothing that is missing stays unnoticed."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest

from edgeprune.reports import html
from edgeprune.reports.html import DASH, render

TEMPLATES = sorted(path.name for path in Path(html.__file__).parent.glob("*.j2"))


@pytest.fixture
def template(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have the package's templates stand in a folder of the test's own."""
    monkeypatch.setattr(html, "__file__", str(tmp_path / "html.py"))
    return tmp_path / "page.html.j2"


def test_what_goes_into_a_page_is_text_unless_the_template_says_otherwise(template: Path) -> None:
    template.write_text("<p>{{ name }}</p>{{ table | safe }}\n", "utf-8")
    page = render(template.name, name='<b>&"', table="<table></table>")
    assert page == "<p>&lt;b&gt;&amp;&#34;</p><table></table>\n"


def test_a_value_that_nobody_gave_is_an_error_and_no_hole_in_the_page(template: Path) -> None:
    template.write_text("{{ name }} {{ r.seeds }}", "utf-8")
    with pytest.raises(jinja2.UndefinedError, match="name"):
        render(template.name, r={"seeds": 1})
    with pytest.raises(jinja2.UndefinedError, match="seeds"):
        render(template.name, name="x", r={})


def test_a_template_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(jinja2.TemplateNotFound):
        render("nothing.html.j2")


@pytest.mark.parametrize("name", TEMPLATES)
def test_every_template_ships_with_the_package_and_parses(name: str) -> None:
    source = (Path(html.__file__).parent / name).read_text("utf-8")
    jinja2.Environment(autoescape=True).parse(source)
    assert "<html" in source
    assert DASH not in ("", "0"), "nothing measured must not read as nought"
