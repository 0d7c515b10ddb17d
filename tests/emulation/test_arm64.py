"""What counts the instructions of an inference on a Raspberry Pi's processor."""

from __future__ import annotations

import re
import sys
from importlib import util
from pathlib import Path

import pytest
from repository import ROOT, shared

BENCHMARKS = ROOT / "benchmarks"
COUNTER = BENCHMARKS / "emulation/count.c"
spec = util.spec_from_file_location("arm64", BENCHMARKS / "arm64.py")
assert spec is not None
assert spec.loader is not None
arm64 = sys.modules["arm64"] = util.module_from_spec(spec)  # dataclasses look their module up
spec.loader.exec_module(arm64)

# Words as GNU as 2.40 assembles them for aarch64.
WORDS = {
    "add x0, x1, x2": (0x8B020020, set()),
    "b .": (0x14000000, set()),
    "ldr q0, [x0]": (0x3DC00000, {"loads_stores"}),
    "str x0, [x1]": (0xF9000020, {"loads_stores"}),
    "ldp x0, x0, [x0]": (0xA9400000, {"loads_stores"}),
    "fmla v0.4s, v1.4s, v2.4s": (0x4E22CC20, {"fmla"}),
    "fmla v0.4s, v1.4s, v2.s[0]": (0x4F821020, {"fmla"}),
    "fmul v0.4s, v1.4s, v2.4s": (0x6E22DC20, set()),
    "sdot v0.4s, v1.16b, v2.16b": (0x4E829420, {"dot"}),
    "udot v0.4s, v1.16b, v2.16b": (0x6E829420, {"dot"}),
    "sdot v0.4s, v1.16b, v2.4b[0]": (0x4F82E020, {"dot"}),
    "smlal v0.4s, v1.4h, v2.4h": (0x0E628020, {"long_multiply"}),
    "smull v0.8h, v1.8b, v2.8b": (0x0E22C020, {"long_multiply"}),
    "smlal v0.4s, v1.4h, v2.h[0]": (0x0F422020, {"long_multiply"}),
}  # fmt: skip


@pytest.mark.parametrize("text", WORDS)
def test_an_instruction_is_counted_as_what_it_is(text: str) -> None:
    """The plugin's own table, read from its source, on words from an assembler."""
    word, kinds = WORDS[text]
    source = COUNTER.read_text("utf-8").partition("kinds[][2] = {")[2].partition("};")[0]
    numbers = [int(found, 16) for found in re.findall(r"0x[0-9a-f]{8}", source)]
    rows = [numbers[place : place + 4] for place in range(0, len(numbers), 4)]
    found = {
        kind
        for kind, (mask, value, other_mask, other_value) in zip(arm64.KINDS, rows, strict=True)
        if word & mask == value or word & other_mask == other_value
    }
    assert found == {"instructions", *kinds}


def test_a_board_shows_its_own_processor_and_shares_the_rest(tmp_path: Path) -> None:
    (tmp_path / "sysroot/usr/bin").mkdir(parents=True)
    for name in ("a72", "a76", "a76"):  # again: a second start finds it there
        arm64.write_board(tmp_path, name, arm64.CPUS[name])
    pi4, pi5 = (
        (tmp_path / "boards" / name / "proc/cpuinfo").read_text("utf-8") for name in ("a72", "a76")
    )
    assert pi4.count("0xd08") == pi5.count("0xd0b") == pi5.count("processor") == 4
    assert "asimddp" in pi5
    assert "asimddp" not in pi4  # ONNX Runtime would run SDOT, which the A72 has not
    assert (tmp_path / "boards/a72/usr/bin").samefile(tmp_path / "sysroot/usr/bin")


@pytest.mark.slow
@pytest.mark.emulation
def test_the_counts_are_those_that_were_seen_before(pytestconfig: pytest.Config) -> None:
    """../shared/reference/emulation.md has 1.95 and 0.72 million; 0.02 are Python's own calls."""
    model = shared("models/mlperf_tiny/kws_ref_model.tflite", pytestconfig)
    pi4, pi5 = (arm64.count(model, name) for name in ("a72", "a76"))
    assert pi4["instructions"] == pytest.approx(1.95e6, rel=0.03)
    assert pi5["instructions"] == pytest.approx(0.72e6, rel=0.04)
    assert pi4["dot"] == 0 < pi5["dot"]
