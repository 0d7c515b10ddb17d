"""What native libraries print: kept away from the terminal, handed over, everything put back."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from edgeprune_device.system.native_output import capture_native_output


def printed(text: str, stream: int) -> None:
    """Print past Python, as a C library does."""
    os.write(stream, text.encode())


def test_what_goes_past_python_is_handed_over_and_not_shown(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with capture_native_output() as said:
        printed("INFO: a delegate\n", 2)
        printed("pass 1\n", 1)
        assert said == []
    assert said == ["INFO: a delegate\npass 1\n"]
    printed("after", 1)
    printed("after", 2)
    assert capfd.readouterr() == ("after", "after")


def test_pythons_own_streams_are_silent_as_well_and_in_order(
    capfd: pytest.CaptureFixture[str],
) -> None:
    print("before")
    with capture_native_output() as said:
        print("one")
        print("two", file=sys.stderr)
    print("after")
    assert sorted(said[0].split()) == ["one", "two"]
    assert capfd.readouterr() == ("before\nafter\n", "")


def test_an_error_passes_and_what_was_printed_before_it_is_handed_over(
    capfd: pytest.CaptureFixture[str],
) -> None:
    told = list[list[str]]()

    def fail() -> None:
        with capture_native_output() as said:
            told.append(said)
            printed("last words \xff", 2)
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert told == [["last words \xff"]]
    printed("after", 2)
    assert capfd.readouterr() == ("", "after")


def test_bytes_that_are_no_text_are_replaced() -> None:
    with capture_native_output() as said:
        os.write(1, b"caf\xe9")
    assert said == ["caf\ufffd"]


def test_no_file_stays_open() -> None:
    before = os.listdir("/proc/self/fd")
    with capture_native_output():
        printed("x", 1)
    assert os.listdir("/proc/self/fd") == before


def test_a_service_without_standard_streams_runs_all_the_same() -> None:
    program = (
        "import os\nfrom edgeprune_device.system.native_output import capture_native_output\n"
        "os.close(0); os.close(1)\n"
        "with capture_native_output() as said:\n    os.write(2, b'said')\n"
        "assert said == ['said'], said\n"
        "try:\n    os.fstat(1)\nexcept OSError:\n    os.write(2, b'still closed')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )  # fmt: skip
    assert done.stderr == "still closed"
