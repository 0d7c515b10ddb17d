"""The systemd unit: what systemd's own tools say of it, and how hostile paths are written."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from faults_table import Tally
from typer.testing import CliRunner

from edgeprune.cli.app import app
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.settings_reader import build_settings
from edgeprune_device.system.systemd_unit import (
    DYNAMIC,
    JOURNAL,
    install,
    next_steps,
    unit,
    watchdog_seconds,
)

ONLINE = {"mqtt": {"host": "broker", "password_file": "mqtt-password"},
          "webhook": {"url": "https://x", "token_env": "TOKEN"}}  # fmt: skip


def made(table: dict[str, Any] | None = None, **options: Any) -> str:
    settings = build_settings(table or {}, "r.toml")
    given: dict[str, Any] = {"bundle": Path("/srv/bundle"), "journal": JOURNAL, "user": "daemon"}
    return unit(settings=settings, **(given | options))


def values(text: str, key: str) -> list[str]:
    return re.findall(rf"^{key}=(.*)$", text, re.MULTILINE)


@pytest.fixture
def analyze() -> str:
    tool = shutil.which("systemd-analyze")
    if tool is None:
        pytest.skip("systemd-analyze is not installed: apt-get install systemd")
    return tool


def verified(analyze: str, folder: Path, text: str) -> str:
    """Return what ``systemd-analyze verify`` says; empty if all is well."""
    path = folder / "edgeprune.service"
    path.write_text(text)
    done = subprocess.run(
        [analyze, "verify", str(path)], capture_output=True, text=True, timeout=60, check=False
    )
    return done.stderr


@pytest.mark.parametrize("table", [{}, ONLINE], ids=["offline", "online"])
@pytest.mark.parametrize("user", ["daemon", DYNAMIC])
def test_systemd_finds_nothing_to_say_against_it(
    analyze: str, tmp_path: Path, table: dict[str, Any], user: str
) -> None:
    assert verified(analyze, tmp_path, made(table, user=user)) == ""


@pytest.mark.parametrize(("table", "most"), [({}, 1.3), (ONLINE, 2.2)], ids=["offline", "online"])
def test_systemd_rates_its_exposure_as_low(
    analyze: str, tmp_path: Path, table: dict[str, Any], most: float
) -> None:
    path = tmp_path / "edgeprune.service"
    path.write_text(made(table))
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    rated = re.search(r"Overall exposure level for \S+: ([\d.]+)", done.stdout)
    assert rated, done.stdout + done.stderr
    assert float(rated[1]) <= most


HOSTILE = [
    "a b",
    "50 %x %n",
    "$HOME",
    "${A}",
    'a "quoted" b',
    "back\\slash",
    "it's",
    "a;b",
    "\u00fc",
]


@pytest.mark.parametrize("name", [name for name in HOSTILE if not set(name) & set("\"'\\")])
def test_systemd_reads_a_hostile_path_of_the_program_as_it_is(
    analyze: str, tmp_path: Path, name: str
) -> None:
    """The oracle: systemd names the program that it would start and does not find."""
    python = tmp_path / name / "bin" / "python"
    said = verified(analyze, tmp_path, made(python=python))
    assert f"Command {python} is not executable" in said


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_paths_of_bundle_and_journal_stay_one_argument(
    analyze: str, tmp_path: Path, name: str
) -> None:
    """The oracles: systemd takes the unit, and a shell's splitting gives the paths back."""
    home = Path("/home/pi") / name
    text = made(journal=home / "journal", bundle=home / "bundle")
    assert verified(analyze, tmp_path, text) == ""
    words = shlex.split(values(text, "ExecStart")[0])
    assert [word.replace("%%", "%").replace("$$", "$") for word in words][4:] == [
        str(home / "bundle"), "--wait", "-o", str(home / "journal"),
    ]  # fmt: skip
    (written,) = shlex.split(values(text, "BindPaths")[0])
    assert written.replace("%%", "%") == str(home / "journal")


def test_a_program_that_systemd_would_refuse_is_a_sentence() -> None:
    with pytest.raises(EdgepruneError, match="systemd cannot start a program with a quote"):
        made(python=Path("/opt/it's/bin/python"))


def test_a_path_that_would_add_a_line_is_refused() -> None:
    with pytest.raises(EdgepruneError, match="cannot be written in a unit"):
        made(bundle=Path("/srv/a\nExecStartPre=/bin/evil"))
    with pytest.raises(EdgepruneError, match="cannot be written in a unit"):
        made(user="pi\nUser=root")


def test_it_is_watched_restarted_and_ended_in_time() -> None:
    text = made()
    for key, value in {
        "Type": "notify", "NotifyAccess": "main", "Restart": "always", "StartLimitIntervalSec": "0",
        "TimeoutStartSec": "infinity", "TimeoutStopSec": "15", "WatchdogSec": "180",
        "NoNewPrivileges": "yes", "ProtectSystem": "strict", "PrivateTmp": "yes",
        "SupplementaryGroups": "audio", "DevicePolicy": "closed", "DeviceAllow": "char-alsa rw",
        "CapabilityBoundingSet": "", "StateDirectory": "edgeprune/journal",
        "RuntimeDirectory": "edgeprune", "ProtectClock": None,
    }.items():  # fmt: skip
        assert values(text, key) == ([] if value is None else [value]), key


