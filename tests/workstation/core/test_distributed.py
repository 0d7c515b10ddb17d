"""Training in several processes and in mixed precision, as ``accelerate launch`` starts them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_models import make_model
from tiny_recordings import make_recordings

from edgeprune.core import distributed
from edgeprune_device.errors import EdgepruneError

SHARED = {1: ["--cpu"], 2: ["--multi_gpu"]}
"""Options of the launcher; without a GPU, its processes meet over gloo, on the CPU."""
RECIPE = """
seeds = 1
max_drop = 0.9
[teach]
epochs = 3
batch_size = 9
learning_rate = 3e-3
[score]
neighbours = 3
permutations = 5
[prune]
keep = 2
recovery_epochs = 1
[distill]
epochs = 1
label_epochs = 1
batch_size = 9
[bench]
seconds = 0.05
threads = [1]
rounds = 3
"""


def test_one_process_is_the_main_one_and_waits_for_nobody() -> None:
    assert distributed.processes() == 1
    assert distributed.rank() == 0
    distributed.wait()
    assert distributed.broadcast_from_main("decided") == "decided"
    with distributed.main_first():
        pass


def test_the_mean_over_processes_of_shared_batches_is_the_batch_mean() -> None:
    """What each process's share of the loss adds up to, for a batch that does not divide evenly."""
    values, processes = torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0]), 2
    parts = [values[rank::processes] for rank in range(processes)]
    shares = [len(part) * processes / len(values) for part in parts]
    mean = sum(part.mean() * share for part, share in zip(parts, shares, strict=True)) / processes
    assert float(mean) == pytest.approx(float(values.mean()))


def test_an_accelerator_that_is_not_there_is_refused() -> None:
    with pytest.raises(EdgepruneError, match="accelerator = 'tpu' is not known"):
        distributed.choose_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(EdgepruneError, match="no cuda accelerator"):
            distributed.choose_device("cuda")


def test_precision_is_what_the_recipe_or_the_launcher_asks_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cpu, weight, samples = torch.device("cpu"), torch.ones(4, 4), torch.ones(2, 4)
    monkeypatch.delenv(distributed.LAUNCHER, raising=False)
    try:
        for asked, kind in (
            ("full", torch.float32),
            ("bf16", torch.bfloat16),
            ("full", torch.float32),
        ):
            assert distributed.set_precision(asked) == asked
            with distributed.autocast(cpu):
                assert (samples @ weight).dtype == kind
        monkeypatch.setenv(distributed.LAUNCHER, "bf16")
        assert distributed.set_precision("full") == "bf16"
        monkeypatch.setenv(distributed.LAUNCHER, "no")
        assert distributed.set_precision("bf16") == "bf16"
        monkeypatch.setenv(distributed.LAUNCHER, "fp16")
        with pytest.raises(EdgepruneError, match="accelerate launch requests fp16"):
            distributed.set_precision("full")
    finally:
        monkeypatch.delenv(distributed.LAUNCHER, raising=False)
        distributed.set_precision("full")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("family", "precision"),
    [("wav2vec2", "no"), ("edgeprune-student", "bf16")],  # the latter has running statistics
)
def test_accelerate_launch_trains_in_two_processes_what_one_trains_alone(
    family: str, precision: str, tmp_path: Path
) -> None:
    model = make_model(tmp_path / "model", family)
    data = make_recordings(tmp_path / "data", speakers=6, each=4)
    (tmp_path / "recipe.toml").write_text(RECIPE, "utf-8")
    curves = []
    for processes in (1, 2):
        out = tmp_path / f"run-{processes}"
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-m", "accelerate.commands.launch", *SHARED[processes], "--num_machines", "1",
             "--num_processes", str(processes), "--mixed_precision", precision,
             "--dynamo_backend", "no", "-m", "edgeprune.cli", "compress", str(model), str(data), "-o",
             str(out), "--recipe", str(tmp_path / "recipe.toml")],
            env=environment, check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        assert (out / "bundle" / "bundle.json").is_file()
        assert not list(out.rglob("*.partial"))
        curves.append(json.loads((out / "seed-0/teach/step.json").read_text("utf-8"))["curve"])
    one, two = ([epoch["loss"] for epoch in curve] for curve in curves)
    assert one[0] == pytest.approx(two[0], rel=0.2)  # dropout differs between processes
    assert len(one) == len(two)
