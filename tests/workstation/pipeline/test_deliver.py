"""What compress delivers: the bundle with where it came from, measured beside its teacher."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from said import Lines
from tiny_bundle import make_bundle
from tiny_recordings import TONES
from tones_run import report_of, settings

from edgeprune.core.settings import Settings
from edgeprune.metrics.task_metrics import METRICS, value
from edgeprune.pipeline import deliver
from edgeprune.pipeline.deliver import delivered, in_order, measure_speed, publish, verify
from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.errors import EdgepruneError


@pytest.mark.parametrize(
    ("decided", "order"),
    [({}, ("onnx", "tflite")), ({"first": "onnx"}, ("onnx", "tflite")),
     ({"first": "tflite"}, ("tflite", "onnx"))],
)  # fmt: skip
def test_the_format_that_was_decided_for_comes_first(
    decided: dict[str, str], order: tuple[str, ...]
) -> None:
    assert in_order(("onnx", "tflite"), decided) == order
    assert in_order(("tflite",), decided) == ("tflite",)


def test_of_two_formats_the_other_has_a_folder_of_its_own_or_none() -> None:
    def asked(**export: Any) -> Settings:
        return settings(export={"formats": ["onnx", "tflite"], **export})

    assert delivered(settings(), {"first": "onnx"}) == ("bundle",)
    assert delivered(asked(), {"first": "tflite"}) == ("bundle", "bundle-onnx")
    assert delivered(asked(), {"first": "onnx"}) == ("bundle", "bundle-tflite")
    assert delivered(asked(together=True), {"first": "tflite"}) == ("bundle",)


def test_the_bundle_says_where_it_came_from(finished: Path) -> None:
    r, bundle = report_of(finished), read_bundle(finished / "bundle")
    made = bundle.manifest["provenance"]
    assert bundle.labels == tuple(sorted(TONES))
    assert made["data_digest"] == r["data"]["digest"]
    teach, depth = made["steps"]
    assert (teach["step"], depth["step"]) == ("teach", "depth")
    assert depth["kept"] == r["seeds"][r["best_seed"]]["steps"][1]["kept"]
    assert depth["macs"] < teach["macs"]
    assert made["metrics"]["bundle"]["score"] == r["delivered"]["bundle"]["score"]
    tried = next(v for v in r["files"]["tried"] if v["chosen"])
    assert bundle.manifest["model"]["quantization"] == tried["method"]
    assert (made["seed"], made["seeds"]) == (r["best_seed"], 2)
    assert set(made["metrics"]) == {"teacher", "student", "bundle"}


def test_what_is_published_is_the_deployed_bundle_and_nothing_else(finished: Path) -> None:
    inside, outside = (read_bundle(folder / "bundle") for folder in (finished / "deploy", finished))
    assert inside.digest == outside.digest
    for name in inside.manifest["files"]:
        assert (finished / "bundle" / name).read_bytes() == (inside.path / name).read_bytes()


def test_an_older_bundle_gives_way_to_the_new_one(tmp_path: Path) -> None:
    make_bundle(tmp_path / "old")
    new = make_bundle(tmp_path / "new", seed=1)
    assert read_bundle(tmp_path / "old").digest != read_bundle(new).digest
    publish(new, tmp_path / "old")
    assert read_bundle(tmp_path / "old").digest == read_bundle(new).digest


def test_teacher_student_and_bundle_are_measured_on_the_test_clips(
    run_copy: Path, tmp_path: Path
) -> None:
    seed = run_copy / "seed-0"
    said = Lines()
    bundles = [seed / "export-teacher/bundle", seed / "export/bundle", seed / "quantize/bundle"]
    told = json.loads((run_copy / "clips/clips.json").read_text("utf-8"))
    for row in told["rows"]:
        row["split"] = {"valid": "train"}.get(row["split"], row["split"])
    (run_copy / "clips/clips.json").write_text(json.dumps(told), "utf-8")  # none to choose by
    verify(*bundles, run_copy / "clips", out=tmp_path, settings=None, ui=said)
    facts = json.loads((tmp_path / "verify.json").read_text("utf-8"))
    recorded = json.loads((seed / "verify/verify.json").read_text("utf-8"))
    assert facts == recorded
    tested = [row["label"] for row in told["rows"] if row["split"] == "test"]
    for name in ("teacher", "student", "bundle"):
        tally = np.load(tmp_path / f"{name}.npy")
        assert [sorted(TONES)[int(code)] for code in tally[:, 0]] == tested
        assert facts[name]["score"] == pytest.approx(value(METRICS["classes"][0], tally))
    assert said.text.startswith("  test accuracy: teacher ")


def benched(threads: tuple[int, ...], cores: int, patch: pytest.MonkeyPatch, out: Path) -> Any:
    """Return what the bench was asked on a machine of so many cores, and what was said."""
    asked: dict[str, Any] = {}

    def bench(files: Any, folder: Path, **options: Any) -> None:
        asked.update(options, files=files)

    patch.setattr(deliver, "bench", bench)
    patch.setattr(deliver, "usable_cores", lambda: cores)
    said = Lines()
    bundle = make_bundle(out / "b")
    measure_speed(bundle, bundle, bundle, out=out, ui=said,
                  settings=settings(bench={"threads": list(threads)}).bench)  # fmt: skip
    return asked, said.text


@pytest.mark.parametrize(
    ("threads", "cores", "measured"),
    [((1, 2), 4, (1, 2)), ((1, 2, 8), 2, (1, 2)), ((4,), 2, (1,))],
)
def test_no_more_threads_are_measured_than_there_are_cores_and_it_is_said(
    threads: tuple[int, ...], cores: int, measured: tuple[int, ...],
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path,
) -> None:  # fmt: skip
    asked, said = benched(threads, cores, monkeypatch, tmp_path)
    assert asked["threads"] == measured
    assert ("core(s)" in said) == (threads != measured)
    assert asked["names"] == ("teacher", "student", "bundle")


def test_a_teacher_that_is_no_bundle_is_refused(tmp_path: Path, finished: Path) -> None:
    with pytest.raises(EdgepruneError):
        verify(tmp_path, finished / "clips", out=tmp_path, settings=None, ui=Lines())
