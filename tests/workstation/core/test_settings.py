"""Settings: one frozen dataclass a stage, every field explained, every step a stage that is there."""

from __future__ import annotations

import dataclasses
import importlib
import inspect

import pytest
from settings_fields import undocumented

from edgeprune.core import settings as module
from edgeprune.core.settings import STEPS, Settings
from edgeprune_calibration.splits import PARTS


def test_every_field_says_what_it_means() -> None:
    assert undocumented(module) == []


def test_no_settings_can_be_changed_in_place() -> None:
    settings = Settings()
    for item in dataclasses.fields(Settings):
        section = getattr(settings, item.name)
        if dataclasses.is_dataclass(section):
            field = dataclasses.fields(section)[0].name
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(section, field, getattr(section, field))


def test_every_step_is_a_stage_that_is_there_and_has_settings_of_its_own() -> None:
    sections = {item.name for item in dataclasses.fields(Settings)}
    for where, section in STEPS.values():
        name, function = where.split(":")
        stage = getattr(importlib.import_module(name), function)
        asked = inspect.signature(stage).parameters
        assert section in sections
        assert {"out", "settings", "ui"} <= set(asked)


def test_the_shares_of_a_split_are_one_a_part_and_make_up_all_clips() -> None:
    shares = Settings().clips.fractions
    assert len(shares) == len(PARTS)
    assert sum(shares) == pytest.approx(1)
