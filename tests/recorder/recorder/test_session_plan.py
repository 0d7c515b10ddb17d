"""A session's plan: what is listened to, by which name, and the bundle that it leads to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from bundle_edits import pair, trusted

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.signature import make_keys
from edgeprune_device.errors import EdgepruneError
from edgeprune_device.recorder.session_plan import SessionPlan, open_bundle
from edgeprune_device.settings import Audio, Settings

SAID: list[str] = []


@pytest.fixture
def plan(tiny_bundle: Path, tmp_path: Path) -> SessionPlan:
    SAID.clear()
    return SessionPlan(
        tiny_bundle, tmp_path, Settings(), "microphone", None, None, False, SAID.append
    )


def test_only_a_file_has_no_time_of_day(plan: SessionPlan) -> None:
    assert plan.live
    assert replace(plan, source="stdin").live
    assert not replace(plan, source="wav", from_wav=Path("a/b.wav")).live


def test_what_is_listened_to_has_a_name_without_its_folder(plan: SessionPlan) -> None:
    assert plan.name == "microphone default"
    usb = replace(plan, settings=Settings(audio=Audio(device="usb:0d8c:0014:A1")))
    assert usb.name == "microphone usb:0d8c:0014:A1"
    assert replace(plan, source="stdin").name == "stdin"
    assert replace(plan, source="wav", from_wav=Path("/card/2026/b.wav")).name == "b.wav"


def test_a_bundle_of_one_file_is_opened_without_a_word(plan: SessionPlan) -> None:
    picked = open_bundle(plan, plan.bundle)
    assert picked.bundle.digest == read_bundle(plan.bundle).digest
    assert picked.golden_difference < 1e-4
    assert SAID == []


def test_of_two_files_it_is_said_which_was_taken_and_a_choice_that_stands_is_kept(
    plan: SessionPlan, tmp_path: Path
) -> None:
    tiny = read_bundle(plan.bundle)
    model = {**tiny.manifest["model"], "file": "other.onnx"}
    other = replace(tiny, manifest={**tiny.manifest, "model": model})
    both = pair(tmp_path / "both", plan.bundle, other)
    picked = open_bundle(plan, both)
    assert [picked.sentence] == SAID
    picked.remember(plan.out / "variant.json")
    assert open_bundle(plan, both).facts == picked.facts  # not timed again


def test_a_bundle_is_held_to_the_keys_that_the_settings_trust(
    plan: SessionPlan, tmp_path: Path
) -> None:
    _, public, _ = make_keys(tmp_path / "keys")
    strict = replace(plan, settings=Settings(security=trusted(public)))
    with pytest.raises(EdgepruneError, match="is not signed"):
        open_bundle(strict, plan.bundle)
