"""What a spectrogram is made of, and how a config records it."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgeprune.nn.spectrogram_specs import (
    SPECS,
    record_of,
    spec_from_extractor,
    spec_from_record,
)
from edgeprune_device.errors import EdgepruneError


@pytest.mark.parametrize("kind", SPECS)
def test_a_recipe_is_read_from_the_config_as_it_was_written(kind: str) -> None:
    assert spec_from_record(record_of(SPECS[kind])) == SPECS[kind]


def test_a_front_end_of_a_later_version_is_refused() -> None:
    with pytest.raises(EdgepruneError, match="edgeprune_frontend"):
        spec_from_record({**record_of(SPECS["ast"]), "wavelets": True})


STATED: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    # what a checkpoint's extractor says, and the fields that follow; all others stay
    "nothing": ("whisper", {}, {}),
    "unknown keys": ("panns", {"chunk_length": 30, "mean": 3}, {}),
    "a longer transform": ("whisper", {"n_fft": 512}, {"frame": 512, "fft": 512}),
    "another rate ends the filters at its half": (
        "ast", {"sampling_rate": 8000}, {"sampling_rate": 8000, "highest": 4000},
    ),
    "whisper's filters end where they did": (
        "whisper", {"sampling_rate": 24000}, {"sampling_rate": 24000},
    ),
    "no normalisation": (
        "ast", {"do_normalize": False, "mean": -6.0}, {"mean": 0.0, "std": 0.5},
    ),
    "fusion has htk's filters": (
        "clap", {"truncation": "fusion", "frequency_min": 50},
        {"mel_scale": "htk", "slaney_norm": False, "lowest": 50},
    ),
    "stacked by four": ("seamless", {"stride": 4}, {"stride": 4}),
}  # fmt: skip


@pytest.mark.parametrize("case", STATED)
def test_a_checkpoints_extractor_changes_what_it_says_and_nothing_else(case: str) -> None:
    kind, stated, changed = STATED[case]
    usual, found = (record_of(x) for x in (SPECS[kind], spec_from_extractor(kind, stated)))
    assert {name: value for name, value in found.items() if value != usual[name]} == changed


def test_a_record_is_plain_values_that_json_keeps() -> None:
    record = record_of(SPECS["clap"])
    assert spec_from_record(json.loads(json.dumps(record))) == SPECS["clap"]


@pytest.mark.parametrize("change", [{"kind": "mfcc"}, {"ending": "image"}, {"fft": ...}])
def test_a_record_that_is_not_whole_is_refused(change: dict[str, Any]) -> None:
    record = {**record_of(SPECS["ast"]), **change}
    record = {name: value for name, value in record.items() if value is not ...}
    with pytest.raises(EdgepruneError, match="is not known to this version of edgeprune"):
        spec_from_record(record)
