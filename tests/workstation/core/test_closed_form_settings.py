"""Settings of the steps in closed form, as a recipe gives and checks them."""

from __future__ import annotations

from typing import Any

import pytest

from edgeprune.core.closed_form_settings import Reconstruct
from edgeprune.core.recipe import build_settings, load_recipe
from edgeprune_device.errors import EdgepruneError


def test_by_default_as_much_is_removed_as_the_validation_score_allows() -> None:
    assert build_settings({}).reconstruct == Reconstruct(
        0.0, "macs", ("heads", "feed-forward"), 256
    )


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"ratio": -0.1}, r"reconstruct\.ratio = -0\.1 is out of range"),
        ({"ratio": 1.2}, r"reconstruct\.ratio = 1\.2 is out of range"),
        ({"of": "latency"}, r"reconstruct\.of = 'latency' is not known"),
        ({"what": ["channels"]}, r"reconstruct\.what contains 'channels'"),
        ({"clips": 0}, r"reconstruct\.clips = 0 is out of range"),
    ],
)
def test_what_makes_no_sense_is_named(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(EdgepruneError, match=sentence):
        build_settings({"reconstruct": values})


def test_the_recipe_quick_trains_nothing() -> None:
    quick = load_recipe("quick")
    assert quick.steps == ("depth", "reconstruct")
    assert (quick.teach.tune, quick.teach.when) == ("head", "always")
    assert (quick.prune.recovery_epochs, quick.distill.epochs, quick.distill.label_epochs) == (
        0,
        0,
        0,
    )
    assert quick.quantize.recover_epochs == 0
