"""Audits: distances against scipy, chance against repetition, verdicts on sounds that moved or did not."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy import stats
from tiny_recordings import RATE

from edgeprune_calibration.drift_audit import (
    AuditWindows,
    audit,
    chance_limits,
    compare,
    distances,
    stability_index,
)
from edgeprune_device.errors import EdgepruneError


def windows(seed: int, recordings: int, each: int = 10, shift: float = 0.0) -> AuditWindows:
    """Make windows of which those of a recording are alike."""
    generator = np.random.default_rng(seed)
    own = generator.normal(size=(recordings, 1, 18)) + 0.3 * generator.normal(
        size=(recordings, each, 18)
    )
    own[:, :, 0] += shift
    peaks = generator.uniform(0.1, 0.5, recordings * each)
    return AuditWindows(own.reshape(-1, 18), peaks, np.repeat(np.arange(recordings), each))


def test_distances_are_scipys() -> None:
    generator = np.random.default_rng(0)
    first, second = generator.normal(size=(50, 3)), generator.normal(0.3, 1.2, size=(80, 3))
    second[:20] = np.round(second[:20])
    first[:10] = np.round(first[:10])  # ties
    expected = [stats.ks_2samp(a, b).statistic for a, b in zip(first.T, second.T, strict=True)]
    np.testing.assert_allclose(distances(first, second), expected)


def test_the_stability_index_is_the_formulas() -> None:
    first = np.arange(1000.0)
    assert stability_index(first, first) == pytest.approx(0, abs=1e-9)
    second = np.concatenate([np.arange(500.0), np.arange(500.0)])  # none over the middle
    p, q = np.full(10, 0.1), np.array([0.2] * 5 + [1e-4] * 5)
    assert stability_index(first, second) == pytest.approx(
        np.sum((q - p) * np.log(q / p)), rel=0.02
    )


def test_the_quick_limit_is_that_of_dealing_by_hand() -> None:
    first, second = windows(0, 6), windows(1, 8)
    table = np.concatenate([first.table, second.table])
    recording = np.concatenate([first.recording, second.recording + 6])
    generator = np.random.default_rng(3)
    worst = []
    for _ in range(99):
        chosen = np.isin(recording, generator.permutation(np.arange(14))[:6])
        worst.append(distances(table[chosen], table[~chosen]).max())
    expected = np.quantile(worst, 0.99, method="higher")
    assert chance_limits(first, second, 99, 3)[0] == pytest.approx(expected)


def test_sets_of_the_same_kind_are_kept_and_one_that_moved_is_not() -> None:
    kept = [compare(windows(s, 12), windows(100 + s, 15))["redo"] for s in range(20)]
    assert sum(kept) <= 1  # one in a hundred by chance
    moved = compare(windows(0, 12), windows(1, 15, shift=3.0))
    assert moved["redo"]
    assert (
        moved["reasons"] == ["the level shifted by +3.0 dB"] or "the level" in moved["reasons"][0]
    )


def make_folder(folder: Path, seed: int, gain: float = 1.0, colour: float = 0.0) -> Path:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(seed)
    for i in range(8):
        sound = generator.normal(size=3 * RATE)
        sound[1:] += colour * sound[:-1]
        sound *= gain * 0.01 * 10 ** generator.uniform(-0.3, 0.3) / sound.std()
        soundfile.write(folder / f"{i}.flac", sound.clip(-1, 1), RATE)
    return folder


def test_an_audit_says_in_a_sentence_whether_and_why_to_redo(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "set", 0)
    same = audit(data, make_folder(tmp_path / "same", 1), out=tmp_path / "audit.json")
    assert not same["redo"]
    assert same["verdict"].startswith("Keep the calibration")
    assert json.loads((tmp_path / "audit.json").read_text("utf-8"))["redo"] is False
    make_folder(tmp_path / "journal" / "clips", 2, gain=10)
    louder = audit(data, tmp_path / "journal")
    assert louder["redo"]
    assert "the level shifted by +" in louder["verdict"]
    assert "of the windows exceed the highest peak of the set" in louder["verdict"]
    assert louder["features"]["level"]["shift"] == pytest.approx(20, abs=4)
    dull = audit(data, make_folder(tmp_path / "dull", 3, colour=0.95))
    assert "the spectrum changed in" in dull["verdict"]
    assert "the level" not in dull["verdict"]


def test_too_few_recordings_another_rate_or_none_are_refused(tmp_path: Path) -> None:
    data = make_folder(tmp_path / "set", 0)
    few = tmp_path / "few"
    few.mkdir()
    soundfile.write(few / "a.wav", np.ones(RATE) * 0.1, RATE)
    for heard, sentence, rate in (
        (few, "fewer than 5 recordings", None), (tmp_path / "none", "no recordings at", None),
        (data, "do not have the requested 8000 Hz", 8000),
    ):  # fmt: skip
        with pytest.raises(EdgepruneError, match=sentence) as error:
            audit(data, heard, rate=rate)
        assert error.value.status == 2
    (tmp_path / "empty").mkdir()
    with pytest.raises(EdgepruneError, match="has no sound files"):
        audit(data, tmp_path / "empty")
    with pytest.raises(EdgepruneError, match="no calibration set"):
        audit(tmp_path / "none", data)
    with pytest.raises(EdgepruneError, match="--window 0"):
        audit(data, data, seconds=0)
