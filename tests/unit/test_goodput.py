"""Goodput: every second of an allocation has one cause. The right numbers are worked out by hand beside each ledger."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import pytest

from hpc_yolo.events import Events, Kind
from hpc_yolo.heartbeat import Beat
from hpc_yolo.report.goodput import Goodput, Shares, goodput_in_brief, goodput_of, total
from hpc_yolo.report.history import AttemptHistory
from hpc_yolo.report.interruptions import interruptions_of, saved_of
from hpc_yolo.report.timeline import moments_of

Told = tuple[float, Kind, dict[str, Any]]


def attempt(number: int, *told: Told, beat: tuple[float, int] | None = None, alive: bool = False) -> AttemptHistory:
    """Args: beat: time and step of the last heartbeat."""
    lines = [json.dumps({"t": float(time), "kind": kind.value, **fields}) for time, kind, fields in told]
    record = None if beat is None else Beat(time=float(beat[0]), step=beat[1])
    return AttemptHistory(
        number, Events("".join(f"{it}\n" for it in lines)), record, is_alive=alive, is_supervised=False
    )


def started(time: float, ranks: int = 1, host: str = "node1", after_s: float = 1.0) -> list[Told]:
    return [
        (time, Kind.ATTEMPT_STARTED, {"role": "supervisor", "host": host}),
        (time + after_s, Kind.WORKER_STARTED, {"ranks": ranks, "host": host}),
    ]


def resumed(time: float, step: int, snapshot: str | None = None, read_s: float = 0.0) -> Told:
    return time, Kind.RESUMED, {"step": step, "snapshot": snapshot, "read_s": read_s}


def under_way(time: float, step: int) -> Told:
    return time, Kind.TRAINING_STARTED, {"step": step}


def snapshot(time: float, step: int, number: int, *, took: float, stall: float = 0.0, cause: str = "epoch") -> Told:
    """Durable at `time`: the state in it is that of `took` seconds before."""
    fields = {"file": file(step, number), "step": step, "seconds": took, "stall_s": stall, "cause": cause}
    return time, Kind.SNAPSHOT_COMMITTED, fields


def epoch(time: float, number: int, step: int) -> Told:
    return time, Kind.EPOCH_ENDED, {"epoch": number, "step": step}


def ended(time: float, outcome: str, then: str, code: int | None = 0) -> Told:
    return time, Kind.ATTEMPT_ENDED, {"outcome": outcome, "next": then, "exit_code": code, "why": "so it was"}


def file(step: int, number: int) -> str:
    return f"step-{step:09d}.a{number:03d}.safetensors"


def split(attempts: Sequence[AttemptHistory], submitted: Sequence[float] = ()) -> Goodput:
    """A row of `status` says the same as the report."""
    found = goodput_of(moments_of(attempts), submitted)
    brief = goodput_in_brief(attempts)
    assert asdict(brief.shares) == pytest.approx(asdict(found.shares))
    return found


PREEMPTED = attempt(
    1,
    *started(0, ranks=2),
    resumed(10, 0),
    (12, Kind.RANKS_MET, {"hosts": ["node1", "node2"]}),
    under_way(20, 1),  # 20 s of start-up
    snapshot(111, 10, 1, took=1, stall=0.5),  # copied at 110: pause of 0.5 s
    epoch(120, 0, 10),
    snapshot(162, 14, 1, took=2, stall=0.5, cause="interval"),  # copied at 160: pause of 0.5 s
    (170, Kind.STOP_REQUESTED, {"signal": "SIGUSR1", "by": "supervisor"}),
    snapshot(176, 15, 1, took=3, stall=0.5, cause="stop"),  # trained until 172.5: 152.5 s less two pauses = 151.5 s
    (176.5, Kind.STOPPED, {"step": 15}),
    ended(180, "preemption", "requeue", 75),
    (182, Kind.HANDED_BACK, {"how": "requeued"}),  # 9.5 s of saving and leaving, and two pauses = 10.5 s of save
    beat=(176.4, 15),
)
KILLED = attempt(
    2,
    *started(242, ranks=2, host="node2"),
    resumed(255, 15, file(15, 1), read_s=2),  # 2 s of restore
    under_way(262, 16),  # 20 s, 2 of them restore: 18 s of start-up
    snapshot(302, 20, 2, took=2, stall=0.5),  # copied at 300: kept 38 s less the pause = 37.5 s
    epoch(310, 1, 20),
    ended(355, "failure", "restart", -9),
    beat=(352, 24),  # 52 s after the copy that the next one goes on from: redone
)
FINISHING = attempt(
    3,
    *started(365, ranks=2, host="node2"),  # 13 s after the last sign of life: other
    resumed(374, 20, file(20, 2), read_s=3),  # 3 s of restore
    under_way(380, 21),  # 15 s, 3 of them restore: 12 s of start-up
    snapshot(426, 30, 3, took=1),
    epoch(430, 2, 30),
    snapshot(436, 30, 3, took=2, stall=1, cause="done"),  # trained until 433: 53 s
    (437, Kind.FINISHED, {"step": 30, "metrics": {}}),
    ended(440, "done", "done"),  # 7 s of saving and leaving
    beat=(436, 30),
)
THREE = [PREEMPTED, KILLED, FINISHING]


def test_a_preemption_and_a_kill_are_split_by_cause_to_the_half_second() -> None:
    found = split(THREE, submitted=[-30])

    assert found.shares == Shares(
        productive=151.5 + 37.5 + 53, start_up=20 + 18 + 12, restore=2 + 3, save=10.5 + 0.5 + 7, redone=52, other=13
    )
    assert found.shares.allocated == (182 - 0) + (365 - 242) + (440 - 365)
    assert found.ratio == pytest.approx(242 / 380)
    assert found.queued_s == 30 + 60  # before the first start, and from 182 to 242
    assert found.rank_hours == pytest.approx(2 * 380 / 3600)


def test_each_interruption_tells_what_it_cost_and_what_the_last_epoch_would_have() -> None:
    moments = moments_of(THREE)
    first, second = interruptions_of(THREE, moments)

    assert (first.reason, first.step, first.resumed_step, first.epoch_step) == ("preemption", 15, 15, 10)
    assert (first.steps_redone, first.steps_redone_from_epoch) == (0, 5)
    assert first.nodes == ("node1", "node2")
    assert (second.reason, second.step, second.resumed_step, second.epoch_step) == ("failure", 24, 20, 20)
    assert (second.steps_redone, second.steps_redone_from_epoch) == (4, 4)
    saved = saved_of([first, second], moments)
    # Steps and seconds between marks, validation left out: 14 in 142.5 s, 8 in 80 s, 9 in 45 s.
    assert saved.steps == 5
    assert saved.rank_hours == pytest.approx(5 * 2 * (142.5 + 80 + 45) / (14 + 8 + 9) / 3600)


def test_a_run_that_was_never_interrupted_has_lost_and_saved_nothing() -> None:
    lone = attempt(1, *started(0), resumed(5, 0), under_way(10, 1), (110, Kind.FINISHED, {"step": 50}), beat=(110, 50))
    moments = moments_of([lone])

    found = split([lone])

    assert found.shares == Shares(productive=100, start_up=10)
    assert interruptions_of([lone], moments) == []
    assert saved_of([], moments).steps == 0


def test_a_kill_before_the_first_snapshot_loses_all_that_was_trained() -> None:
    killed = attempt(1, *started(0), resumed(5, 0), under_way(10, 1), ended(62, "failure", "restart", -9), beat=(60, 7))
    again = attempt(2, *started(70), resumed(75, 0), under_way(80, 1), beat=(100, 4), alive=True)

    found = split([killed, again])

    assert found.shares == Shares(productive=20, start_up=10 + 10, redone=50, other=10)


def test_what_two_kills_in_a_row_lost_is_counted_once_for_each() -> None:
    """The third attempt finds the second's snapshot damaged: the second's training is lost, and the first's tail."""
    first = attempt(
        1,
        *started(0), resumed(5, 0), under_way(10, 1), snapshot(61, 50, 1, took=1), snapshot(91, 80, 1, took=1),
        ended(112, "failure", "restart", -9),
        beat=(110, 100),
    )  # fmt: skip
    second = attempt(
        2,
        *started(112), resumed(115, 80, file(80, 1)), under_way(120, 81), snapshot(151, 110, 2, took=1),
        ended(162, "failure", "restart", -9),
        beat=(160, 120),
    )  # fmt: skip
    third = attempt(3, *started(162), resumed(165, 50, file(50, 1)), under_way(170, 51), beat=(180, 60), alive=True)
    attempts = [first, second, third]
    moments = moments_of(attempts)

    found = goodput_of(moments)

    assert found.shares.redone == (110 - 60) + (160 - 120)
    assert found.shares.productive == (60 - 10) + (180 - 170)
    assert [it.steps_redone for it in interruptions_of(attempts, moments)] == [20, 70]


