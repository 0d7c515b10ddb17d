"""What every figure is drawn with: text that stays text, the same bytes, intervals as bands."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from typing import Any

import matplotlib.image
import numpy as np
import pytest
from matplotlib.figure import Figure

from edgeprune.reports import plots
from edgeprune.reports.plots import (
    convexity_figure,
    draw_band,
    finished,
    latency_figure,
    learning_figure,
    legend_below,
    panel_of,
    to_svg,
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keep the figures that would be written, and write none."""
    kept: list[Figure] = []

    def keep(figure: Figure) -> str:
        kept.append(figure)
        return "<svg></svg>"

    monkeypatch.setattr(plots, "to_svg", keep)
    return kept


def layer(mean: float, null: float) -> dict[str, Any]:
    return {"mean_of_classes": mean, "null_high": null}


def curves(*means: float) -> dict[str, Any]:
    return {"word": [layer(mean, 0.2) for mean in means], "speaker": [layer(0.4, 0.1)] * len(means)}


def test_convexity_has_a_panel_for_every_labelling_and_the_kept_depth_on_the_tasks(
    drawn: list[Figure],
) -> None:
    seeds = [{"teacher": curves(0.2, 0.6, 0.9), "untouched": curves(0.2, 0.3, 0.4)}]
    convexity_figure(seeds, "word", [2, 2])
    word, speaker = drawn[0].axes
    assert word.get_title(loc="left") == "classes: word (the task)"
    assert speaker.get_title(loc="left") == "classes: speaker"
    values = {line.get_label(): np.asarray(line.get_ydata()) for line in word.lines}
    np.testing.assert_allclose(values["teacher"], [20, 60, 90])
    np.testing.assert_allclose(values["before fine-tuning"], [20, 30, 40])
    np.testing.assert_allclose(values["chance level"], [20, 20, 20])
    assert [text.get_text() for text in word.texts] == ["kept: 2"]
    assert not speaker.texts


def test_of_several_seeds_the_mean_is_drawn_and_the_spread_shaded(drawn: list[Figure]) -> None:
    seeds = [{"teacher": {"word": curves(*means)["word"]}} for means in ((0.2, 0.4), (0.4, 0.8))]
    convexity_figure(seeds, "word", [])
    (panel,) = drawn[0].axes
    np.testing.assert_allclose(np.asarray(panel.lines[0].get_ydata()), [30, 60])
    (band,) = panel.collections
    corners = np.asarray(band.get_paths()[0].vertices)
    for x, low, high in ((0, 20, 40), (1, 40, 80)):
        heights = corners[np.isclose(corners[:, 0], x), 1]
        assert (heights.min(), heights.max()) == pytest.approx((low, high))


def test_latencies_rise_to_all_of_the_windows(drawn: list[Figure]) -> None:
    latency_figure({"teacher": [3.0, 1.0, 2.0, 4.0], "bundle": [0.5, 0.5]})
    (panel,) = drawn[0].axes
    teacher, bundle = panel.lines
    assert np.asarray(teacher.get_xdata()).tolist() == [1, 2, 3, 4]
    assert np.asarray(teacher.get_ydata()).tolist() == [25, 50, 75, 100]
    assert np.asarray(bundle.get_ydata()).tolist() == [50, 100]
    assert panel.get_xscale() == "log"


def test_learning_is_drawn_in_per_cent_over_epochs_however_many_trainings(
    drawn: list[Figure],
) -> None:
    steps = [{"epoch": 1, "valid_score": 0.25}, {"epoch": 3, "valid_score": 0.75}]
    learning_figure({f"seed {i}": steps for i in range(30)})
    (panel,) = drawn[0].axes
    assert len(panel.lines) > len(plots.SERIES)
    assert np.asarray(panel.lines[0].get_xdata()).tolist() == [1, 3]
    assert np.asarray(panel.lines[0].get_ydata()).tolist() == [25, 75]


def figure_of(title: str) -> Figure:
    with matplotlib.rc_context(plots.STYLE):
        figure, panel = panel_of(3.0, 2.0, "layers", "points")
        panel.plot([0, 1], [0, 1], label="a line")
        panel.set_title(title)
    return figure


def test_texts_stay_text_and_the_same_figure_is_the_same_bytes() -> None:
    first, again = (to_svg(figure_of("from $5 to $9 & <b>")) for _ in range(2))
    assert first == again
    assert first.startswith("<svg")
    assert re.search(r"<text[^>]*>from \$5 to \$9 &amp; &lt;b&gt;</text>", first)
    assert not re.search(r"<dc:date|Matplotlib v", first)


def test_a_finished_plot_has_a_name_for_the_blind_and_a_picture_of_its_size() -> None:
    plot = finished(figure_of("x"), "section", "name", 'Say "hi" & <go>', "Read it.")
    assert 'role="img" aria-label="Say &quot;hi&quot; &amp; &lt;go&gt;"' in plot.svg
    height, width, _ = matplotlib.image.imread(io.BytesIO(plot.png)).shape
    assert width == pytest.approx(3.0 * plots.PNG_DPI, rel=0.15)
    assert height == pytest.approx(2.0 * plots.PNG_DPI, rel=0.15)


def test_a_legend_below_makes_room_for_its_rows() -> None:
    figure, panel = panel_of(4.0, 3.0, "x", "y")
    for number in range(5):
        panel.plot([0, 1], [0, number], label=f"rule {number}")
    legend_below(figure, 2)
    assert figure.get_figheight() == pytest.approx(3.0 + 3 * 0.18)  # two, two and one
    assert len(figure.legends[0].get_texts()) == 5


def test_an_interval_is_a_band_in_per_cent() -> None:
    figure, panel = panel_of(3.0, 2.0, "x", "y")
    draw_band(panel, [0, 1], [(0.1, 0.3), (0.5, 0.6)], plots.ACCENT)
    corners = np.asarray(panel.collections[0].get_paths()[0].vertices)
    assert (corners[:, 1].min(), corners[:, 1].max()) == pytest.approx((10, 60))
    assert figure.axes == [panel]


def test_drawing_leaves_the_callers_backend_and_figures_alone() -> None:
    """A notebook that plots after ``edgeprune.score`` keeps its inline plots."""
    check = (
        "import matplotlib, matplotlib.pyplot as plt; matplotlib.use('pdf');"
        "from edgeprune.reports.plots import learning_figure;"
        "learning_figure({'teach': [{'epoch': 1, 'valid_score': 0.5}]});"
        "print(matplotlib.get_backend(), plt.get_fignums())"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[0] == "pdf []"
