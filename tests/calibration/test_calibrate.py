"""``edgeprune calibrate``: a bundle's decision set on recordings, refused where they cannot tell."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
from tiny_recordings import TONES, make_stream

from edgeprune_calibration import calibrate as module
from edgeprune_calibration import operating_point
from edgeprune_calibration.calibrate import Target, calibrate, labelled_windows, score_stream
from edgeprune_calibration.count_intervals import poisson_interval
from edgeprune_calibration.event_matching import (
    Event,
    match,
    read_detections,
    read_truth,
    write_truth,
)
from edgeprune_calibration.operating_point import ScoredStream, listen_to
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.detection.decision_rule import rule_of
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.runtime import open_model
from edgeprune_device.recorder.listen import listen

SHORT, LONG = 80.0, 240.0  # seconds of each recording


@pytest.fixture(scope="module", params=[SHORT, pytest.param(LONG, marks=pytest.mark.slow)])
def heard(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> list[tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("streams")
    return [make_stream(folder, seed, request.param) for seed in (0, 1)]


@pytest.fixture
def hours(heard: list[tuple[Path, Path]]) -> float:
    """Of one recording."""
    return float(soundfile.info(heard[0][0]).duration) / 3600


def test_a_stream_is_scored_as_listen_hears_it(
    tiny_bundle: Path, heard: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    bundle = read_bundle(tiny_bundle)
    scored = score_stream(bundle, open_model(bundle), heard[0][0], [])
    listen(tiny_bundle, tmp_path / "j", source="wav", from_wav=heard[0][0], say=lambda _: None)
    told = read_detections(tmp_path / "j")
    found = listen_to(scored, rule_of(bundle))
    assert len(found) > 20
    assert [(e.label, round(e.start_seconds, 4), round(e.end_seconds, 4)) for e in found] == [
        (e.label, e.start_seconds, e.end_seconds) for e in told
    ]


def test_the_new_bundle_does_in_listen_what_calibrate_said(
    tiny_bundle: Path, heard: list[tuple[Path, Path]], hours: float, tmp_path: Path
) -> None:
    out = tmp_path / "new"
    done = calibrate(tiny_bundle, [p for p, _ in heard], [t for _, t in heard], out, Target(600.0))
    new, old = read_bundle(out), read_bundle(tiny_bundle)
    assert new.model_bytes == old.model_bytes
    assert [g.tolerance for g in new.golden] == [g.tolerance for g in old.golden]
    assert new.temperature == done["temperature"] != 1.0
    assert new.manifest["decision"]["thresholds"] == done["thresholds"]
    hits = false_alarms = 0
    for i, (recording, truth) in enumerate(heard):
        journal = tmp_path / f"j{i}"
        stats = listen(out, journal, source="wav", from_wav=recording, say=lambda _: None)
        found = match(read_detections(journal), read_truth(truth), stats["captured_seconds"])
        hits, false_alarms = hits + found.hits, false_alarms + found.false_alarms
    reached = done["reached"]
    assert (hits, false_alarms) == (reached["hits"], reached["false_alarms"])
    assert reached["hours"] == pytest.approx(2 * hours)
    assert reached["false_alarms_per_hour"] == pytest.approx(600, rel=0.1)
    assert not done["missed"]
    low, high = poisson_interval(false_alarms)
    assert reached["false_alarms_per_hour_interval"] == pytest.approx(
        (low / hours / 2, high / hours / 2)
    )
    assert sum(x["false_alarms"] for x in done["per_label"].values()) == false_alarms
    fit = done["temperature_fit"]
    assert fit["nll_after"] < fit["nll_before"]
    assert done["held_out"]["hours"] == pytest.approx(2 * hours)
    for name in (*TONES, "all, held out", "hours; temperature"):
        assert name in done["text"]
    json.dumps(done)


def test_a_rate_that_is_too_low_for_the_highest_score_is_said_so(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    """The loud tones all score exactly 1, those that the list lacks among them."""
    recording, truth = make_stream(tmp_path, 0, LONG)
    done = calibrate(tiny_bundle, [recording], [truth], tmp_path / "new", Target(160.0))
    assert "more than that have the highest score of the model" in done["missed"]
    assert done["missed"] in done["text"]


def test_a_rate_that_no_threshold_is_low_enough_for_is_said_so(
    tiny_bundle: Path, heard: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    recording, truth = heard[0]
    done = calibrate(tiny_bundle, [recording], [truth], tmp_path / "new", Target(20_000.0))
    assert "even the lowest thresholds give fewer" in done["missed"]
    assert done["missed"] in done["text"]


def test_a_precision_can_be_asked_for_and_the_temperature_left(
    tiny_bundle: Path, heard: list[tuple[Path, Path]], hours: float, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    if hours < LONG / 3600:  # fewer thresholds are tried
        monkeypatch.setattr(operating_point, "CANDIDATES", 40)
    recording, truth = heard[0]
    done = calibrate(tiny_bundle, [recording], [truth], tmp_path / "new", Target(precision=0.75),
                     temperature=False)  # fmt: skip
    assert done["temperature"] == 1.0
    assert done["reached"]["precision"] >= 0.72


def test_few_labelled_windows_leave_the_temperature_and_say_so(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    recording, truth = make_stream(tmp_path, 5, 30.0)
    done = calibrate(tiny_bundle, [recording], [truth], tmp_path / "new", Target(5000.0))
    assert done["temperature"] == 1.0
    assert "only 13 labelled windows (at least 30 to fit one)" in done["text"]


def test_streams_that_are_too_short_name_the_hours_that_are_needed(
    tiny_bundle: Path, heard: list[tuple[Path, Path]], hours: float, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match="distinguish 2 false alarms per hour from 4") as error:
        calibrate(tiny_bundle, [heard[0][0]], [heard[0][1]], tmp_path / "new", Target(2.0))
    assert "5 hours are needed" in str(error.value)
    assert f"allow {10 / hours:.3g} or more per hour" in error.value.hint
    assert error.value.status == 2
    assert not (tmp_path / "new").exists()


def test_what_makes_no_sense_is_refused_before_anything_is_scored(
    tiny_bundle: Path, heard: list[tuple[Path, Path]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    recording, truth = heard[0]
    monkeypatch.setattr(module, "open_model", None)
    strange = tmp_path / "strange.csv"
    write_truth(strange, [Event("owl", 1, 2)])
    cases: list[tuple[str, list[Path], Target, Path]] = [
        ("1 recordings but 2 lists", [truth, truth], Target(10.0), tmp_path / "new"),
        ("Exactly one target is needed", [truth], Target(), tmp_path / "new"),
        ("Exactly one target is needed", [truth], Target(1.0, 0.9), tmp_path / "new"),
        ("--false-alarms-per-hour -1 is out of range", [truth], Target(-1.0), tmp_path / "new"),
        ("--precision 1.5 is out of range", [truth], Target(precision=1.5), tmp_path / "new"),
        ("has the label 'owl', which the bundle lacks", [strange], Target(9.0), tmp_path / "new"),
        ("would replace the old one", [truth], Target(9.0), tiny_bundle),
    ]
    for sentence, lists, target, out in cases:
        with pytest.raises(EdgepruneError, match=sentence) as error:
            calibrate(tiny_bundle, [recording], lists, out, target)
        assert error.value.status == 2


def test_an_event_after_the_end_belongs_to_another_recording(
    tiny_bundle: Path, heard: list[tuple[Path, Path]], tmp_path: Path
) -> None:
    write_truth(tmp_path / "late.csv", [Event("low", 500, 501)])
    with pytest.raises(EdgepruneError, match="at 500 s is outside"):
        calibrate(tiny_bundle, [heard[0][0]], [tmp_path / "late.csv"], tmp_path / "new",
                  Target(300.0))  # fmt: skip


def test_an_events_window_is_the_one_that_holds_most_of_it() -> None:
    starts = np.arange(0, 10, 0.5)
    scores = np.arange(20, dtype=np.float32)[:, None] * np.ones((1, 2), np.float32)
    truth = (Event("a", 3.1, 3.7), Event("b", 6.4, 7.6))
    stream = ScoredStream(scores, starts, starts + 1.0, truth, 11.0)
    found, index = labelled_windows(stream, ("a", "b"), "softmax")
    assert index.tolist() == [0, 1]
    assert [starts[int(x)] for x in found[:, 0]] == [3.0, 6.5]
    found, tags = labelled_windows(stream, ("a", "b"), "sigmoid")
    rows = {float(starts[int(x)]): tag.tolist() for x, tag in zip(found[:, 0], tags, strict=True)}
    assert rows[3.0] == [1, 0]
    assert rows[6.5] == [0, 1]
    assert rows[0.0] == rows[9.5] == [0, 0]
    assert 2.5 in rows  # 0.4 of 0.6 seconds are in it
    assert 7.5 not in rows  # a tenth of an event: neither with nor without it