@pytest.mark.fault("F21")
def test_the_watchdogs_time_follows_from_heartbeat_longest_window_and_hop(tally: Tally) -> None:
    """Four settings: what a healthy recorder may take fits in, so nothing is restarted in vain."""

    def seconds(table: dict[str, Any], hop: float = 0.0) -> int:
        return watchdog_seconds(build_settings({"operate": table}, "r.toml"), hop)

    assert seconds({}) == 180
    assert seconds({"heartbeat_seconds": 600}) == 1800
    assert seconds({"hang_seconds": 600}) == 660
    assert seconds({}, hop=120.0) == 360
    tally(4, 0)


def test_secrets_are_handed_over_by_systemd_and_never_stand_in_the_unit() -> None:
    text = made(ONLINE)
    assert values(text, "LoadCredential") == ["mqtt-password:/etc/edgeprune/mqtt-password"]
    assert values(text, "EnvironmentFile") == ["/etc/edgeprune/environment"]
    assert "LoadCredential" not in made()
    absolute = made({"mqtt": {"host": "x", "password_file": "/etc/my/password"}})
    assert "LoadCredential" not in absolute
    with pytest.raises(EdgepruneError, match=r"mqtt\.password_file = 'a/b' is not a valid name"):
        made({"mqtt": {"host": "x", "password_file": "a/b"}})


def test_without_a_sink_there_is_no_network() -> None:
    assert values(made(), "PrivateNetwork") == ["yes"]
    assert values(made(), "RestrictAddressFamilies") == ["AF_UNIX"]
    for table in (ONLINE, {"command": {"run": ["mail"]}}, {"operate": {"metrics_port": 9100}}):
        assert values(made(table), "PrivateNetwork") == []
        assert values(made(table), "RestrictAddressFamilies") == ["AF_UNIX AF_INET AF_INET6"]


def test_of_a_home_only_what_is_needed_is_there_and_only_the_journal_can_be_written(
    tmp_path: Path,
) -> None:
    home = Path("/home/pi")
    text = made(bundle=home / "birds", journal=home / "journal",
                settings_file=home / "recorder.toml",
                python=home / "venv" / "bin" / "python")  # fmt: skip
    assert values(text, "ProtectHome") == ["tmpfs"]
    assert set(values(text, "BindReadOnlyPaths")) >= {
        "/home/pi/birds", "/home/pi/recorder.toml", "/home/pi/venv",
    }  # fmt: skip
    assert values(text, "BindPaths") == ["/home/pi/journal"]
    assert values(made(journal=Path("/data/j")), "ReadWritePaths") == ["/data/j"]


def test_of_a_store_the_bundles_to_come_can_be_read_too(tmp_path: Path) -> None:
    """The store is under /root or /home only where the tests run there: the paths are asked."""
    (tmp_path / "birds-1").mkdir()
    (tmp_path / "current").symlink_to("birds-1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeprune_device.system.systemd_unit.HOMES", (str(tmp_path),))
        binds = values(made(bundle=tmp_path / "current"), "BindReadOnlyPaths")
    assert str(tmp_path) in binds


def test_a_user_that_systemd_makes_needs_a_journal_that_systemd_makes() -> None:
    assert values(made(user=DYNAMIC), "DynamicUser") == ["yes"]
    with pytest.raises(EdgepruneError, match="cannot write the journal /data/j"):
        made(user=DYNAMIC, journal=Path("/data/j"))


def test_it_runs_as_who_asks_even_with_sudo(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "pi")
    assert values(made(user=""), "User") == ["pi"]


def test_it_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = install("[Unit]\n", tmp_path)
    assert path.read_text() == "[Unit]\n"
    assert [file.name for file in tmp_path.iterdir()] == ["edgeprune.service"]
    with pytest.raises(EdgepruneError, match="cannot be written") as error:
        install("[Unit]\n", tmp_path / "nowhere")
    assert "sudo" in error.value.hint
    assert next_steps(Path("/data/j"), "pi")[0] == "sudo install -d -o pi /data/j"
    assert next_steps(JOURNAL)[0] == "sudo systemctl daemon-reload"


def test_the_command_prints_a_unit_for_a_bundle_that_is_one(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    runner = CliRunner()
    (tmp_path / "r.toml").write_text("[operate]\nheartbeat_seconds = 100\n")
    done = runner.invoke(
        app,
        ["service", str(tiny_bundle), "--settings", str(tmp_path / "r.toml"), "--user", "daemon"],
    )
    assert done.exit_code == 0, done.output
    assert values(done.stdout, "WatchdogSec") == ["300"]
    command = values(done.stdout, "ExecStart")[0]
    assert command.endswith(f"--wait -o {JOURNAL} --settings {tmp_path / 'r.toml'}")
    bad = runner.invoke(app, ["service", str(tmp_path)])
    assert isinstance(bad.exception, EdgepruneError)
