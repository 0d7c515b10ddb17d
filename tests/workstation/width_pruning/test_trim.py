"""The step ``trim``: what was asked is met, by every method; what comes out is a model again."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from shaken_models import random_keep, shaken
from slow_cases import some_of
from tiny_models import heard_by
from tiny_recordings import RATE, make_recordings

from edgeprune.core.console import Silent
from edgeprune.core.settings import Augment, Clips, Distill, Teach, Trim
from edgeprune.data.windows import Windows
from edgeprune.export import timing
from edgeprune.export.onnx import onnx_runner, to_onnx
from edgeprune.models import loading
from edgeprune.pipeline.clips import clips
from edgeprune.training.step_records import StepContext, count_macs, read_step
from edgeprune.training.teach import teach
from edgeprune.width_pruning.trim import _trim_exactly, trim
from edgeprune.width_pruning.unit_table import KINDS
from edgeprune.width_pruning.units import groups_of
from edgeprune_device.errors import EdgepruneError

CONTEXT = StepContext(
    Distill(batch_size=16, learning_rate=2e-3, temperature=2.0, hidden_weight=1.0, label_share=0.5,
            nothing_share=0.1, views=0), seed=0, accelerator="cpu",
)  # fmt: skip
WINDOW = 4800  # samples: 0.25 s, rounded up to tenths
BATCHES = 2  # an epoch's
QUICK = Trim(epochs=2, recovery_epochs=1, gate_rate=0.1)


def taught(folder: Path, model: Path, recordings: Path, epochs: int) -> tuple[Path, Path]:
    """Read the tones and teach a model; returns the folders of both stages."""
    heard, made = folder / "clips", folder / "teach"
    heard.mkdir()
    made.mkdir()
    clips(model, recordings, "", out=heard, settings=Clips(group="speaker"), ui=Silent())
    teach(model, heard, 0, "cpu", asdict(Augment()), out=made,
          settings=Teach(epochs=epochs, batch_size=16, learning_rate=2e-3), ui=Silent())  # fmt: skip
    return made, heard


@pytest.fixture(scope="session")
def stages(backbone: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    few = make_recordings(tmp_path_factory.mktemp("few"), speakers=4, each=3)
    return taught(tmp_path_factory.mktemp("trim"), backbone, few, 2)


def run(stages: tuple[Path, Path], out: Path, settings: Trim, ui: Any = None) -> dict[str, Any]:
    made, heard = stages
    out.mkdir(exist_ok=True)
    trim(made, made, heard, CONTEXT, out=out, settings=settings, ui=ui or Silent())
    return read_step(out)


WAYS = (
    Trim(of="macs"),
    Trim(of="parameters", ratio=0.7, gate="hard-concrete"),
    Trim(mask_loss="lagrangian"),
    Trim(mask_loss="genova", encoder="frozen"),
    Trim(method="magnitude", rounds=2),
    Trim(method="taylor", what=("feed-forward", "channels"), ratio=0.3),
    Trim(method="random", of="parameters"),
)


@pytest.mark.parametrize(
    "settings",
    some_of(WAYS, WAYS[1], WAYS[4]),
    ids=lambda s: f"{s.method} {s.of} {s.gate} {s.mask_loss}",
)
def test_the_ratio_that_was_asked_is_met_within_two_points(
    stages: tuple[Path, Path], tmp_path: Path, settings: Trim
) -> None:
    chosen = Trim(**{**asdict(settings), "epochs": 2, "recovery_epochs": 1, "gate_rate": 0.1})
    facts = run(stages, tmp_path / "out", chosen)
    given = loading.load_model(str(stages[0] / "model"))
    left = loading.load_model(str(tmp_path / "out" / "model"))
    sizes = {"macs": lambda m: count_macs(m, WINDOW), "parameters": loading.count_parameters}
    for name, size in sizes.items():
        assert facts["reached"][name] == pytest.approx(1 - size(left) / size(given), abs=1e-9)
    assert facts["reached"][settings.of] == pytest.approx(settings.ratio, abs=0.02)
    assert facts["requested"] == settings.ratio
    assert facts["met"] is True
    assert facts["step"] == "trim"
    assert facts["macs"] == count_macs(left, WINDOW)
    assert not (tmp_path / "out" / "work").exists()
    epochs = chosen.epochs * (chosen.method == "masks") + chosen.recovery_epochs
    assert [row["epoch"] for row in facts["curve"]] == list(range(1, epochs * chosen.rounds + 1))


def test_a_latency_that_was_asked_is_measured_and_met(
    stages: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that counts: every multiply-accumulate takes 1 ns, every window 50 us."""
    monkeypatch.setattr(
        timing,
        "measure_latency",
        lambda model, window: 0.05 + 1e-6 * count_macs(model, window),
    )
    facts = run(stages, tmp_path / "out", Trim(of="latency", ratio=0.4, method="magnitude",
                                               recovery_epochs=0))  # fmt: skip
    assert facts["reached"]["latency"] == pytest.approx(0.4, abs=0.02)
    left = loading.load_model(str(tmp_path / "out" / "model"))
    assert facts["latency_ms"]["after"] == pytest.approx(0.05 + 1e-6 * count_macs(left, WINDOW))


