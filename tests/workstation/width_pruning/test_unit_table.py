"""The table of units: every family, every kind, and no role that is none."""

from __future__ import annotations

from dataclasses import asdict

import pytest
from tiny_models import FAMILY_NAMES

from edgeprune.core.recipe import build_settings
from edgeprune.core.recipe_checks import CHOICES, EACH_OF
from edgeprune.core.settings import Trim
from edgeprune.models.families import FAMILIES
from edgeprune.width_pruning.unit_table import CHANNELS, HIDDEN, KINDS, ROWS
from edgeprune_device.errors import EdgepruneError


def test_every_family_has_rows() -> None:
    assert set(ROWS) == set(FAMILIES) == set(FAMILY_NAMES)


def test_the_settings_name_the_kinds_of_the_table() -> None:
    assert EACH_OF["trim.what"] == Trim().what == KINDS
    assert all(asdict(Trim())[name.removeprefix("trim.")] in known
               for name, known in CHOICES.items() if name.startswith("trim."))  # fmt: skip
    with pytest.raises(EdgepruneError, match=r"trim\.what"):
        build_settings({"trim": {"what": ["tails"]}})


ROLES = {"out", "in", "gated", "norm", "grouped", "depthwise", "param"}


@pytest.mark.parametrize("family", ROWS)
def test_every_place_of_a_row_has_a_role_that_is_known(family: str) -> None:
    for row in ROWS[family]:
        assert row.kind in KINDS, row.name
        assert not row.why or row.unless != ("", ""), row.name
        for text in row.places:
            words = text.split()
            while words[0] in ("last", "with", "without"):
                words = words[1:] if words[0] == "last" else words[2:]
            role, path, *dimension = words
            assert role.rstrip("?").split(":")[0] in ROLES, text
            assert bool(dimension) == role.startswith("param"), text
            assert path


@pytest.mark.parametrize("family", ROWS)
def test_one_group_of_a_family_holds_the_coordinates_of_its_states(family: str) -> None:
    rows = [row for row in ROWS[family] if row.states]
    assert rows
    assert all(row.kind in (HIDDEN, CHANNELS) for row in rows)


def test_what_cannot_go_says_why_in_a_sentence_that_fits_behind_another() -> None:
    reasons = {row.why for rows in ROWS.values() for row in rows if row.why}
    assert reasons
    for why in reasons:
        assert why[0].islower()
        assert not why.endswith(".")
