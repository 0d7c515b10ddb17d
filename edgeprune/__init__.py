"""Compress an audio transformer until it fits a recorder: the workstation's Python API.

    import edgeprune

    result = edgeprune.compress("facebook/wav2vec2-base", "clips/labels.csv", "runs/mine")
    found = edgeprune.load_bundle(result.bundle).predict("forest.wav")

What is listed in ``__all__`` is the public API; everything else may move. A name is imported when
it is first used, so that ``import edgeprune`` loads no other module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune.core.recipe import load_recipe
    from edgeprune.core.settings import Settings
    from edgeprune.deployment.verify import verify
    from edgeprune.deployment.wrap import wrap
    from edgeprune.metrics.convexity import graph_convexity
    from edgeprune.metrics.similarity import layer_similarity
    from edgeprune.models.families import keep_layers
    from edgeprune.models.loading import load_model
    from edgeprune.pipeline.compress import compress
    from edgeprune.pipeline.score import score
    from edgeprune_device.bench.runner import bench
    from edgeprune_device.errors import EdgepruneError
    from edgeprune_device.inference.predict import load_bundle, open_model
    from edgeprune_device.recorder.listen import listen

__version__ = "0.1.0"

_MODULES = {
    "EdgepruneError": "edgeprune_device.errors",
    "Settings": "edgeprune.core.settings",
    "bench": "edgeprune_device.bench.runner",
    "compress": "edgeprune.pipeline.compress",
    "graph_convexity": "edgeprune.metrics.convexity",
    "keep_layers": "edgeprune.models.families",
    "layer_similarity": "edgeprune.metrics.similarity",
    "listen": "edgeprune_device.recorder.listen",
    "load_bundle": "edgeprune_device.inference.predict",
    "load_model": "edgeprune.models.loading",
    "load_recipe": "edgeprune.core.recipe",
    "open_model": "edgeprune_device.inference.predict",
    "score": "edgeprune.pipeline.score",
    "verify": "edgeprune.deployment.verify",
    "wrap": "edgeprune.deployment.wrap",
}
"""Name -> the module it is defined in."""

__all__ = [
    "EdgepruneError",
    "Settings",
    "__version__",
    "bench",
    "compress",
    "graph_convexity",
    "keep_layers",
    "layer_similarity",
    "listen",
    "load_bundle",
    "load_model",
    "load_recipe",
    "open_model",
    "score",
    "verify",
    "wrap",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = importlib.import_module(_MODULES[name])
    except ModuleNotFoundError as error:
        if (error.name or "").startswith("edgeprune"):
            raise
        from edgeprune_device.errors import NOT_INSTALLED, EdgepruneError

        raise EdgepruneError(
            f"edgeprune.{name} needs {error.name}, which is not installed.",
            "pip install 'edgeprune[compress]'", NOT_INSTALLED,
        ) from error  # fmt: skip
    return getattr(module, name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
