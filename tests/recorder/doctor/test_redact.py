"""Redaction: secrets by name and by value, places, what was heard; and nothing else."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeprune_device.doctor.redact import places_of, redact, scrub, secrets_of


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("see https://a:b@host:8443/x/y?k=v#f.", "see https://(removed)@host:8443/(removed)"),
        ("mqtt://host:1883 is down", "mqtt://host:1883 is down"),
        ("http://host/", "http://host/"),
        ("Authorization: Bearer abc.def-123456", "Authorization: Bearer (removed)"),
        ('token="a b" and more', "token=(removed) and more"),
        ("Password: x", "Password: (removed)"),
        ("/home/joe/journal is full", "/home/(removed)/journal is full"),
        ("12 tokens were read", "12 tokens were read"),
    ],
)
def test_addresses_and_assignments_are_scrubbed(text: str, shown: str) -> None:
    assert scrub(text, ()) == shown


def test_what_was_heard_becomes_how_much_was_heard() -> None:
    stats = {"detections": {"my name is bond": 2, "owl": 3}, "top": ["bond", 0.9], "windows": 7}
    assert redact(stats, with_labels=False) == {
        "detections": {"total": 5}, "top": "(removed)", "windows": 7,
    }  # fmt: skip


def test_a_secret_is_removed_where_json_would_escape_it() -> None:
    secret = 'päss"word\\n'
    shown = json.dumps(redact({"text": f"x {secret} y", secret: 1.5, "z": 1.5}, {secret, "1.5"}))
    assert json.loads(shown) == {
        "text": "x (removed) y",
        "(removed)": "(removed)",
        "z": "(removed)",
    }


def test_nested_tables_are_redacted_and_empty_values_stay_visible() -> None:
    table = {"a": [{"Password": "x", "port": 1}], "token_env": "", "gps": [1.0, 2.0]}
    assert redact(table) == {
        "a": [{"Password": "(removed)", "port": 1}], "token_env": "", "gps": "(removed)",
    }  # fmt: skip
    assert redact(table, with_place=True)["gps"] == [1.0, 2.0]
    assert secrets_of({"mqtt": {"password_env": "NOT_SET_ANYWHERE"}}, {}) == {"NOT_SET_ANYWHERE"}


SETTINGS = {
    "mqtt": {"host": "broker.example", "port": 1883, "username": "ranger", "password_env": "WORD"},
    "webhook": {"url": "https://x.example", "token_file": "TOKEN_FILE"},
    "command": {"run": ["/usr/bin/notify", "--key", "sk-live-abcdef", "-q"]},
    "schedule": {"latitude": 47.123456, "longitude": 11.6},
}  # fmt: skip


def test_secrets_are_what_keys_of_secrets_hold_and_name_and_what_programs_are_given(
    tmp_path: Path,
) -> None:
    (tmp_path / "token").write_text("tok-1234 and-more\nabc\n")
    table = SETTINGS | {"webhook": {"token_file": str(tmp_path / "token")}}
    assert secrets_of(table, {"WORD": "hunter2", "OTHER": "nobodys"}) == {
        "ranger", "WORD", "hunter2", str(tmp_path / "token"), "tok-1234", "and-more", "--key",
        "sk-live-abcdef",
    }  # fmt: skip  # not -q and abc: they would be found in every other word


def test_a_secret_that_is_named_and_not_there_is_no_error() -> None:
    assert secrets_of(SETTINGS, {}) == {"ranger", "WORD", "TOKEN_FILE", "--key", "sk-live-abcdef"}


def test_places_are_coordinates_as_they_are_written() -> None:
    assert places_of(SETTINGS) == {"47.123456", "11.6"}
    assert places_of({"gps": [1.2345, 5], "platform": "a"}) == {"1.2345"}


def test_values_are_taken_out_wherever_they_stand_the_longest_first() -> None:
    assert scrub("abcd abcdef xabcdefx", {"abcd", "abcdef"}) == ("(removed) (removed) x(removed)x")


@pytest.mark.parametrize("text", ["file:///var/lib/x", "2026-05-01T12:00:00Z", "basic x"])
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert scrub(text, {"hunter2"}) == text


def test_a_table_keeps_its_keys_its_numbers_and_what_they_are() -> None:
    table = {
        "windows": 7,
        "fine": True,
        "nothing": None,
        "ratio": 0.5,
        "list": [1, "x"],
        "lat": 47.1,
    }
    assert redact(table) == {**table, "lat": "(removed)"}
    assert redact(table, with_place=True) == table
    assert table["lat"] == 47.1  # the table itself is as it was
    assert redact({"fine": True, "pin": 7777}, {"True", "7777"}) == {
        "fine": True,
        "pin": "(removed)",
    }


def test_a_programs_name_is_shown_and_its_arguments_are_not() -> None:
    assert redact(SETTINGS)["command"] == {"run": ["notify", *["(removed)"] * 3]}
    assert redact({"run": []}) == {"run": []}
    assert redact({"argv": "notify --key x"}) == {"argv": "(removed)"}
