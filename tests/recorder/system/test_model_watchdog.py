"""A model that does not answer ends the program; one that is slow does not."""

from __future__ import annotations

import threading

import pytest
from faults_table import Tally

from edgeprune_device.system.model_watchdog import watch_for_hang


@pytest.mark.fault("F12")
def test_a_model_that_never_answers_ends_the_program(
    capsys: pytest.CaptureFixture[str], tally: Tally
) -> None:
    ended: list[int] = []
    done = threading.Event()

    def end(status: int) -> None:
        ended.append(status)
        done.set()

    stop = watch_for_hang(lambda: 100.0, 5.0, end, now=lambda: 105.1, look_seconds=0.01)
    assert done.wait(5)
    stop()
    assert ended == [1]
    assert "has taken more than 5 s for one window" in capsys.readouterr().err
    tally(1, 0, "without systemd the program ends itself")


def test_a_slow_model_and_one_at_rest_do_not() -> None:
    looks = 0
    enough = threading.Event()

    def since() -> float | None:
        nonlocal looks
        looks += 1
        if looks > 20:
            enough.set()
        return None if looks % 2 else 100.0

    stop = watch_for_hang(since, 5.0, lambda _: pytest.fail("ended"), now=lambda: 104.9,
                          look_seconds=0.001)  # fmt: skip
    assert enough.wait(5)
    stop()
