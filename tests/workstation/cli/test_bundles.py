"""``wrap``, ``pack``, ``keys`` and ``sign``: what the user says of a model, and what is printed."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import call, replace_work


def test_wrap_passes_on_what_the_user_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    work = replace_work(monkeypatch, "edgeprune.deployment.wrap.wrap", {"text": ""})
    (tmp_path / "labels.txt").write_text("owl\nrain\n")
    assert call(
        monkeypatch, "wrap", "a.onnx", "-o", "bundle", "--labels", tmp_path / "labels.txt", "--rate",
        32000, "--ignore", "rain", "--speech", "voice", "--logits", "--activation", "sigmoid",
    ) == 0  # fmt: skip
    model, out, said = work.given
    assert (model, out) == (Path("a.onnx"), Path("bundle"))
    assert (said.labels, said.sample_rate, said.logits) == (("owl", "rain"), 32000, True)
    assert (said.ignore, said.speech, said.activation) == (("rain",), ("voice",), "sigmoid")


def test_wrap_refuses_an_activation_that_is_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert call(monkeypatch, "wrap", "a.onnx", "-o", "b", "--activation", "tanh") == 2
    assert "tanh" in capsys.readouterr().err


def test_pack_prints_the_size_in_megabytes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    replace_work(monkeypatch, "edgeprune_device.bundle.pack.pack_bundle", (1_250_000, "digest"))
    assert call(monkeypatch, "pack", "bundle", "-o", "birds.zip") == 0
    assert capsys.readouterr().out == "birds.zip: 1.2 MB\n"


def test_keys_says_which_stays_and_which_goes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = (Path("keys/edgeprune.key"), Path("keys/edgeprune.pub"), "ab12")
    replace_work(monkeypatch, "edgeprune_device.bundle.signature.make_keys", made)
    assert call(monkeypatch, "keys", "-o", "keys") == 0
    said = capsys.readouterr().out
    assert said.index("keys/edgeprune.key") < said.index("keys/edgeprune.pub") < said.index("ab12")


def test_sign_names_the_key(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    work = replace_work(monkeypatch, "edgeprune_device.bundle.pack.sign_bundle", "ab12")
    assert call(monkeypatch, "sign", "bundle", "--key", "edgeprune.key") == 0
    assert work.given == (Path("bundle"), Path("edgeprune.key"))
    assert "ab12" in capsys.readouterr().out