def test_an_interrupted_trim_ends_where_an_uninterrupted_one_does(
    stages: tuple[Path, Path], tmp_path: Path
) -> None:
    class StopsAt(Silent):
        def __init__(self, batches: int) -> None:
            self.left = batches

        def track(self, items: Iterable[Any], label: str, total: int) -> Iterator[Any]:
            for item in items:
                self.left -= 1
                if self.left < 0:
                    raise KeyboardInterrupt
                yield item

    straight = run(stages, tmp_path / "straight", QUICK)
    for batches in (BATCHES + 1,) * 2:  # in the gates' second epoch, then in recovery's first
        with pytest.raises(KeyboardInterrupt):
            run(stages, tmp_path / "cut", QUICK, StopsAt(batches))
    resumed = run(stages, tmp_path / "cut", QUICK)
    for facts in (straight, resumed):
        facts["reached"].pop("latency")
        facts.pop("latency_ms")
    assert resumed == straight
    kept, other = (
        loading.load_model(str(tmp_path / name / "model")) for name in ("straight", "cut")
    )
    for name, value in kept.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name


@pytest.mark.slow
def test_a_trimmed_student_of_a_trimmed_student_exports(
    stages: tuple[Path, Path], tmp_path: Path
) -> None:
    """Twice the same step: the second begins with what the first left, states narrower than
    the teacher's."""
    made, heard = stages
    for number, given in ((1, made), (2, tmp_path / "1")):
        out = tmp_path / str(number)
        out.mkdir()
        trim(made, given, heard, CONTEXT, out=out, settings=QUICK, ui=Silent())
    facts = read_step(tmp_path / "2")
    assert facts["reached"]["macs"] == pytest.approx(0.5, abs=0.02)
    model = loading.load_model(str(tmp_path / "2" / "model"))
    samples = torch.randn(1, WINDOW) * 0.1
    with torch.inference_mode():
        expected = torch.softmax(loading.logits_of(model, samples), dim=-1)
    found = onnx_runner(to_onnx(model, WINDOW, 18))(samples.numpy())
    torch.testing.assert_close(torch.from_numpy(found), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("of", ["macs", "parameters", "latency"])
def test_more_than_there_is_is_refused_before_anything_is_trained(
    stages: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, of: str
) -> None:
    def trained(*_: Any) -> Any:
        raise AssertionError("it was trained")

    monkeypatch.setattr("edgeprune.width_pruning.trim.rank", trained)
    monkeypatch.setattr(
        timing,
        "measure_latency",
        lambda model, window: 0.05 + 1e-6 * count_macs(model, window),
    )
    with pytest.raises(EdgepruneError, match=f"90 % of the {of} cannot be removed"):
        run(stages, tmp_path / "out", Trim(ratio=0.9, what=("feed-forward",), of=of))


def test_what_is_not_met_is_said_and_written_down(
    stages: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another choice than the one asked for: a single column goes."""
    said: list[str] = []

    class Hears(Silent):
        def say(self, text: str) -> None:
            said.append(text)

    def one(*args: Any) -> dict[str, list[int]]:
        scores = args[2]
        return {name: list(range(len(all_) - 1)) for name, all_ in list(scores.items())[:1]} | {
            name: list(range(len(all_))) for name, all_ in list(scores.items())[1:]
        }

    monkeypatch.setattr("edgeprune.width_pruning.trim.choose", one)
    facts = run(stages, tmp_path / "out", Trim(ratio=0.1, what=("feed-forward",), method="random",
                                               recovery_epochs=0), Hears())  # fmt: skip
    assert facts["met"] is False
    assert 0 < facts["reached"]["macs"] < 0.08
    assert any(text.startswith("  target not met: 10.0 % of the macs requested, ") for text in said)


def test_every_family_is_trimmed_exactly(family_folder: Path) -> None:
    """In double precision, to far less than what is allowed."""
    model = shaken(family_folder)
    groups, keep = groups_of(model), random_keep(model, KINDS, 6)
    heard = heard_by(model).numpy()
    rows: tuple[dict[str, Any], ...] = tuple({"label": "low", "columns": {}} for _ in heard)
    sound = np.tile([0, heard.shape[1]], (len(heard), 1))
    windows = Windows(heard, sound, np.arange(len(heard)), rows, ("low",), RATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("edgeprune.width_pruning.trim.EXACT", 1e-6)
        _trim_exactly(model, groups, keep, windows)
    assert next(model.parameters()).dtype == torch.float32


@pytest.mark.parametrize("how", ["shape", "value"])
def test_a_part_that_reads_trimmed_units_in_an_unknown_way_is_found(
    stages: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    def wrongly(model: Any, keep: dict[str, list[int]]) -> None:
        linear = next(m for m in model.modules() if isinstance(m, torch.nn.Linear))
        with torch.no_grad():
            if how == "shape":
                linear.weight = torch.nn.Parameter(linear.weight[:, 1:])
            else:
                linear.weight += 1e-3

    monkeypatch.setattr("edgeprune.width_pruning.trim.trim_to", wrongly)
    asked = Trim(ratio=0.05, what=("feed-forward",), method="random", recovery_epochs=0)
    match = {
        "shape": "cannot run: one of its parts uses trimmed units in an unknown way",
        "value": "differs from the masked one by",
    }[how]
    with pytest.raises(EdgepruneError, match=match) as caught:
        run(stages, tmp_path / "out", asked)
    assert isinstance(caught.value.__cause__, RuntimeError) is (how == "shape")


def test_what_is_left_of_every_group_is_told(stages: tuple[Path, Path], tmp_path: Path) -> None:
    run(stages, tmp_path / "out", Trim(method="random", recovery_epochs=0))
    facts = json.loads((tmp_path / "out" / "step.json").read_text("utf-8"))
    assert facts["units"]["hidden"] >= 1
