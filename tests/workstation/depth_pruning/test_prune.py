"""The search for the cut: which candidates are tried, in which order, and which one is kept."""

from __future__ import annotations

import pytest

from edgeprune.core.settings import Prune
from edgeprune.depth_pruning.prune import fixed_layers
from edgeprune_device.errors import EdgepruneError


def test_layers_named_by_the_user_are_kept_as_they_are() -> None:
    assert fixed_layers(Prune(), 12) is None
    assert fixed_layers(Prune(keep=4), 12) == [0, 1, 2, 3]
    assert fixed_layers(Prune(layers=(0, 5, 7)), 12) == [0, 5, 7]
    with pytest.raises(EdgepruneError, match="has 12 layers; 13 cannot be kept"):
        fixed_layers(Prune(keep=13), 12)
    with pytest.raises(EdgepruneError, match="Layers 3, 1 cannot be kept"):
        fixed_layers(Prune(layers=(3, 1)), 12)
    with pytest.raises(EdgepruneError, match="Both --keep and --layers"):
        fixed_layers(Prune(keep=3, layers=(0, 1)), 12)
