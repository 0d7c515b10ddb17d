"""The recorder's settings: what is refused, and by which name."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings import Settings
from edgeprune_device.settings_reader import RANGES, build_settings, checked, read_settings


def test_an_empty_file_is_the_default(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("")
    assert read_settings(tmp_path / "r.toml") == Settings()


def test_tables_fill_their_part_and_leave_the_rest() -> None:
    settings = build_settings(
        {"audio": {"device": "USB Audio", "gain_db": 6}, "decide": {"thresholds": {"owl": 0.5}},
         "load": {"steps": ["skip"]}}, "r.toml",
    )  # fmt: skip
    assert settings.audio.device == "USB Audio"
    assert isinstance(settings.audio.gain_db, float)
    assert settings.audio.stall_seconds == Settings().audio.stall_seconds
    assert settings.decide.thresholds == {"owl": 0.5}
    assert settings.load.steps == ("skip",)


@pytest.mark.parametrize(
    ("table", "said"),
    [
        ({"audoi": {}}, "unknown key 'audoi'"),
        ({"audio": {"divice": "x"}}, "unknown key 'audio.divice'"),
        ({"audio": 3}, "audio in r.toml is not a table"),
        ({"audio": {"channel": 1.5}}, "audio.channel = 1.5 in r.toml"),
        ({"audio": {"channel": True}}, "audio.channel = True in r.toml"),
        ({"clips": {"save": "yes"}}, "clips.save = 'yes' in r.toml"),
        ({"decide": {"allow": "owl"}}, "decide.allow = 'owl' in r.toml"),
        ({"decide": {"threshold": 0}}, "decide.threshold = 0 in r.toml is out of range"),
        ({"decide": {"threshold": float("nan")}}, "decide.threshold = nan in r.toml"),
        ({"decide": {"thresholds": {"owl": 2}}}, "decide.thresholds.owl = 2 is out of range"),
        (
            {"decide": {"confirm_windows": 3, "of_windows": 2}},
            "confirm_windows = 3 is more than decide.of_windows = 2",
        ),
        ({"decide": {"allow": ["owl"], "deny": ["owl"]}}, "'owl' is in both decide.allow and"),
        ({"gate": {"kind": "loud"}}, "gate.kind = 'loud' is not known"),
        ({"gate": {"kind": "vad"}}, "gate.vad_model does not name"),
        ({"privacy": {"vad": True}}, "gate.vad_model does not name"),
        ({"load": {"steps": ["sleep"]}}, "load.steps names 'sleep'"),
        ({"schedule": {"latitude": 50.0}}, "must be given together"),
        ({"security": {"require_signature": True}}, "names no key"),
        ({"operate": {"threads": 0}}, "operate.threads = 0 in r.toml is out of range"),
    ],
)
def test_what_is_out_of_range_or_contradicts_is_refused_by_name(
    table: dict[str, object], said: str
) -> None:
    with pytest.raises(EdgepruneError, match=said.replace(".", r"\.")):
        build_settings(table, "r.toml")


def test_a_misspelt_key_gets_the_right_one_as_a_hint() -> None:
    with pytest.raises(EdgepruneError) as raised:
        build_settings({"audio": {"devise": "x"}}, "r.toml")
    assert raised.value.hint == "Did you mean audio.device?"


def test_a_file_that_is_no_toml_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text("[audio")
    with pytest.raises(EdgepruneError, match=r"r\.toml cannot be read"):
        read_settings(tmp_path / "r.toml")


def test_every_number_has_a_range_and_every_range_a_number() -> None:
    checked(Settings(), "the defaults")
    numbers = {
        f"{part}.{key}"
        for part, held in vars(Settings()).items()
        for key, value in vars(held).items()
        if type(held).__dataclass_fields__[key].type.split(" |")[0] in ("int", "float")
    }
    assert numbers == set(RANGES)
