"""A session's parts: a bundle's own, with what the settings put in its place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_recordings import RATE, TONES, tone

from edgeprune_device.bundle.reader import Bundle, read_bundle
from edgeprune_device.clips.clip_recorder import DELAY_SECONDS, ClipRecorder
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.inference.choose_variant import ChosenVariant, choose_variant
from edgeprune_device.monitoring.terminal import TerminalOutput
from edgeprune_device.recorder import components
from edgeprune_device.recorder.components import MOST_MERGE_SECONDS, hop_of, make_components
from edgeprune_device.recorder.loop import Components
from edgeprune_device.settings import Clips, Decide, Gate, Settings

WINDOW, HOP = 1600, 800


@pytest.fixture(scope="module")
def bundle(tiny_bundle: Path) -> Bundle:
    return read_bundle(tiny_bundle)


@pytest.fixture(scope="module")
def picked(bundle: Bundle) -> ChosenVariant:
    return choose_variant(bundle)


def parts_of(picked: ChosenVariant, out: Path, settings: Settings | None = None) -> Components:
    return make_components(picked, settings or Settings(), out, TerminalOutput(lambda _: None),
                      on_latency=lambda _: None)  # fmt: skip


def test_without_settings_the_parts_are_the_bundles_and_nothing_is_written(
    picked: ChosenVariant, tmp_path: Path
) -> None:
    parts = parts_of(picked, tmp_path / "j")
    assert (parts.windower.window_samples, parts.windower.hop_samples) == (WINDOW, HOP)
    assert parts.decider.rule.thresholds == dict.fromkeys(TONES, 0.8)
    assert (parts.vad, parts.notices, parts.speech.on) == (None, (), False)
    assert not (tmp_path / "j").exists()


def test_the_model_is_the_bundles_whole_one_where_it_keeps_no_frames(
    picked: ChosenVariant, tmp_path: Path
) -> None:
    parts = parts_of(picked, tmp_path)
    window = tone(TONES["high"], WINDOW / RATE, 1)
    np.testing.assert_array_equal(parts.model(12_345, window), picked.run(window))
    parts.reset_model()  # nothing to forget, and no error


def test_settings_stand_in_place_of_the_bundles_own(picked: ChosenVariant, tmp_path: Path) -> None:
    settings = Settings(
        decide=Decide(hop_seconds=0.025, thresholds={"low": 0.3}, merge_seconds=7.0),
        gate=Gate(kind="level", level_db=-40), clips=Clips(save=True),
    )  # fmt: skip
    parts = parts_of(picked, tmp_path, settings)
    assert parts.windower.hop_samples == 400
    assert parts.decider.rule.thresholds["low"] == 0.3
    assert parts.gate.settings.level_db == -40
    assert parts.clips.settings.save


@pytest.mark.parametrize(("merge", "held"), [(0.0, 0.0), (7.0, 7.0), (3600.0, MOST_MERGE_SECONDS)])
def test_sound_is_held_for_as_long_as_events_may_merge_up_to_a_bound(
    merge: float,
    held: float,
    picked: ChosenVariant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = dict[str, Any]()

    def noted(*arguments: Any, **options: Any) -> Any:
        given.update(options)
        return ClipRecorder(*arguments, **options)

    monkeypatch.setattr(components, "ClipRecorder", noted)
    parts_of(picked, tmp_path, Settings(decide=Decide(merge_seconds=merge)))
    assert given["delay_seconds"] == DELAY_SECONDS + held
    assert given["digest"] == picked.bundle.digest


@pytest.mark.parametrize(
    ("seconds", "samples"),
    [(None, HOP), (0.1, 1600), (1 / RATE, 1), (0.6 / RATE, 1), (2.0, 32_000)],
)
def test_a_hop_is_in_samples_and_at_least_one(
    seconds: float | None, samples: int, bundle: Bundle
) -> None:
    assert hop_of(bundle, Settings(decide=Decide(hop_seconds=seconds))) == samples


def test_a_hop_of_less_than_a_sample_is_one_sentence(bundle: Bundle) -> None:
    with pytest.raises(
        EdgepruneError, match=r"hop_seconds = 1e-05 is less than one sample at 16000 Hz"
    ):
        hop_of(bundle, Settings(decide=Decide(hop_seconds=1e-5)))


def test_settings_of_a_label_that_is_not_there_are_refused(
    picked: ChosenVariant, tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match="names 'owl'"):
        parts_of(picked, tmp_path, Settings(decide=Decide(deny=("owl",))))


def test_frames_that_cannot_be_kept_are_news_and_the_whole_model_runs(
    picked: ChosenVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise EdgepruneError("its incremental files have other scores.")

    monkeypatch.setattr(components, "open_incremental", refuse)
    parts = parts_of(picked, tmp_path)
    (notice,) = parts.notices
    assert notice.kind == "incremental-refused"
    assert notice.text.endswith("its incremental files have other scores.")
    window = tone(TONES["low"], WINDOW / RATE, 1)
    np.testing.assert_array_equal(parts.model(0, window), picked.run(window))


def test_a_model_that_keeps_frames_is_told_of_gaps(
    picked: ChosenVariant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kept:
        def __init__(self) -> None:
            self.gaps = 0

        def __call__(self, first: int, window: Any) -> Any:
            return np.full(3, first, np.float32)

        def gap(self) -> None:
            self.gaps += 1

    kept, asked = Kept(), list[Any]()

    def opened(*given: Any) -> Kept:
        asked.append(given)
        return kept

    monkeypatch.setattr(components, "open_incremental", opened)
    parts = parts_of(picked, tmp_path, Settings(decide=Decide(hop_seconds=0.1)))
    assert parts.model(7, np.zeros(WINDOW, np.float32)).tolist() == [7, 7, 7]
    parts.reset_model()
    assert kept.gaps == 1
    assert asked == [(picked.bundle, 1, 1600)]
