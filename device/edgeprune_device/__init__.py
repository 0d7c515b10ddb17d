"""The recorder: runs a bundle on live audio with numpy, one inference runtime and a sound card.

    import edgeprune_device

    model = edgeprune_device.load_bundle("bundle")
    print(model.predict("forest.wav"))

The names in ``__all__`` are the public API; everything else may change without notice. A name is
imported when it is first used, so that ``import edgeprune_device`` loads no other module.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from edgeprune_device.errors import EdgepruneError
    from edgeprune_device.inference.predict import load_bundle, open_model
    from edgeprune_device.recorder.listen import listen

_MODULES = {
    "EdgepruneError": "edgeprune_device.errors",
    "listen": "edgeprune_device.recorder.listen",
    "load_bundle": "edgeprune_device.inference.predict",
    "open_model": "edgeprune_device.inference.predict",
}
"""Public name -> module that defines it."""

__all__ = ["EdgepruneError", "listen", "load_bundle", "open_model"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used (PEP 562)."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    """Return the public names."""
    return sorted(__all__)
