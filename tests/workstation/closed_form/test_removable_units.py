"""Units whose removal can be made up for: their projections, and scores in the order of removal."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from shaken_models import shaken
from slow_cases import families
from tiny_models import FAMILY_NAMES, heard_by, make_model

from edgeprune.closed_form.removable_units import removable_units, scores_of_units
from edgeprune.models import loading
from edgeprune.width_pruning import cost_model
from edgeprune.width_pruning.removal import trim_to

KINDS = ("heads", "feed-forward")
LABELS = ("a", "b", "c")
WITHOUT = ("cnn14", "edgeprune-student")
"""Families without heads and feed-forward columns (a student has them if its blocks do)."""


@pytest.mark.parametrize("family", families(n for n in FAMILY_NAMES if n not in WITHOUT))
def test_a_unit_whose_inputs_are_zeroed_can_be_removed(family: str, tmp_path: Path) -> None:
    """Zero columns of the projection, or no such units at all: the logits are the same."""
    model = shaken(make_model(tmp_path, family, LABELS))
    found = removable_units(model, KINDS)
    assert found
    keep = {name: list(range(1, one.group.units)) for name, one in found.items()}
    for name, one in found.items():
        with torch.no_grad():
            one.projection(model).weight[:, ~one.kept_inputs(keep[name])] = 0
    with torch.inference_mode():
        before = loading.logits_of(model, heard_by(model))
        trim_to(model, keep)
        after = loading.logits_of(model, heard_by(model))
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-5)


def test_a_head_is_several_inputs_and_a_column_one(tmp_path: Path) -> None:
    found = removable_units(shaken(make_model(tmp_path, "whisper", LABELS)), KINDS)
    assert found["heads.0"].unit_of.tolist() == [0] * 8 + [1] * 8
    assert found["feed-forward.0"].kept_inputs([0, 2]).nonzero()[:, 0].tolist() == [0, 2]


def test_the_head_of_the_model_is_no_such_group(tmp_path: Path) -> None:
    found = removable_units(shaken(make_model(tmp_path, "wav2vec2", LABELS)), KINDS)
    assert all(".layers." in one.path for one in found.values())


def test_a_score_is_the_error_added_per_cost_saved_and_never_falls(tmp_path: Path) -> None:
    model = shaken(make_model(tmp_path, "whisper", LABELS))
    found = removable_units(model, KINDS)
    groups = [one.group for one in found.values()]
    terms = cost_model.parameter_terms(model, groups)
    column = 16 + 16 + 1  # a column's weights into and out of 16 coordinates, and its bias
    order, added = list(reversed(range(1, 32))), [3.0, 1.0] + [5.0] * 29
    scores = scores_of_units({"feed-forward.0": (order, added)}, found, terms)["feed-forward.0"]
    assert scores[31] == pytest.approx(3 / column)
    assert scores[30] == pytest.approx(3 / column)  # after the one before it, which added more
    assert scores[1] == pytest.approx(5 / column)
    assert scores[0] == float("inf")
