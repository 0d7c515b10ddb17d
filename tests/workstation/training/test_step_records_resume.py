"""An interrupted step goes on from its checkpoint and ends where an uninterrupted one would have."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from steps_fixture import CONTEXT, StopsAt, make_inputs

from edgeprune.core.console import Silent
from edgeprune.core.settings import FrontEnd, Mimic, Student
from edgeprune.models import loading
from edgeprune.replacement.frontend import frontend
from edgeprune.replacement.mimic import mimic
from edgeprune.replacement.student import make_student

TINY: dict[str, Any] = {"width": 8, "layers": 1, "mels": 12, "stem_channels": 2}
STEPS: dict[str, tuple[Callable[..., None], Any]] = {
    "student": (make_student, Student(**TINY, epochs=3, label_epochs=1)),
    "mimic": (mimic, Mimic(width=8, epochs=2, label_epochs=2)),
    "frontend": (frontend, FrontEnd(**TINY, epochs=2, whole_epochs=1, label_epochs=1)),
}


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_inputs(tmp_path_factory.mktemp("inputs"))


@pytest.mark.parametrize("batches", [3, 17], ids=["early", "in the second training"])
@pytest.mark.parametrize("name", STEPS)
def test_a_step_goes_on_where_it_was_interrupted(
    name: str, batches: int, inputs: tuple[Path, Path], tmp_path: Path
) -> None:
    step, settings = STEPS[name]

    def run(out: Path, ui: Any) -> None:
        out.mkdir(exist_ok=True)
        step(inputs[0], inputs[0], inputs[1], CONTEXT, out=out, settings=settings, ui=ui)

    run(tmp_path / "straight", Silent())
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", StopsAfter(batches))
    assert not (tmp_path / "cut" / "step.json").exists()
    run(tmp_path / "cut", Silent())
    expected, found = (
        loading.load_model(str(tmp_path / out / "model")).state_dict()
        for out in ("straight", "cut")
    )
    assert set(found) == set(expected)
    for tensor, value in expected.items():
        torch.testing.assert_close(found[tensor], value, rtol=0, atol=0, msg=tensor)


class StopsAfter(StopsAt):
    """Counts on from one training to the next."""

    def track(self, items: Any, label: str, total: int) -> Any:
        for item in items:
            if self.batches <= 0:
                raise KeyboardInterrupt
            self.batches -= 1
            yield item
