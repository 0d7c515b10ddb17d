"""The public Python API: what ``edgeprune`` and ``edgeprune_device`` offer, as autodoc directives.

``FROM`` is the one place that says where a name lives as long as a package does not offer it itself;
once it is in the package's ``__all__``, the page documents that name.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from importlib.util import find_spec

from generators.markdown import table


@dataclass(frozen=True)
class Name:
    """One name of the API."""

    offered: str
    """As a user writes it: ``edgeprune.compress``."""
    lives: str
    """Where the code has it."""
    kind: str
    """Autodoc's word: ``function``, ``class`` or ``exception``."""
    about: str


FROM = (
    Name("edgeprune.compress", "edgeprune.pipeline.compress.compress", "function",
         "Turn a model and labelled clips into a bundle"),
    Name("edgeprune.score", "edgeprune.pipeline.score.score_only", "function",
         "Find out which layers a task needs"),
    Name("edgeprune.verify", "edgeprune.deployment.verify.verify_command", "function",
         "Measure a bundle's accuracy on labelled clips"),
    Name("edgeprune.bench", "edgeprune_device.bench.runner.bench", "function",
         "Measure latency, memory and size of bundles"),
    Name("edgeprune.listen", "edgeprune_device.recorder.listen.listen", "function",
         "Run a bundle on a microphone or a file"),
    Name("edgeprune.load_bundle", "edgeprune_device.bundle.reader.read_bundle", "function",
         "Read and check a bundle"),
    Name("edgeprune.open_model", "edgeprune_device.inference.runtime.open_model", "function",
         "Open a bundle's model: samples in, scores out"),
    Name("edgeprune.wrap", "edgeprune.deployment.wrap.wrap", "function",
         "Make a bundle of an ONNX or TFLite file"),
    Name("edgeprune.graph_convexity", "edgeprune.metrics.convexity.convexity", "function",
         "Graph convexity of the classes in one layer"),
    Name("edgeprune.layer_similarity", "edgeprune.metrics.similarity.similarity_matrices", "function",
         "Similarity of every two layers"),
    Name("edgeprune.load_model", "edgeprune.models.loading.load_classifier", "function",
         "Load a model, also one that was trimmed or rebuilt"),
    Name("edgeprune.keep_layers", "edgeprune.models.families.keep_layers", "function",
         "Keep some layers of a model, in place"),
    Name("edgeprune.Settings", "edgeprune.core.settings.Settings", "class",
         "The whole recipe as a frozen dataclass"),
    Name("edgeprune.load_recipe", "edgeprune.core.recipe.read_recipe", "function",
         "Read a recipe"),
    Name("edgeprune.EdgepruneError", "edgeprune_device.errors.EdgepruneError", "exception",
         "The one error type"),
)  # fmt: skip
DEVICE = (
    Name("edgeprune_device.load_bundle", "edgeprune_device.bundle.reader.read_bundle", "function",
         "Read and check a bundle"),
    Name("edgeprune_device.open_model", "edgeprune_device.inference.runtime.open_model", "function",
         "Open a bundle's model"),
    Name("edgeprune_device.listen", "edgeprune_device.recorder.listen.listen", "function",
         "Run a bundle on a microphone or a file"),
    Name("edgeprune_device.EdgepruneError", "edgeprune_device.errors.EdgepruneError", "exception",
         "The one error type"),
)  # fmt: skip

RETURNED = (
    ("edgeprune.reports.results.CompressResult", "What `compress` returns"),
    ("edgeprune.reports.results.ScoreResult", "What `score` returns"),
    ("edgeprune_device.inference.predict.LoadedBundle", "What `load_bundle` returns"),
    ("edgeprune_device.inference.predictions.Predictions", "What `predict` returns"),
    ("edgeprune.metrics.convexity.Convexity", "What `graph_convexity` returns"),
)
"""Classes of results, with what they are; those that the code does not have are left out."""


def summary() -> str:
    """Return a table of the names of ``edgeprune``."""
    rows = [(f"[`{name.offered}`](#{_anchor(name)})", name.about) for name in FROM]
    return table(("Name", "What it does"), rows)


def device() -> str:
    """Return a table of the names of ``edgeprune_device``."""
    rows = [(f"`{name.offered}`", name.about) for name in DEVICE]
    return table(("Name", "What it does"), rows)


def listing() -> str:
    """Return a section for each name, with the directive that documents it."""
    return "\n\n".join(_section(name) for name in FROM)


def results() -> str:
    """Return a section for each class of a result."""
    parts = []
    for target, about in RETURNED:
        module, _, own = target.rpartition(".")
        if find_spec(module) and hasattr(importlib.import_module(module), own):
            directive = f"```{{eval-rst}}\n.. autoclass:: {target}\n   :members:\n```"
            parts.append(f"### {own}\n\n{about}.\n\n{directive}")
    return "\n\n".join(parts)


def _section(name: Name) -> str:
    short = name.offered.rpartition(".")[2]
    module, _, held = name.offered.rpartition(".")
    ready = held in getattr(importlib.import_module(module), "__all__", ())
    target = name.offered if ready else name.lives
    home, _, own = name.lives.rpartition(".")
    note = "" if ready else f"\n\nImport it as `from {home} import {own}`."
    return f"### {short}{note}\n\n```{{eval-rst}}\n.. auto{name.kind}:: {target}\n```"


def _anchor(name: Name) -> str:
    return name.offered.rpartition(".")[2].replace("_", "-").lower()
