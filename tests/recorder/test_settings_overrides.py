"""Options in place of settings: what is given counts, what is not changes nothing."""

from __future__ import annotations

import pytest

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Settings
from edgeprune_device.settings_overrides import apply_overrides
from edgeprune_device.settings_reader import build_settings

NAMES = {"decide.hop_seconds": "--hop", "audio.device": "--device"}
FILE = build_settings({"audio": {"device": "usb", "gain_db": 3}, "clips": {"save": True}}, "r.toml")


def test_an_option_stands_in_place_of_the_files_value_and_the_rest_of_the_part_stays() -> None:
    found = apply_overrides(
        FILE, {"audio": {"device": "hw:1"}, "decide": {"hop_seconds": 0.5}}, NAMES
    )
    assert (found.audio.device, found.audio.gain_db) == ("hw:1", 3)
    assert found.decide.hop_seconds == 0.5
    assert found.clips.save
    assert FILE.audio.device == "usb"  # the old settings are as they were


def test_what_was_not_given_changes_nothing_and_false_and_nought_are_given() -> None:
    assert apply_overrides(FILE, {"audio": {"device": None}, "clips": {}}, NAMES) == FILE
    found = apply_overrides(FILE, {"clips": {"save": False}, "audio": {"gain_db": 0.0}}, NAMES)
    assert (found.clips.save, found.audio.gain_db) == (False, 0.0)


@pytest.mark.parametrize("value", [-1.0, 0.0, 1e9, float("nan"), float("inf")])
def test_a_value_out_of_range_is_said_by_the_options_own_name(value: float) -> None:
    sentence = r"^--hop \S+ is out of range \(allowed: 0\.0001 to 86400\)\.$"
    with pytest.raises(EdgepruneError, match=sentence) as caught:
        apply_overrides(Settings(), {"decide": {"hop_seconds": value}}, NAMES)
    assert caught.value.status == 2


def test_an_option_without_a_name_of_its_own_is_called_as_in_the_file() -> None:
    with pytest.raises(
        EdgepruneError, match=r"(?m)^operate\.threads 0 is out of range \(allowed: 1 to 64\)\.$"
    ):
        apply_overrides(Settings(), {"operate": {"threads": 0}}, NAMES)


def test_ends_of_a_range_are_allowed_and_texts_have_none() -> None:
    found = apply_overrides(Settings(), {"audio": {"gain_db": -60, "device": "-1"}}, NAMES)
    assert (found.audio.gain_db, found.audio.device) == (-60, "-1")


def test_a_key_that_is_not_known_is_a_mistake_of_the_program() -> None:
    with pytest.raises(TypeError, match="divice"):
        apply_overrides(Settings(), {"audio": {"divice": "x"}}, NAMES)
