"""Training under fake int8 wins back what coarse rounding lost."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_models import make_model
from tiny_recordings import RATE, TONES, tone

from edgeprune.core.console import Silent
from edgeprune.core.deployment_settings import Quantize
from edgeprune.core.settings import Distill
from edgeprune.data.windows import Windows
from edgeprune.models import loading
from edgeprune.quantization.layer_groups import deployed, layer_groups_of
from edgeprune.quantization.qat import BITS as BITS_OF
from edgeprune.quantization.qat import Rounding, recover, recover_int8
from edgeprune.training import loop
from edgeprune.training.step_records import StepContext
from edgeprune_device.errors import EdgepruneError

LABELS = tuple(TONES)
BITS = 3
CONTEXT = StepContext(Distill(), seed=0, accelerator="cpu")


@pytest.fixture
def master(tmp_path: Path) -> Any:
    """Give a model that answers all three labels about as often."""
    model = loading.load_model(str(make_model(tmp_path / "m", "unispeech-sat", LABELS)))
    with torch.no_grad():
        logits = loading.logits_of(model, torch.from_numpy(sounds()))
        model.classifier.bias -= logits.mean(dim=0)
    return model


def sounds() -> np.ndarray[Any, np.dtype[np.float32]]:
    pitches = np.random.default_rng(0).uniform(200, 4000, 144)
    return np.stack([tone(pitch, 0.25, i) for i, pitch in enumerate(pitches)])


def answered(model: Any) -> Windows:
    """Label the sounds with a model's own answers, so that in float it is always right."""
    samples = sounds()
    with torch.inference_mode():
        best = loading.logits_of(model, torch.from_numpy(samples)).argmax(dim=1).tolist()
    rows = tuple({"label": LABELS[k], "split": "valid" if i % 3 == 0 else "train", "columns": {}}
                 for i, k in enumerate(best))  # fmt: skip
    span = np.tile([0, samples.shape[1]], (len(samples), 1))
    return Windows(samples, span, np.arange(len(samples)), rows, LABELS, RATE)


def session(folder: Path) -> loop.TrainingSession:
    return loop.TrainingSession(folder / "work", torch.device("cpu"), Silent(), "recover")


def test_a_model_in_coarse_weights_is_better_after_recovery(master: Any, tmp_path: Path) -> None:
    student, windows = copy.deepcopy(master), answered(master)
    units = layer_groups_of(student)
    here = torch.device("cpu")
    done = recover(
        student, master, windows, Rounding(tuple(units), bits=BITS),
        Distill(batch_size=8, learning_rate=2e-3, epochs=3), CONTEXT, session(tmp_path),
    )  # fmt: skip
    assert done["before"] < 0.95  # there is something to win back
    assert done["after"] >= done["before"] + 0.03
    assert len(done["curve"]) == 3
    with deployed(student, units, "rows", BITS):  # the gain is in the model, not only in the report
        again = loop.evaluate(student, windows.split("valid"), LABELS, here)
    assert again == pytest.approx(done["after"])
    assert loop.evaluate(master, windows.split("valid"), LABELS, here) == 1.0


def test_a_recovery_that_does_not_help_leaves_the_student_as_it_was(
    master: Any, tmp_path: Path
) -> None:
    student, windows = copy.deepcopy(master), answered(master)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    done = recover(
        student, master, windows, Rounding(tuple(layer_groups_of(student))),
        Distill(learning_rate=1.0, epochs=1), CONTEXT, session(tmp_path),
    )  # fmt: skip
    assert done["after"] == done["before"]
    for name, value in student.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_recovery_without_an_epoch_is_refused(master: Any, tmp_path: Path) -> None:
    with pytest.raises(EdgepruneError, match="at least one epoch"):
        recover(master, master, answered(master), Rounding(tuple(layer_groups_of(master))),
                Distill(epochs=0), CONTEXT, session(tmp_path))  # fmt: skip


def test_the_stage_trains_only_where_rounding_costs_too_much(
    master: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    windows = answered(master)
    loading.save(master, tmp_path / "student" / "model")
    monkeypatch.setattr("edgeprune.quantization.qat.load_windows", lambda _: windows)
    monkeypatch.setitem(BITS_OF, "weights4", BITS)
    context = StepContext(Distill(batch_size=8, learning_rate=2e-3), seed=0, accelerator="cpu")
    found = {}
    for name, settings in (
        ("eight", Quantize(recover_epochs=2, max_loss=0.05)),
        ("coarse", Quantize(method="weights4", recover_epochs=2, max_loss=0.0)),
    ):
        out = tmp_path / name
        out.mkdir()
        recover_int8(
            tmp_path / "student", tmp_path, context, out=out, settings=settings, ui=Silent()
        )
        found[name] = json.loads((out / "recover.json").read_text("utf-8"))
        assert loading.labels_of(loading.load_model(str(out / "model"))) == LABELS
        assert not (out / "work").exists()
    assert found["eight"]["skipped"]
    assert not found["eight"]["curve"]
    assert not found["coarse"]["skipped"]
    assert found["coarse"]["after"] >= found["coarse"]["before"]
    assert len(found["coarse"]["curve"]) == 2