def test_a_snapshot_that_no_ledger_names_is_placed_by_its_step() -> None:
    """A state that was saved to the node's own storage: no event tells when."""
    killed = attempt(
        1, *started(0), resumed(5, 0), under_way(10, 0), ended(110, "failure", "requeue", -9), beat=(110, 100)
    )
    again = attempt(2, *started(200), resumed(205, 60, "elsewhere.safetensors"), beat=(206, 60), alive=True)

    found = split([killed, again])

    assert found.shares.productive == 60  # 60 of 100 steps in 100 s
    assert found.shares.redone == 40


def test_an_end_told_by_the_next_attempt_is_not_taken_for_the_time_of_the_end() -> None:
    lost = attempt(
        1, *started(0), resumed(5, 0), under_way(10, 1), snapshot(51, 40, 1, took=1),
        ended(5000, "node_failure", "requeue", None),
        beat=(60, 50),
    )  # fmt: skip
    again = attempt(2, *started(4990), resumed(4995, 40, file(40, 1)), under_way(5000, 41), beat=(5010, 50), alive=True)

    found = goodput_of(moments_of([lost, again]))

    assert found.shares == Shares(productive=40 + 10, start_up=10 + 10, redone=10)
    assert found.queued_s == 4990 - 60


def test_an_attempt_that_fails_before_it_trains_is_start_up() -> None:
    failed = attempt(
        1, *started(0), (8, Kind.FAILED, {"error": "no data", "exit_code": 65}), ended(9, "failure", "fail")
    )
    moments = moments_of([failed])

    assert split([failed]).shares == Shares(start_up=8, other=1)
    (told,) = interruptions_of([failed], moments)
    assert (told.step, told.steps_redone, told.why) == (None, 0, "no data")


