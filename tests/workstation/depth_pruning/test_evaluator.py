"""A model and the clips it is measured on: its own head where that knows the labels, a probe elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from measured_models import LABELS
from tiny_models import make_model

from edgeprune.core.console import Silent
from edgeprune.core.settings import Measure
from edgeprune.depth_pruning.evaluator import open_evaluators
from edgeprune.models import loading
from edgeprune_device.errors import EdgepruneError


def test_a_model_that_knows_the_labels_is_measured_with_its_own_head(
    model_folder: Path, clips_folder: Path
) -> None:
    valid, test, train, head = open_evaluators(
        model_folder, clips_folder, "cpu", Measure(), Silent()
    )
    assert head == "own"
    assert valid.labels == test.labels == LABELS
    assert valid.stack is test.stack
    assert valid.whole == (0, 1, 2)
    for bench, split in ((valid, "valid"), (test, "test")):
        assert set(bench.windows.column("split")) == {split}
    assert set(train.column("split")) == {"train"}
    heard = torch.from_numpy(valid.windows.read(slice(0, 2)))
    model = loading.load_model(str(model_folder))
    with torch.inference_mode():
        states = valid.stack.states(valid.stack.run_front_end(heard))
        torch.testing.assert_close(
            valid.stack.run_head(states, valid.whole), loading.logits_of(model, heard)
        )


def test_the_order_of_its_labels_is_that_of_its_own_head(
    clips_folder: Path, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "m", "hubert", ("extra", *LABELS[::-1]))
    valid, *_, head = open_evaluators(model, clips_folder, "cpu", Measure(), Silent())
    assert (valid.labels, head) == (("extra", *LABELS[::-1]), "own")


def test_a_model_without_such_a_head_gets_a_probe_on_training_clips(
    clips_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    backbone = make_model(tmp_path / "m", "hubert")
    given: list[int] = []

    def fit_probe(stack: object, windows: object, labels: tuple[str, ...], *_: object) -> object:
        given.append(len(labels))
        return torch.ones(len(labels), 16), torch.arange(float(len(labels)))

    monkeypatch.setattr("edgeprune.depth_pruning.evaluator.fit_probe", fit_probe)
    valid, _, _, head = open_evaluators(backbone, clips_folder, "cpu", Measure(), Silent())
    assert head == "linear probe"
    assert given == [3]
    heard = torch.from_numpy(valid.windows.read(slice(0, 2)))
    with torch.inference_mode():
        states = valid.stack.states(valid.stack.run_front_end(heard))
        logits = valid.stack.run_head(states, valid.whole)
    assert torch.diff(logits, dim=1).allclose(torch.ones(2, 2)), "the probe's own bias"


def test_no_more_clips_are_measured_than_the_recipe_allows(
    model_folder: Path, clips_folder: Path
) -> None:
    asked = Measure(clips=3, bridge_clips=6)
    valid, test, train, _ = open_evaluators(model_folder, clips_folder, "cpu", asked, Silent())
    counts = [len(set(x.clip.tolist())) for x in (valid.windows, test.windows, train)]
    assert counts == [3, 3, 6]
    assert sorted(valid.windows.column("label")) == sorted(2 * list(LABELS)), "two windows a clip"


def test_an_accelerator_that_is_not_there_is_refused(
    model_folder: Path, clips_folder: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has the accelerator")
    with pytest.raises(EdgepruneError, match="no cuda accelerator"):
        open_evaluators(model_folder, clips_folder, "cuda", Measure(), Silent())
