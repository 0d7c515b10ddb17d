"""The recorder's settings: an empty file is a recorder, too, and nothing in them can be changed."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest

from edgeprune_device.settings import Settings
from edgeprune_device.settings_reader import checked


def test_the_defaults_are_a_recorder() -> None:
    assert checked(Settings(), "the defaults") == Settings()


def test_every_part_is_a_frozen_dataclass_with_a_default_for_every_key() -> None:
    for part in fields(Settings):
        made = getattr(Settings(), part.name)
        assert is_dataclass(made)
        assert not isinstance(made, type)
        assert type(made)() == made
        first = fields(made)[0].name
        with pytest.raises(FrozenInstanceError):
            setattr(made, first, getattr(made, first))


def test_nothing_leaves_the_recorder_unless_it_is_asked_to() -> None:
    settings = Settings()
    assert not settings.mqtt.host
    assert not settings.webhook.url
    assert not settings.clips.save
    assert not settings.operate.metrics_port
