"""What a benchmark is asked to do: found to make sense, or refused, before anything is measured."""

from __future__ import annotations

import hashlib
import math
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_edits import pair, zipped

from edgeprune_device.bench.check import BenchOptions, check, described, names_of, nearest
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError

GOOD: dict[str, Any] = {
    "bundles": [Path("b")], "threads": (1,), "seconds": 5.0, "rounds": 5, "options": BenchOptions(),
}  # fmt: skip


def test_thread_counts_come_once_each_in_the_order_they_were_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    assert check(out=tmp_path, **GOOD | {"threads": (4, 1, 4, 2)}) == [4, 1, 2]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [({"bundles": []}, "No bundle was given"), ({"threads": ()}, "No thread count was given"),
     ({"threads": (1, 0)}, "--threads 0 is out of range"),
     ({"threads": (5,)}, "5 threads requested, but this process may use only 4 cores"),
     ({"seconds": 0.0}, "--seconds 0 is out of range"),
     ({"seconds": math.inf}, "--seconds inf is out of range"),
     ({"rounds": 2}, r"--rounds 2 is out of range \(allowed: 3 to 7\)"),
     ({"rounds": 8}, "--rounds 8 is out of range"),
     ({"options": BenchOptions(sustained_minutes=-1)}, "--sustained -1 is out of range"),
     ({"options": BenchOptions(sustained_minutes=1e6)}, r"--sustained 1e\+06 is out of range"),
     ({"options": BenchOptions(sustained_minutes=math.nan)}, "--sustained nan is out of range"),
     ({"options": BenchOptions(watts=(5, 3))}, "--watts 5,3 is out of range"),
     ({"options": BenchOptions(watts=(0, 0))}, "--watts 0,0 is out of range"),
     ({"options": BenchOptions(watts=(1, math.nan))}, "--watts 1,nan is out of range"),
     ({"options": BenchOptions(watts=(1, math.inf))}, "--watts 1,inf is out of range")],
)  # fmt: skip
def test_what_is_out_of_range_is_one_sentence(
    change: dict[str, Any], sentence: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(4))
    with pytest.raises(EdgepruneError, match=sentence) as caught:
        check(out=tmp_path / "new", **GOOD | change)
    assert caught.value.status == 2
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_or_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(EdgepruneError, match="file is a file, not a folder"):
        check(out=tmp_path / "file" / "deeper", **GOOD)
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(EdgepruneError, match=f"{tmp_path} cannot be written"):
        check(out=tmp_path / "new", **GOOD)


def test_the_nearest_folder_is_the_first_one_above_that_exists(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert nearest(tmp_path / "a" / "b") == nearest(tmp_path / "a") == nearest(tmp_path) == tmp_path
    monkeypatch.chdir(tmp_path)
    assert nearest(Path("a/b")) == tmp_path


def test_a_model_file_is_described_by_what_is_on_the_disk(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = read_bundle(tiny_bundle)
    (found,) = described(tiny_bundle)
    data = (tiny_bundle / "model.onnx").read_bytes()
    assert found["model_sha256"] == hashlib.sha256(data).hexdigest()
    assert (found["model_bytes"], found["digest"]) == (len(data), bundle.digest)
    assert found["bundle_bytes"] == sum(
        p.stat().st_size for p in tiny_bundle.rglob("*") if p.is_file()
    )
    assert (found["hop_seconds"], found["window_seconds"], found["sample_rate"]) == (
        0.05,
        0.1,
        16_000,
    )
    assert (found["name"], found["file"], found["one_of_two"]) == ("tiny", "model.onnx", False)
    packed = zipped(tiny_bundle, tmp_path / "b.zip")
    assert described(packed)[0]["bundle_bytes"] == packed.stat().st_size


def test_of_a_bundle_with_two_files_each_is_described(tiny_bundle: Path, tmp_path: Path) -> None:
    tiny = read_bundle(tiny_bundle)
    model = {**tiny.manifest["model"], "file": "other.onnx", "quantization": "int8"}
    other = replace(tiny, manifest={**tiny.manifest, "model": model})
    found = described(pair(tmp_path / "both", tiny_bundle, other))
    assert [(one["file"], one["quantization"]) for one in found] == [
        ("model.onnx", "none"), ("other.onnx", "int8"),
    ]  # fmt: skip
    assert all(one["one_of_two"] for one in found)


def entry(name: str, file: str = "model.onnx", two: bool = False) -> dict[str, Any]:
    return {"name": name, "file": file, "one_of_two": two}


A, B = Path("runs/a"), Path("runs/b")


def test_a_bundles_own_name_is_its_name_where_no_other_has_it() -> None:
    assert names_of([entry("birds"), entry("bats")], [A, B], None) == ["birds", "bats"]
    assert names_of([entry("birds"), entry("birds")], [A, B], None) == ["runs/a", "runs/b"]


def test_of_two_files_each_is_named_with_its_bundle() -> None:
    two = [entry("birds", "model.onnx", True), entry("birds", "model.tflite", True)]
    assert names_of([*two, entry("bats")], [A, A, B], None) == [
        "birds, model.onnx", "birds, model.tflite", "bats",
    ]  # fmt: skip


def test_given_names_are_as_many_as_files_and_different() -> None:
    both = [entry("birds"), entry("birds")]
    assert names_of(both, [A, B], ["old", "new"]) == ["old", "new"]
    for names in (["one"], ["one", "one"], []):
        with pytest.raises(
            EdgepruneError, match="2 different names are needed, one per model file"
        ):
            names_of(both, [A, B], names)
    with pytest.raises(EdgepruneError, match="birds was given more than once"):
        names_of(both, [A, A], None)
