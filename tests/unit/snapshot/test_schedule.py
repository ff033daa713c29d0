"""When a snapshot is due, and which ones stay."""

from __future__ import annotations

import math

import pytest

from hpc_yolo.snapshot.retention import Series, superfluous
from hpc_yolo.snapshot.schedule import Advice, Advised, EverySeconds, EverySteps, Past, advise, mean_time_between


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_every_so_many_seconds() -> None:
    clock = Clock()
    interval = EverySeconds(30, clock=clock)
    assert not interval.is_due(5)
    clock.now += 30
    assert interval.is_due(5)
    interval.restart(5)
    assert not interval.is_due(6)


def test_never_more_often_than_snapshots_can_be_written_and_that_is_said_once() -> None:
    clock, told = Clock(), list[Advice]()
    interval = EverySeconds(1, told.append, clock)

    interval.learn(0.1, 0.9)
    assert told == []
    interval.learn(0.1, 2.5)
    interval.learn(0.1, 2.4)

    assert [it.seconds for it in told] == [2.5]
    assert told[0].why.startswith("snapshot.every_s=1 is shorter than a write takes here (2.5 s).")
    assert told[0].why.endswith("or set 25 or more")
    clock.now += 2
    assert not interval.is_due(5)
    clock.now += 1
    assert interval.is_due(5)


def test_every_so_many_steps() -> None:
    interval = EverySteps(10)
    assert [interval.is_due(step) for step in (9, 10)] == [False, True]
    interval.restart(12)
    assert [interval.is_due(step) for step in (21, 22)] == [False, True]


def test_the_advice_is_youngs_and_dalys() -> None:
    advice = advise(stall_s=0.05, write_s=0.5, between_s=3600 * 4)

    assert advice.seconds == pytest.approx(math.sqrt(2 * 0.05 * 14400), abs=0.1)
    assert "4.00 h between interruptions" in advice.why


def test_it_is_never_shorter_than_ten_writes() -> None:
    advice = advise(stall_s=0.001, write_s=3, between_s=3600)

    assert advice.seconds == 30
    assert "a write takes 3.00 s" in advice.why


def test_the_runs_own_history_counts_beside_what_is_expected() -> None:
    assert mean_time_between(4, Past()) == 4 * 3600
    assert mean_time_between(4, Past(hours=2, interruptions=5)) == 3600


def test_advice_is_told_when_it_changes_much() -> None:
    told: list[Advice] = []
    interval = Advised(4, Past(), told.append)
    for stall_s in (0.05, 0.051, 0.2):
        interval.learn(stall_s, 0.1)

    assert [round(it.seconds) for it in told] == [38, 76]
    assert interval.seconds == told[-1].seconds


def test_series_of_epochs() -> None:
    assert [epoch for epoch in range(1, 100) if epoch in Series.parse("every:25")] == [25, 50, 75]
    assert [epoch for epoch in range(1, 100) if epoch in Series.parse("doubling:10")] == [10, 20, 40, 80]


def test_the_newest_and_those_that_are_kept_stay() -> None:
    assert superfluous([10, 20, 30, 40, 50], keep=2, kept={20, 50}) == [0, 2]
    assert superfluous([10, 20], keep=2, kept=()) == []
