"""The program: every command is there with an example, errors are printed once, statuses are right."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest
import typer.main
from command_line import call

from edgeprune import __version__
from edgeprune.cli import app
from edgeprune_device.errors import EdgepruneError


def commands() -> dict[str, Any]:
    whole: Any = typer.main.get_command(app.app)
    return dict(whole.commands)


def raising(error: BaseException) -> Any:
    def work(*_: Any, **__: Any) -> None:
        raise error

    return work


def test_every_command_has_a_sentence_and_an_example() -> None:
    for name, command in commands().items():
        assert command.help, name
        assert "Example: edgeprune" in (command.epilog or ""), name


def test_the_version_is_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "--version") == 0
    assert capsys.readouterr().out.strip() == f"edgeprune {__version__}"


def test_a_misspelt_command_names_the_one_that_was_meant(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "lisen") == 2
    assert "listen" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "status", "lines"),
    [
        (EdgepruneError("No.", "Do so."), 2, ["error: No.", "hint: Do so."]),
        (EdgepruneError("Under the floor.", "", 1), 1, ["error: Under the floor."]),
        (ModuleNotFoundError("", name="torch.nn"), 3,
         ["error: This command needs torch, which is not installed.",
          "hint: pip install 'edgeprune[compress]'"]),
        (FileNotFoundError(errno.ENOENT, "No such file", "a.csv"), 2,
         ["error: a.csv: No such file."]),
    ],
)  # fmt: skip
def test_an_error_is_printed_once_and_gives_its_status(
    error: Exception, status: int, lines: list[str], monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setattr("edgeprune_device.journal.coverage_report.coverage", raising(error))
    assert call(monkeypatch, "coverage", "journal") == status
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize("error", [OSError("no file is named"), ModuleNotFoundError(name="ours")])
def test_a_defect_keeps_its_traceback(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeprune_device.journal.coverage_report.coverage", raising(error))
    monkeypatch.setattr("sys.argv", ["edgeprune", "coverage", "journal"])
    with pytest.raises(type(error)):
        app.main()


def test_ctrl_c_is_status_130_and_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        "edgeprune_device.journal.coverage_report.coverage", raising(KeyboardInterrupt())
    )
    assert call(monkeypatch, "coverage", Path("journal")) == 130
    assert "Run the same command again" in capsys.readouterr().err
