"""What follows an attempt, as a table."""

from __future__ import annotations

import pytest

from hpc_yolo.config import RetryConfig
from hpc_yolo.supervise.policy import Ending, Next, Past, Silence, after_silence, decide, failure_code, leave_between
from hpc_yolo.supervise.supervisor import stop_within_s
from hpc_yolo.types import StopReason

PREEMPTION, CANCELLATION, TIMEOUT = StopReason.PREEMPTION, StopReason.CANCELLATION, StopReason.TIMEOUT


def failed(step: int = 0, then: str = "restart") -> Past:
    return Past(outcome="failure", next=then, step=step)


def preempted(step: int = 0) -> Past:
    return Past(outcome="preemption", next="requeue", step=step)


def vanished(step: int = 0) -> Past:
    return Past(step=step)


@pytest.mark.parametrize(
    ("exit_code", "asked", "expected"),
    [
        # asked for nothing
        (0, None, (Next.DONE, "done", 0)),
        (75, None, (Next.RESTART, "preemption", 75)),
        (70, None, (Next.RESTART, "failure", 70)),
        (74, None, (Next.RESTART, "failure", 74)),
        (1, None, (Next.RESTART, "failure", 70)),
        (-9, None, (Next.RESTART, "failure", 70)),
        (-64, None, (Next.RESTART, "failure", 70)),
        (65, None, (Next.FAIL, "failure", 65)),
        (73, None, (Next.FAIL, "failure", 73)),
        (78, None, (Next.FAIL, "failure", 78)),
        # warned
        (0, PREEMPTION, (Next.DONE, "done", 0)),
        (75, PREEMPTION, (Next.REQUEUE, "preemption", 75)),
        (-9, PREEMPTION, (Next.REQUEUE, "preemption", 75)),
        (-10, PREEMPTION, (Next.REQUEUE, "preemption", 75)),
        (75, TIMEOUT, (Next.REQUEUE, "timeout", 75)),
        (74, PREEMPTION, (Next.REQUEUE, "failure", 74)),
        (78, PREEMPTION, (Next.FAIL, "failure", 78)),
        # told to stop
        (0, CANCELLATION, (Next.DONE, "done", 0)),
        (75, CANCELLATION, (Next.STOP, "cancellation", 75)),
        (-9, CANCELLATION, (Next.STOP, "cancellation", 75)),
        (74, CANCELLATION, (Next.FAIL, "failure", 74)),
    ],
)
def test_a_first_attempt(exit_code: int, asked: StopReason | None, expected: tuple[Next, str, int]) -> None:
    decision = decide([], Ending(exit_code=exit_code, asked=asked, step=5), RetryConfig())

    assert (decision.next, decision.outcome, decision.exit_code) == expected


@pytest.mark.parametrize(
    ("past", "step", "expected"),
    [
        ([], 0, Next.RESTART),
        ([failed(), failed()], 0, Next.FAIL),
        ([failed(), failed()], 1, Next.RESTART),  # this one made new steps
        ([failed(9), failed(9)], 9, Next.FAIL),  # lost steps done again are not new
        ([failed(9), failed(3)], 8, Next.FAIL),
        ([failed(9), failed(9)], 10, Next.RESTART),
        ([failed(), failed(), preempted(5)], 5, Next.RESTART),  # the last but one made new steps
        ([failed(5), preempted(5), failed(5)], 5, Next.FAIL),  # a preemption neither counts nor forgives
        ([failed(5), vanished(5), vanished(5)], 5, Next.RESTART),  # nor does a dead supervisor
        ([failed(), failed(), failed(then="fail")], 0, Next.RESTART),  # a person has started it again
        ([failed(7, then="fail"), failed(7)], 7, Next.RESTART),
        ([failed(7, then="fail"), failed(7), failed(7)], 7, Next.FAIL),
    ],
)
def test_two_restarts_since_the_last_new_step(past: list[Past], step: int, expected: Next) -> None:
    assert decide(past, Ending(exit_code=70, step=step), RetryConfig(max_restarts=2)).next is expected


def test_a_warned_worker_that_fails_spends_the_budget_too() -> None:
    retry = RetryConfig(max_restarts=1)

    assert decide([failed()], Ending(exit_code=70, asked=PREEMPTION), retry).next is Next.FAIL


@pytest.mark.parametrize(
    ("past", "expected"),
    [([], Next.REQUEUE), ([preempted(4)], Next.FAIL), ([Past(outcome="preemption", next="fail")], Next.REQUEUE)],
)
def test_one_preemption_at_most(past: list[Past], expected: Next) -> None:
    decision = decide(past, Ending(exit_code=75, step=9, asked=PREEMPTION), RetryConfig(max_preemptions=1))

    assert decision.next is expected
    assert decision.exit_code == 75


def test_preemptions_are_unlimited_by_default() -> None:
    ending = Ending(exit_code=75, asked=PREEMPTION)

    assert decide([preempted()] * 1000, ending, RetryConfig(max_restarts=0)).next is Next.REQUEUE


def test_failures_wait_ever_longer_and_warnings_not_at_all() -> None:
    retry = RetryConfig(max_restarts=100)

    delays = [decide([failed()] * n, Ending(exit_code=70), retry).delay_s for n in range(8)]

    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    assert decide([], Ending(exit_code=75, step=3), retry).delay_s == 0
    assert decide([preempted()], Ending(exit_code=75), retry).delay_s == 1  # it spins: it makes no step


def test_the_reason_is_told_in_words() -> None:
    killed = decide([], Ending(exit_code=-11, step=5), RetryConfig())
    overdue = decide([], Ending(exit_code=-9, asked=PREEMPTION, is_overdue=True, grace_s=29.6), RetryConfig())

    assert killed.why == "the worker was killed by SIGSEGV; restart 1 of 3"
    assert overdue.why == ("preemption; it did not stop within 30 s, so it goes on from its last snapshot")


@pytest.mark.parametrize("exit_code", [-15, 1, 2, 137, 144])
def test_a_failed_run_never_leaves_with_a_code_that_means_something_else(exit_code: int) -> None:
    assert failure_code(exit_code) == 70


def test_a_stop_request_between_attempts() -> None:
    assert leave_between(CANCELLATION).next is Next.STOP
    assert leave_between(PREEMPTION).next is Next.REQUEUE


@pytest.mark.parametrize(("grace_s", "expected"), [(60, 55), (10, 5), (2, 1)])
def test_the_worker_gets_the_grace_period_less_a_margin(grace_s: float, expected: float) -> None:
    assert stop_within_s(grace_s) == expected


def test_a_run_that_takes_its_nodes_down_is_given_up() -> None:
    lost = Past(outcome="node_failure", next="requeue", step=40)
    silence = Silence(reason=StopReason.NODE_FAILURE, why="its node was lost without a warning", step=40)

    assert after_silence([lost] * 9, silence, RetryConfig()).next is Next.REQUEUE
    assert after_silence([lost] * 20, silence, RetryConfig()).next is Next.FAIL
    left_at_once = Past(outcome="node_failure", next="requeue", step=40, cause="sick_node")
    assert after_silence([left_at_once] * 20, silence, RetryConfig()).next is Next.REQUEUE
    further = Silence(reason=StopReason.NODE_FAILURE, why="its node was lost without a warning", step=41)
    assert after_silence([lost] * 20, further, RetryConfig()).next is Next.REQUEUE