def test_validation_that_a_stop_cut_short_is_redone_though_no_step_is() -> None:
    stopped = attempt(
        1, *started(0), resumed(5, 0), under_way(10, 1), snapshot(52, 10, 1, took=2),
        (70, Kind.STOPPED, {"step": 10}), ended(72, "preemption", "requeue", 75),
        beat=(70, 10),
    )  # fmt: skip
    again = attempt(2, *started(100), resumed(104, 10, file(10, 1)), under_way(106, 10), beat=(120, 10), alive=True)
    attempts = [stopped, again]
    moments = moments_of(attempts)

    assert split(attempts).shares == Shares(productive=40 + 14, start_up=10 + 6, save=2, redone=20)
    (told,) = interruptions_of(attempts, moments)
    assert (told.steps_redone, told.steps_redone_from_epoch) == (0, 10)


def test_a_pause_that_a_person_made_is_neither_allocated_nor_queued() -> None:
    cancelled = attempt(1, *started(0), resumed(5, 0), under_way(10, 1), (50, Kind.STOPPED, {"step": 9}),
                        ended(52, "cancellation", "stop", 75), beat=(50, 9))  # fmt: skip
    again = attempt(2, *started(1000), resumed(1005, 9, "x"), under_way(1010, 10), beat=(1020, 20), alive=True)

    found = split([cancelled, again], submitted=[980])

    assert found.queued_s == 20  # since it was submitted again
    assert found.shares.allocated == 52 + 20


def test_clocks_that_disagree_make_no_negative_time() -> None:
    early = attempt(
        1, *started(100), resumed(90, 0), under_way(80, 1), ended(95, "failure", "restart", -9), beat=(300, 5)
    )
    late = attempt(2, *started(110), resumed(99, 0), beat=(98, 1), alive=True)

    shares = split([early, late]).shares

    assert all(getattr(shares, cause) >= 0 for cause in Shares.__slots__)


def test_a_run_that_has_not_begun_has_no_goodput() -> None:
    found = goodput_of(moments_of([AttemptHistory(1, Events(""), None, is_alive=True, is_supervised=True)]))

    assert found.ratio is None
    assert found.to_json()["goodput"] is None


def test_a_sweeps_goodput_weighs_its_runs_by_their_time() -> None:
    good = Goodput(shares=Shares(productive=300), queued_s=10, rank_hours=1)
    poor = Goodput(shares=Shares(redone=100), queued_s=5, rank_hours=2)

    assert total([good, poor]) == Goodput(shares=Shares(productive=300, redone=100), queued_s=15, rank_hours=3)
    assert total([good, poor]).ratio == 0.75


def test_a_row_of_status_reads_little_of_a_long_training() -> None:
    epochs = [
        it for n in range(300) for it in (epoch(100 * n + 90, n, n), snapshot(100 * n + 91, n, 1, took=1, stall=0.5))
    ]
    stop = [snapshot(30100, 300, 1, took=1, stall=0.5, cause="stop"), (30101.0, Kind.STOPPED, {"step": 300})]
    long = attempt(
        1, *started(0), resumed(5, 0), under_way(10, 1), *epochs, *stop, ended(30102, "preemption", "requeue")
    )
    again = attempt(
        2, *started(40000), resumed(40005, 300, file(300, 1)), under_way(40010, 301), beat=(40100, 310), alive=True
    )

    found = goodput_in_brief([long, again])

    assert sum(isinstance(it, str) for it in long.events._held) >= 599  # lines that nobody has parsed
    assert found.shares.save == pytest.approx(300 * 0.5 + (30102 - 30098.5))
