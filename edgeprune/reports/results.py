"""Return types of ``edgeprune.compress`` and ``edgeprune.score``, shown as tables in notebooks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from html import escape
from pathlib import Path
from typing import Any

from edgeprune.core.files import read_json
from edgeprune.core.tables import Table, to_html, to_text


@dataclass(frozen=True)
class FileMeasures:
    """One row of the before/after table: size, accuracy and latency of a file."""

    layers: int
    parameters: int
    bytes: int
    format: str
    """``onnx`` or ``tflite``."""
    quantization: str
    """``none``, ``dynamic``, ``weights``, ``weights4``, ``half`` or ``static``."""
    metric: str
    """Name of ``score``: accuracy, mean average precision or 1 - token error rate."""
    score: float
    """Score on the test clips, mean over seeds, 0 to 1."""
    interval: tuple[float, float]
    """95 % bootstrap interval of ``score``, over groups or clips."""
    difference: float
    """Difference to the teacher's score, mean over seeds; 0 for the teacher."""
    difference_interval: tuple[float, float]
    agreement: float
    """Share of the test clips with the teacher's prediction."""
    p50_ms: float
    """Latency of a window on this machine in ms: median, 90th and 99th percentile."""
    p90_ms: float
    p99_ms: float
    threads: int
    """Number of threads of the latencies."""
    real_time_factor: float
    """Median latency as a share of the hop; below 1 is faster than real time."""
    peak_rss_mb: float
    """Peak resident memory of the process in MB (1e6 bytes)."""


@dataclass(frozen=True)
class CompressResult:
    """A finished run of ``edgeprune.compress``."""

    folder: Path
    """Folder of the run: report, recipe, a folder per stage."""
    bundle: Path
    """Folder of the bundle for the recorder; open it with ``edgeprune.load_bundle``."""
    before: FileMeasures
    """The teacher, exported in float32."""
    after: FileMeasures
    """The bundle."""
    files: Mapping[str, FileMeasures]
    """All rows of the table: ``teacher``, ``student``, ``bundle``; with two formats, ``other``."""
    headline: str
    """Summary in a sentence."""
    report: Mapping[str, Any]
    """All numbers, as in ``report.json``."""
    table: Table
    """The before/after table."""

    def __str__(self) -> str:
        """Return the table, the summary and the paths of report and bundle."""
        return (f"\n{to_text(self.table)}\n\n{self.headline}\n"
                f"Report: {self.folder / 'report.html'}\nBundle: {self.bundle}")  # fmt: skip

    def __repr__(self) -> str:
        """Return the folder and the summary."""
        return f"CompressResult({str(self.folder)!r}: {self.headline})"

    def _repr_html_(self) -> str:
        """Return the before/after table as HTML, for notebooks."""
        return f"{to_html(self.table)}<p>{escape(self.headline)}</p><p>Bundle: {escape(str(self.bundle))}</p>"


def compress_result(folder: Path, report: Mapping[str, Any], table: Table) -> CompressResult:
    """Make the result of a run from its report (``report.json``) and its before/after table."""
    files = {name: _measures(row) for name, row in report["summary"].items()}
    return CompressResult(
        folder, folder / "bundle", files["teacher"], files["bundle"], files, report["headline"],
        report, table,
    )  # fmt: skip


def _measures(row: Mapping[str, Any]) -> FileMeasures:
    values = {item.name: row[item.name] for item in fields(FileMeasures)}
    pairs = {name: tuple(values[name]) for name in ("interval", "difference_interval")}
    return FileMeasures(**{**values, **pairs})


@dataclass(frozen=True)
class ScoreResult:
    """A finished run of ``edgeprune.score``."""

    folder: Path
    """Folder of the run: report, figures, ``scores.json``."""
    layers: int
    """Transformer layers of the model; hidden state i is the output of layer i - 1."""
    convexity: Mapping[str, tuple[float, ...]]
    """Label column -> graph convexity of every hidden state (``layers`` + 1 values, 0 to 1), mean
    over classes."""
    intervals: Mapping[str, tuple[tuple[float, float] | None, ...]]
    """95 % interval of each of these values; None without bootstrap draws."""
    headline: str
    """Recommendation in words."""
    scores: Mapping[str, Any]
    """All numbers, as in ``scores.json``."""
    table: Table
    """Convexity by depth."""
    text: str
    """Text that the command prints."""

    def __str__(self) -> str:
        """Return the text that the command prints."""
        return self.text

    def __repr__(self) -> str:
        """Return the folder and the recommendation."""
        return f"ScoreResult({str(self.folder)!r}: {self.headline})"

    def _repr_html_(self) -> str:
        """Return the table of depths as HTML, for notebooks."""
        return f"{to_html(self.table)}<p>{escape(self.headline)}</p>"


def score_result(folder: Path, table: Table, text: str) -> ScoreResult:
    """Make the result of ``score`` from its folder, its table and the text that is printed."""
    scores = read_json(folder / "scores.json")
    curves = scores["curves"]["teacher"]
    return ScoreResult(
        folder, scores["layers"],
        {name: tuple(one["mean_of_classes"] for one in curve) for name, curve in curves.items()},
        {name: tuple(tuple(one["interval"]) if one["interval"] else None for one in curve)
         for name, curve in curves.items()},
        scores["headline"], scores, table, text,
    )  # fmt: skip
