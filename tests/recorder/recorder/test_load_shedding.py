"""What is given up when the model is slower than the sound, in a simulated board."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from edgeprune_device.monitoring.alarms import Alarms
from edgeprune_device.recorder.load_shedding import LoadShedder, levels_of
from edgeprune_device.settings import SHEDDING, Load
from edgeprune_device.stream import Notice

LOAD = Load()


def board(
    shedder: LoadShedder, slowness: list[float], held: float = 60.0
) -> tuple[list[tuple[int, Notice]], list[float]]:
    """Simulate seconds of a board: each second of sound takes so many seconds of work at hop x1.

    Returns the notices with their second, and the backlog after each second; what is over ``held``
    is dropped by the source.
    """
    backlog, said, seen = 0.0, [], []
    for second, cost in enumerate(slowness):
        backlog += 1.0
        room = 1.0  # of work this second
        while room > 0 and backlog > 0:
            piece = min(0.1, backlog)
            work = 0.0 if shedder.skip else piece * cost / shedder.hop_factor
            if work > room:
                break
            room, backlog = room - work, backlog - piece
            said += [(second, notice) for notice in shedder.update(second + 1 - room, backlog)]
        backlog = min(backlog, held)
        said += [(second, notice) for notice in shedder.update(second + 1.0, backlog)]
        seen.append(backlog)
    return said, seen


def test_the_order_is_the_one_the_user_chose() -> None:
    assert [level.name for level in levels_of(SHEDDING, 8)] == [
        "normal", "no-clips", "hop x2", "hop x4", "hop x8", "skip",
    ]  # fmt: skip
    assert [level.name for level in levels_of(("skip", "no-clips"), 8)] == [
        "normal", "skip", "no-clips",
    ]  # fmt: skip
    assert levels_of(("skip", "no-clips"), 8)[-1].skip  # what was given up stays given up
    assert [level.hop_factor for level in levels_of(("longer-hop",), 3)] == [1, 2, 3]
    assert [level.name for level in levels_of(("longer-hop",), 1)] == ["normal"]
    assert [level.name for level in levels_of((), 8)] == ["normal"]


def test_a_model_that_keeps_up_gives_up_nothing() -> None:
    shedder = LoadShedder(LOAD, 4)
    said, backlog = board(shedder, [0.8] * 600)
    assert said == []
    assert max(backlog) < 1
    assert (shedder.clips, shedder.hop_factor, shedder.skip) == (True, 1, False)


def test_a_model_three_times_too_slow_gets_a_longer_hop_and_keeps_up() -> None:
    shedder = LoadShedder(LOAD, 4)
    said, backlog = board(shedder, [3.0] * 100)
    assert [notice.details["level"] for _, notice in said] == ["no-clips", "hop x2", "hop x4"]
    assert {notice.kind for _, notice in said} == {"load-shed"}
    assert not shedder.clips
    assert max(backlog) < 60  # nothing was dropped by the source
    assert backlog[-1] < 10


def test_the_first_step_comes_at_the_backlog_the_user_named() -> None:
    shedder = LoadShedder(Load(behind_seconds=4.0), 4)
    assert shedder.update(0.0, 3.9) == []
    (notice,) = shedder.update(1.0, 4.0)
    assert notice.details == {"level": "no-clips", "before": "normal", "backlog_seconds": 4.0}
    assert shedder.update(2.0, 5.0) == []  # the last one has not had time to help
    assert [notice.details["level"] for notice in shedder.update(5.0, 6.0)] == ["hop x2"]
    assert shedder.update(20.0, 5.5) == []  # it helps: the backlog shrinks
    assert shedder.update(21.0, 7.0) == []
    assert [notice.details["level"] for notice in shedder.update(24.0, 7.0)] == ["hop x4"]


def test_windows_are_skipped_from_the_limit_down_to_half_of_it() -> None:
    shedder = LoadShedder(Load(steps=("skip",)), 4)
    assert [notice.kind for notice in shedder.update(0.0, 10.0)] == ["load-shed"]
    flags = []
    for now, backlog in enumerate([10, 8, 6, 5, 4.9, 6, 9.9, 10, 5.1, 4]):
        shedder.update(1.0 + now, backlog)
        flags.append(shedder.skip)
    assert flags == [True, True, True, True, False, False, False, True, True, False]


def test_when_nothing_is_left_that_is_said_once() -> None:
    shedder = LoadShedder(Load(steps=("no-clips",)), 4)
    said, backlog = board(shedder, [3.0] * 300)
    assert [notice.kind for _, notice in said] == ["load-shed", "load-exceeded"]
    assert backlog[-1] > 59
    assert [n.kind for _, n in board(LoadShedder(Load(steps=()), 4), [3.0] * 300)[0]] == [
        "load-exceeded"
    ]


def test_after_a_slow_spell_everything_is_taken_back_a_step_each_calm_time() -> None:
    shedder = LoadShedder(LOAD, 4)
    said, _ = board(shedder, [3.0] * 100 + [0.5] * 600)
    back = [(second, notice) for second, notice in said if notice.kind == "load-restored"]
    assert [notice.details["level"] for _, notice in back] == ["hop x2", "no-clips", "normal"]
    assert all(b - a >= 119 for (a, _), (b, _) in pairwise(back))
    assert shedder.level == 0
    assert shedder.clips


def test_a_board_that_is_always_a_little_too_slow_changes_its_mind_ever_more_rarely() -> None:
    shedder = LoadShedder(Load(steps=("longer-hop",)), 2)
    said, _ = board(shedder, [1.5] * 12 * 3600)
    assert len(said) < 40  # a fixed calm time would come to over 500
    late = [second for second, _ in said if second > 6 * 3600]
    assert len(late) <= 14


STEPS = st.permutations(SHEDDING).flatmap(
    lambda order: st.integers(0, 3).map(lambda count: tuple(order[:count]))
)
SPELLS = st.lists(st.tuples(st.integers(1, 300), st.floats(0.1, 6)), min_size=1, max_size=6)


@settings(max_examples=40, deadline=None)
@given(STEPS, st.integers(1, 9), SPELLS)
def test_it_never_oscillates_faster_than_the_calm_time_and_returns_to_normal(
    steps: tuple[str, ...], most: int, spells: list[tuple[int, float]]
) -> None:
    load = Load(steps=steps, behind_seconds=5.0, calm_seconds=40.0)
    shedder = LoadShedder(load, most)
    slowness = [cost for seconds, cost in spells for _ in range(seconds)]
    longest = 2 * 3600 * len(shedder.levels)
    said, _ = board(shedder, slowness)
    shed_at = None
    for second, notice in said:
        if notice.kind in ("load-shed", "load-exceeded"):
            shed_at = second
        elif notice.kind == "load-restored":
            assert shed_at is not None
            assert second - shed_at >= 39
    for now in range(len(slowness) + 1, len(slowness) + longest, 20):
        shedder.update(float(now), 0.0)
    assert shedder.level == 0
    assert (shedder.clips, shedder.hop_factor, shedder.skip) == (True, 1, False)
    assert all(notice.text.endswith(".") for _, notice in said)


def test_where_there_is_nothing_to_give_up_the_alarm_ends_too() -> None:
    shedder, alarms = LoadShedder(Load(steps=(), behind_seconds=10, calm_seconds=60)), Alarms()
    for second in range(300):
        for notice in shedder.update(float(second), 20.0 if second < 30 else 0.0):
            alarms.take(notice)
        assert bool(alarms.active) == (second < 90)
    assert alarms.raised == {"load-exceeded": 1}
