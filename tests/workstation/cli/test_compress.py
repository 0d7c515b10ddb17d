"""``compress``, ``score``, ``verify`` and ``demo``: options become settings, results a status."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command_line import call, replace_work

from edgeprune.core.settings import Settings


def result(lost: float = 0.0) -> Any:
    report = {"delivered": {"bundle": {"difference": -lost}}}
    return SimpleNamespace(report=report, __str__=lambda: "")


def test_options_become_settings_and_what_is_not_given_stays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    work = replace_work(monkeypatch, "edgeprune.pipeline.compress.compress", result())
    assert call(
        monkeypatch, "compress", "model", "clips.csv", "-o", "run", "--seeds", 2, "--max-drop", 2.5,
        "--label", "species", "--group", "site", "--layers", "0,1,3", "--steps", "depth,trim",
        "--ratio", 40, "--of", "latency", "--format", "onnx,tflite", "--together", "--target", "pi4",
        "--redo", "teach", "--redo", "bench",
    ) == 0  # fmt: skip
    model, data, out, settings = work.given
    assert (model, data, out) == ("model", Path("clips.csv"), Path("run"))
    assert (settings.seeds, settings.max_drop) == (2, pytest.approx(0.025))
    assert (settings.clips.label, settings.clips.group) == ("species", "site")
    assert settings.prune.layers == (0, 1, 3)
    assert settings.steps == ("depth", "trim")
    assert (settings.trim.ratio, settings.trim.of) == (pytest.approx(0.4), "latency")
    assert (settings.export.formats, settings.export.together) == (("onnx", "tflite"), True)
    assert settings.quantize.target == "pi4"
    assert settings.distill == Settings().distill
    assert work.named["redo"] == ["teach", "bench"]


def test_options_go_over_a_recipe_and_an_earlier_presets_name_is_read_with_a_note(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = replace_work(monkeypatch, "edgeprune.pipeline.compress.compress", result())
    assert call(monkeypatch, "compress", "model", "clips", "-o", "run", "--recipe", "paper-seed3",
                "--seeds", 1) == 0  # fmt: skip
    settings = work.given[3]
    assert (settings.steps, settings.seeds, settings.mimic.freeze) == (("mimic",), 1, True)
    assert capsys.readouterr().err == (
        "note: the preset paper-seed3 is now called paper-2409.16302.\n"
    )


def test_a_bundle_that_lost_too_much_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_work(monkeypatch, "edgeprune.pipeline.compress.compress", result(0.03))
    assert call(monkeypatch, "compress", "model", "clips", "-o", "run", "--max-drop", 2) == 1
    assert "3.00" in capsys.readouterr().err


def test_layers_that_are_no_numbers_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "compress", "m", "d", "-o", "run", "--layers", "0,one") == 2
    assert "'0,one' is not a list of whole numbers" in capsys.readouterr().err


def test_score_takes_the_first_label_column_as_the_task(monkeypatch: pytest.MonkeyPatch) -> None:
    done = SimpleNamespace(scores={}, text="")
    work = replace_work(monkeypatch, "edgeprune.pipeline.score.score", done)
    assert call(monkeypatch, "score", "model", "clips", "-o", "run", "--label", "word", "--label",
                "speaker", "--quick", "--frames") == 0  # fmt: skip
    settings = work.given[3]
    assert (settings.clips.label, settings.score.labelings) == ("word", ("speaker",))
    assert settings.clips.context == "file"
    assert (work.named["ablation"], work.named["finetune"]) == (False, False)


def test_score_refuses_quick_and_finetune_together(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "score", "m", "d", "-o", "run", "--quick", "--finetune") == 2
    assert "Both --quick and --finetune" in capsys.readouterr().err


def test_verify_ends_with_status_1_where_the_bundle_did_not_hold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = {"held": False, "verdict": "It is under its teacher.", "text": ""}
    work = replace_work(monkeypatch, "edgeprune.deployment.verify.verify", done)
    assert call(monkeypatch, "verify", "bundle", "clips", "--max-drop", 3) == 1
    assert work.named["max_drop"] == pytest.approx(0.03)
    work.result = {**done, "held": True}
    assert call(monkeypatch, "verify", "bundle", "clips") == 0


def test_the_demonstration_goes_to_its_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    work = replace_work(monkeypatch, "edgeprune.pipeline.demo.demo", {"text": ""})
    assert call(monkeypatch, "demo", "-o", "here") == 0
    assert work.given[0] == Path("here")
