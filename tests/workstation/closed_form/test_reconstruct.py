"""The step ``reconstruct``: exact where nothing goes, better than no refit, and a model again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slow_cases import families
from tiny_models import FAMILY_NAMES, heard_by, make_model
from tiny_recordings import make_recordings

from edgeprune.closed_form.reconstruct import calibrate, largest, reconstruct, refitted
from edgeprune.core.closed_form_settings import Reconstruct
from edgeprune.core.console import Silent
from edgeprune.core.settings import Augment, Clips, Distill, Teach
from edgeprune.data.windows import load_windows
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.pipeline.clips import clips
from edgeprune.training.step_records import StepContext, count_macs, read_step
from edgeprune.training.teach import teach
from edgeprune.width_pruning.removal import trim_to
from edgeprune_device.errors import EdgepruneError

CONTEXT = StepContext(Distill(), seed=0, accelerator="cpu")
HALF = Reconstruct(ratio=0.3, of="parameters")
SEARCH = Reconstruct(of="parameters")
WITHOUT = ("cnn14", "edgeprune-student")
"""Families without heads and feed-forward columns (a student has them if its blocks do)."""


def taught(folder: Path, family: str, recordings: Path) -> tuple[Path, Path]:
    """Give a tiny model a head in closed form; returns the folders of the teacher and the clips."""
    source = make_model(folder / "m", family, ("x", "y"))
    heard, made = folder / "clips", folder / "teach"
    heard.mkdir()
    made.mkdir()
    clips(source, recordings, "", out=heard, settings=Clips(group="speaker"), ui=Silent())
    teach(source, heard, 0, "cpu", asdict(Augment()), out=made, settings=Teach(tune="head"),
          ui=Silent())  # fmt: skip
    return made, heard


@pytest.fixture(scope="session")
def few(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_recordings(tmp_path_factory.mktemp("few"), speakers=4, each=3)


@pytest.fixture(scope="session")
def stages(few: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return taught(tmp_path_factory.mktemp("whisper"), "whisper", few)


def run(
    stages: tuple[Path, Path], out: Path, settings: Reconstruct, max_drop: float = 0.01,
    ui: Any = None,
) -> dict[str, Any]:  # fmt: skip
    made, heard = stages
    out.mkdir(exist_ok=True)
    reconstruct(made, made, heard, CONTEXT, max_drop, out=out, settings=settings, ui=ui or Silent())
    return read_step(out)


@pytest.mark.parametrize("family", families(n for n in FAMILY_NAMES if n not in WITHOUT))
def test_with_nothing_removed_the_model_is_the_original(
    family: str, few: Path, tmp_path: Path
) -> None:
    made, heard = taught(tmp_path, family, few)
    plan = calibrate(made, heard, CONTEXT, Reconstruct(), Silent())
    keep = {name: list(range(one.group.units)) for name, one in plan.found.items()}
    model = refitted(plan, keep)
    with torch.inference_mode():
        before, after = (
            loading.logits_and_states(m, heard_by(m))[1][-1] for m in (plan.model, model)
        )
    assert float((after - before).abs().max()) < 1e-4 * float(before.abs().max())


@pytest.mark.parametrize("family", families(n for n in FAMILY_NAMES if n not in WITHOUT))
def test_a_smaller_model_of_every_family_is_saved_reloaded_and_exported(
    family: str, few: Path, tmp_path: Path
) -> None:
    stages = taught(tmp_path, family, few)
    facts = run(stages, tmp_path / "out", replace(HALF, ratio=0.1))
    model = loading.load_model(str(tmp_path / "out" / "model"))
    windows = load_windows(stages[1])
    window = windows.window_samples
    assert facts["macs"] == count_macs(model, window)
    assert facts["reached"]["parameters"] > 0.05
    samples = torch.from_numpy(windows.read(slice(0, 1)))
    with torch.inference_mode():
        wanted = torch.softmax(loading.logits_of(model, samples), dim=-1).numpy()
    found = onnx_runner(to_onnx(model, window, 17))(samples.numpy())
    np.testing.assert_allclose(found, wanted, atol=1e-4)


def test_the_refit_makes_up_for_what_went(stages: tuple[Path, Path]) -> None:
    """The hidden states after it are nearer to the original's than with the same units cut off."""
    plan = calibrate(*stages, CONTEXT, Reconstruct(), Silent())
    keep = {
        name: sorted(torch.argsort(plan.scores[name])[one.group.units // 2 :].tolist())
        for name, one in plan.found.items()
    }
    cut = loading.load_model(str(stages[0] / "model"))
    trim_to(cut, keep)
    samples = torch.cat(list(plan.batches()))
    with torch.inference_mode():
        original, fitted, plain = (
            loading.logits_and_states(m, samples)[1][-1]
            for m in (plan.model, refitted(plan, keep), cut)
        )
    error = float((fitted - original).square().mean())
    assert error < 0.5 * float((plain - original).square().mean())


def test_the_share_that_was_asked_is_removed(stages: tuple[Path, Path], tmp_path: Path) -> None:
    facts = run(stages, tmp_path / "out", HALF)
    assert facts["reached"]["parameters"] == pytest.approx(0.3, abs=0.03)
    assert (facts["step"], facts["requested"], facts["of"]) == ("reconstruct", 0.3, "parameters")
    assert [row["ratio"] for row in facts["tried"]] == [0.3]
    assert not (tmp_path / "out" / "work").exists()


def test_a_drop_that_allows_anything_takes_the_most(
    stages: tuple[Path, Path], tmp_path: Path
) -> None:
    facts = run(stages, tmp_path / "out", SEARCH, max_drop=2.0)
    assert all(row["held"] for row in facts["tried"])
    assert facts["requested"] == max(row["ratio"] for row in facts["tried"])
    assert facts["requested"] > 0.3


def test_a_drop_that_allows_nothing_leaves_the_model_as_it_is(
    stages: tuple[Path, Path], tmp_path: Path
) -> None:
    facts = run(stages, tmp_path / "out", SEARCH, max_drop=-2.0)
    assert facts["requested"] == 0
    assert not any(row["held"] for row in facts["tried"])
    before, after = (
        loading.load_model(str(f / "model")).state_dict() for f in (stages[0], tmp_path / "out")
    )
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(("holding", "found"), [(0, 0.0), (1, 0.1), (5, 0.5), (9, 0.9)])
def test_the_largest_share_that_holds_is_found(holding: int, found: float) -> None:
    ratios = [n / 10 for n in range(1, 10)]
    asked: list[float] = []

    def holds(ratio: float) -> bool:
        asked.append(ratio)
        return ratio <= holding / 10

    assert largest(ratios, holds) == found
    assert len(asked) <= 4


def test_an_interrupted_step_does_not_try_again_what_it_knows(
    stages: tuple[Path, Path], tmp_path: Path
) -> None:
    class Stops(Silent):
        left = 1

        def track(self, items: Iterable[Any], label: str, total: int) -> Iterator[Any]:
            if label == "refit":
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
            yield from items

    straight = run(stages, tmp_path / "straight", SEARCH, max_drop=0.3)
    with pytest.raises(KeyboardInterrupt):
        run(stages, tmp_path / "cut", SEARCH, max_drop=0.3, ui=Stops())
    tried = list((tmp_path / "cut" / "work").glob("*/score.json"))
    assert len(tried) == 1
    record = json.loads(tried[0].read_text("utf-8"))
    tried[0].write_text(json.dumps(record | {"score": 0.125}), "utf-8")
    resumed = run(stages, tmp_path / "cut", SEARCH, max_drop=0.3)
    assert resumed["tried"][0]["valid_score"] == 0.125
    assert resumed["tried"][1:] == straight["tried"][1:]


def test_more_than_the_units_cost_cannot_be_removed(
    stages: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(EdgepruneError, match=r"^99 % of the macs cannot be removed: .* \d+ % can"):
        run(stages, tmp_path / "out", Reconstruct(ratio=0.99))


def test_too_few_frames_are_counted(stages: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(
        EdgepruneError, match=r"frames .* too few for heads\.0, which has 16 inputs"
    ) as error:
        run(stages, tmp_path / "out", Reconstruct(clips=1))
    assert "At least 17 frames" in error.value.hint


def test_a_model_without_such_units_is_named(few: Path, tmp_path: Path) -> None:
    stages = taught(tmp_path, "cnn14", few)
    with pytest.raises(EdgepruneError, match="cnn14 model has no heads or feed-forward columns"):
        run(stages, tmp_path / "out", HALF)
