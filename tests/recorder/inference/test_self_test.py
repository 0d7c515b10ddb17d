"""The self test: a bundle's model is opened in a process of its own, and what it breaks it breaks there."""

from __future__ import annotations

import subprocess
from pathlib import Path

import numpy as np
import pytest

from edgeprune_device.bundle.reader import read_bundle
from edgeprune_device.bundle.writer import golden_files, write_bundle
from edgeprune_device.errors import FAILED_CHECK, EdgepruneError
from edgeprune_device.inference import self_test
from edgeprune_device.inference.runtime import check_golden, open_model
from edgeprune_device.inference.self_test import self_test_in_child


def test_the_child_tells_the_difference_that_this_process_finds(tiny_bundle: Path) -> None:
    bundle = read_bundle(tiny_bundle)
    here = check_golden(bundle, open_model(bundle))
    assert self_test_in_child(tiny_bundle, bundle.digest) == pytest.approx(here, abs=1e-6)


def test_a_model_with_other_scores_fails_the_check_with_its_hint(
    tiny_bundle: Path, tmp_path: Path
) -> None:
    bundle = read_bundle(tiny_bundle)
    other = [np.roll(golden.scores, 1) for golden in bundle.golden]
    files, golden = golden_files([golden.samples for golden in bundle.golden], other, 1e-4)
    manifest = {k: v for k, v in bundle.manifest.items() if k != "files"} | {"golden": golden}
    write_bundle(tmp_path / "b", manifest, {"model.onnx": bundle.model_bytes, **files})
    with pytest.raises(EdgepruneError, match="has other scores on this machine") as caught:
        self_test_in_child(tmp_path / "b", read_bundle(tmp_path / "b").digest)
    assert caught.value.status == FAILED_CHECK
    assert "Update the runtime" in caught.value.hint


def test_a_bundle_that_is_not_the_one_that_was_read_is_refused(tiny_bundle: Path) -> None:
    with pytest.raises(EdgepruneError, match="was changed a moment ago"):
        self_test_in_child(tiny_bundle, "0" * 64)


@pytest.mark.parametrize(
    ("done", "sentence"),
    [((-9, "", "Killed"), r"crashed its process \(SIGKILL\)"),
     ((-11, "", ""), r"crashed its process \(SIGSEGV\)"),
     ((3, "", "Traceback\nMemoryError: no room\n"), r"\(status 3, MemoryError: no room\)"),
     ((0, "", ""), r"\(status 0, no message\)"),
     ((0, "a model that prints\n", ""), "crashed its process"),
     ((0, 'noise\n{"error": "It is wrong.", "hint": "Mend it."}\n', ""), "^It is wrong")],
)  # fmt: skip
def test_however_the_child_ends_it_is_one_sentence(
    done: tuple[int, str, str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = subprocess.CompletedProcess(["python"], *done)
    monkeypatch.setattr(self_test, "run_module", lambda *_: ended)
    with pytest.raises(EdgepruneError, match=sentence) as caught:
        self_test_in_child(Path("birds"), "d")
    assert caught.value.status == FAILED_CHECK


def test_a_child_that_does_not_finish_is_given_up(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_test, "PROVE_SECONDS", 0.001)
    with pytest.raises(EdgepruneError, match=r"of tiny did not finish within 0\.001 s"):
        self_test_in_child(tiny_bundle, "d")
