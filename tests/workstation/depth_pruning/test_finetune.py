"""Cut, fine-tuned, measured: each distinct cut once, and gone on from where it stopped."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from said import Lines

from edgeprune.core.settings import Finetune, Teach
from edgeprune.data.clip_subsets import balanced_subset
from edgeprune.data.windows import load_windows
from edgeprune.depth_pruning import finetune as module
from edgeprune.depth_pruning.finetune import finetune, wanted_cuts
from edgeprune.models.families import depth_of

KEEPS = {
    "backward": {"1": [0], "2": [0, 1], "3": [0, 1, 2]},
    "forward": {"1": [0], "2": [0, 2], "3": [0, 1, 2]},
    "random 0": {"1": [0], "2": [0, 2], "3": [0, 1, 2]},
    "random 1": {"1": [0], "2": [0, 1], "3": [0, 1, 2]},
    "greedy-bridged": {"1": [1], "2": [1, 2], "3": [0, 1, 2]},
}


def test_distinct_cuts_are_trained_once_the_deepest_first() -> None:
    assert wanted_cuts(KEEPS, ("backward", "forward")) == [(0, 1, 2), (0, 1), (0, 2), (0,)]
    assert wanted_cuts(KEEPS, ("forward",)) == [(0, 1, 2), (0, 2), (0,)]


def test_every_order_of_the_control_belongs_to_its_rule() -> None:
    assert wanted_cuts(KEEPS, ("random",)) == [(0, 1, 2), (0, 1), (0, 2), (0,)]


def test_without_a_wish_all_rules_are_trained_but_those_that_need_bridges() -> None:
    found = wanted_cuts(KEEPS, ())
    assert (1, 2) not in found
    assert found == [(0, 1, 2), (0, 1), (0, 2), (0,)]


@pytest.fixture
def measured(tmp_path: Path) -> Path:
    folder = tmp_path / "measure"
    folder.mkdir()
    (folder / "measured.json").write_text(json.dumps({"keeps": KEEPS}), "utf-8")
    return folder


class Training:
    """Stands in for the training itself: the model is as it was, the plan and its depth are kept."""

    def __init__(self, fails_at: int = -1) -> None:
        self.trained: list[tuple[int, int, int]] = []
        self.fails_at = fails_at

    def __call__(self, model: Any, windows: Any, labels: Any, plan: Teach, seed: int,
                 session: Any) -> None:  # fmt: skip
        if len(self.trained) == self.fails_at:
            raise KeyboardInterrupt
        session.work.mkdir(parents=True)
        self.trained.append((depth_of(model.config), plan.epochs, plan.batch_size))


def run(model: Path, clips: Path, measured: Path, out: Path, rules: tuple[str, ...]) -> Lines:
    said = Lines()
    out.mkdir(exist_ok=True)
    teaching = asdict(Teach(epochs=99, batch_size=11))
    finetune(model, clips, measured, teaching, 12, "cpu", out=out,
             settings=Finetune(epochs=3, rules=rules), ui=said)  # fmt: skip
    return said


def test_every_cut_is_trained_as_the_teacher_is_but_for_its_epochs(
    model_folder: Path, clips_folder: Path, measured: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    training = Training()
    monkeypatch.setattr(module, "fine_tune", training)
    said = run(model_folder, clips_folder, measured, tmp_path / "out", ("forward",))
    assert training.trained == [(3, 3, 11), (2, 3, 11), (1, 3, 11)]
    facts = json.loads((tmp_path / "out/finetuned.json").read_text("utf-8"))
    assert list(facts) == ["0-1-2", "0-2", "0"]
    test = balanced_subset(load_windows(clips_folder), "test", 12)
    for name, one in facts.items():
        right = np.load(tmp_path / f"out/right/{name}.npy")
        assert len(right) == len(set(test.clip.tolist()))
        assert one["accuracy"] == pytest.approx(right.mean())
        low, high = one["interval"]
        assert low <= one["accuracy"] <= high
        assert one["keep"] == [int(layer) for layer in name.split("-")]
    assert not (tmp_path / "out/work").exists()
    assert "layer subset 3 of 3 ( 1 layers), fine-tuned: " in said.text


def test_a_cut_that_is_done_is_not_trained_again_after_an_interruption(
    model_folder: Path, clips_folder: Path, measured: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(module, "fine_tune", Training(fails_at=1))
    with pytest.raises(KeyboardInterrupt):
        run(model_folder, clips_folder, measured, tmp_path / "out", ("forward",))
    assert not (tmp_path / "out/finetuned.json").exists()
    rest = Training()
    monkeypatch.setattr(module, "fine_tune", rest)
    run(model_folder, clips_folder, measured, tmp_path / "out", ("forward",))
    assert [depth for depth, *_ in rest.trained] == [2, 1]
