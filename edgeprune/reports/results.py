"""What ``edgeprune.compress`` and ``edgeprune.score`` return: typed, and a table in a notebook."""

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
    """One row of the before/after table: what a file is, how right it is, how fast here."""

    layers: int
    parameters: int
    bytes: int
    format: str
    """``onnx`` or ``tflite``."""
    quantization: str
    """``none``, ``dynamic``, ``weights``, ``weights4``, ``half`` or ``static``."""
    metric: str
    """Of ``score``: accuracy, mean average precision or token error rate."""
    score: float
    """On the test clips, mean over seeds, 0 to 1."""
    interval: tuple[float, float]
    """95 % bootstrap interval of ``score``, over groups or clips."""
    difference: float
    """From the teacher's score, mean over seeds; 0 for the teacher."""
    difference_interval: tuple[float, float]
    agreement: float
    """Share of the test clips on which it predicts what the teacher predicts."""
    p50_ms: float
    """Latency of a window on this machine: median, 90th and 99th percentile."""
    p90_ms: float
    p99_ms: float
    threads: int
    """Of the latencies."""
    real_time_factor: float
    """Median latency as a share of the hop: under 1 keeps up."""
    peak_rss_mb: float
    """Largest resident memory of the process, 1e6 bytes."""


@dataclass(frozen=True)
class CompressResult:
    """A finished run of ``edgeprune.compress``."""

    folder: Path
    """The run's: report, recipe, a folder a stage."""
    bundle: Path
    """What the recorder runs; open it with ``edgeprune.load_bundle``."""
    before: FileMeasures
    """The teacher, exported in float32."""
    after: FileMeasures
    """The bundle."""
    files: Mapping[str, FileMeasures]
    """Every row of the table: ``teacher``, ``student``, ``bundle`` and, with two formats, ``other``."""
    headline: str
    """What became of the model, in a sentence."""
    report: Mapping[str, Any]
    """All numbers, as in ``report.json``."""
    table: Table
    """The before/after table."""

    def __str__(self) -> str:
        """Write the table, the headline and where everything is."""
        return (f"\n{to_text(self.table)}\n\n{self.headline}\n"
                f"Report: {self.folder / 'report.html'}\nBundle: {self.bundle}")  # fmt: skip

    def __repr__(self) -> str:
        """Name the run and what came of it."""
        return f"CompressResult({str(self.folder)!r}: {self.headline})"

    def _repr_html_(self) -> str:
        """Show the before/after table in a notebook."""
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
    """The run's: report, figures, ``scores.json``."""
    layers: int
    """Transformer layers of the model; hidden state i is the output of layer i - 1."""
    convexity: Mapping[str, tuple[float, ...]]
    """Label column -> graph convexity of every hidden state (``layers`` + 1 values, 0 to 1), mean
    of the classes."""
    intervals: Mapping[str, tuple[tuple[float, float] | None, ...]]
    """95 % interval of each of these values; None where none was drawn."""
    headline: str
    """What to keep and why, in words."""
    scores: Mapping[str, Any]
    """All numbers, as in ``scores.json``."""
    table: Table
    """Convexity and ablation, layer by layer."""
    text: str
    """As the command prints it."""

    def __str__(self) -> str:
        """Write what the command prints."""
        return self.text

    def __repr__(self) -> str:
        """Name the run and what came of it."""
        return f"ScoreResult({str(self.folder)!r}: {self.headline})"

    def _repr_html_(self) -> str:
        """Show the layers' table in a notebook."""
        return f"{to_html(self.table)}<p>{escape(self.headline)}</p>"


def score_result(folder: Path, table: Table, text: str) -> ScoreResult:
    """Make the result of ``score`` from its folder, its table and what the command prints."""
    scores = read_json(folder / "scores.json")
    curves = scores["curves"]["teacher"]
    return ScoreResult(
        folder, scores["layers"],
        {name: tuple(one["mean_of_classes"] for one in curve) for name, curve in curves.items()},
        {name: tuple(tuple(one["interval"]) if one["interval"] else None for one in curve)
         for name, curve in curves.items()},
        scores["headline"], scores, table, text,
    )  # fmt: skip
