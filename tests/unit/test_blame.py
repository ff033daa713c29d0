"""Whose fault a failure is: what its cause's rule asks for, and what the history of the run says against that."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from hpc_yolo.causes import Found, Symptoms, known_rules, recognise, rule_of
from hpc_yolo.config import RetryConfig
from hpc_yolo.supervise.endings import Ending, Past, Silence
from hpc_yolo.supervise.policy import Decision, Next, after_silence, decide
from hpc_yolo.types import StopReason

MANY = RetryConfig(max_restarts=9)


def found(cause: str) -> Found:
    rule = rule_of(cause, known_rules())
    assert rule is not None
    return Found(rule, "its words")


def failed(cause: str = "", at: str = "", node: str = "node1", **values: Any) -> Past:
    return Past(**{"outcome": "failure", "next": "restart", "cause": cause, "failed_at": at, "node": node, **values})


def now(
    past: list[Past], cause: str = "", at: str = "", retry: RetryConfig = MANY, *, code: int = 70, **values: Any
) -> Decision:
    """What is decided on Slurm after a failure on node1."""
    told = {"node": "node1", "can_move": True, "failed_at": at, "found": found(cause) if cause else None}
    return decide(past, Ending(exit_code=code, **{**told, **values}), retry)


@pytest.mark.parametrize(
    ("cause", "before", "expected"),
    [
        ("gpu_memory_error", 0, Next.REQUEUE),
        ("cudnn_or_cublas", 0, Next.RESTART),
        ("cudnn_or_cublas", 1, Next.REQUEUE),
        ("cudnn_or_cublas", 5, Next.REQUEUE),
        ("nccl", 1, Next.RESTART),
        ("nccl", 2, Next.REQUEUE),
        ("cuda_out_of_memory", 0, Next.RESTART),
        ("cuda_out_of_memory", 1, Next.FAIL),
        ("nan_loss", 0, Next.FAIL),
        ("quota", 0, Next.RESTART),
        ("quota", 1, Next.HOLD),
        ("no_space", 2, Next.RESTART),
        ("no_space", 3, Next.HOLD),
        ("killed", 8, Next.RESTART),
    ],
)
def test_a_rule_counts_once_its_restarts_in_place_are_used_up(cause: str, before: int, expected: Next) -> None:
    decision = now([failed(cause)] * before, cause)

    assert (decision.next, decision.cause, decision.by) == (expected, cause, "its words")


def test_another_cause_before_does_not_use_them_up() -> None:
    assert now([failed("nccl"), failed()], "cuda_out_of_memory").next is Next.RESTART


def test_new_steps_give_them_back() -> None:
    assert now([failed("cuda_out_of_memory", step=5)], "cuda_out_of_memory", step=9).next is Next.RESTART


def test_the_reason_of_the_rule_is_told() -> None:
    assert now([failed("quota")], "quota").why == (
        "the worker left with exit code 70; nothing is freed by trying again; what was saved is safe"
    )


def test_what_a_person_must_mend_is_held_also_where_the_budget_ends_first() -> None:
    assert now([failed("no_space")], "no_space", retry=RetryConfig(max_restarts=1)).next is Next.HOLD
    assert now([failed("nccl")], "nccl", retry=RetryConfig(max_restarts=1)).next is Next.FAIL


def test_a_node_is_left_within_the_budget_only() -> None:
    past = [failed("gpu_memory_error", next="requeue")] * 3

    assert now(past[1:], "gpu_memory_error", retry=RetryConfig()).next is Next.REQUEUE
    assert now(past, "gpu_memory_error", retry=RetryConfig()).next is Next.FAIL


def test_where_there_is_no_other_node_it_is_restarted_in_place() -> None:
    assert now([], "gpu_memory_error", can_move=False).next is Next.RESTART


def test_in_the_grace_period_a_failure_may_be_the_stops_doing() -> None:
    decision = now([], "nan_loss", asked=StopReason.PREEMPTION)

    assert (decision.next, decision.cause) == (Next.REQUEUE, "nan_loss")


def test_a_preemption_has_no_cause() -> None:
    assert now([], "killed", code=-9, asked=StopReason.PREEMPTION).cause == ""


@pytest.mark.parametrize(
    ("past", "cause", "expected"),
    [
        ([], "", Next.RESTART),
        ([failed(at="step 9")], "", Next.FAIL),  # twice in place
        ([failed(at="step 9", node="node2")], "", Next.FAIL),
        ([failed(at="step 8")], "", Next.RESTART),
        ([failed("nccl", at="step 9")], "", Next.RESTART),  # that was something else
        ([failed(at="step 9", next="fail")], "", Next.RESTART),  # a person has acted since
        ([failed("killed", at="step 9")], "killed", Next.RESTART),  # not the run's doing, whenever it comes
        ([failed("storage", at="step 9")], "storage", Next.RESTART),
        ([failed("illegal_address", at="step 9")], "illegal_address", Next.REQUEUE),  # it may be this node's GPU
        ([failed("illegal_address", at="step 9", node="node2")], "illegal_address", Next.FAIL),
        ([failed("device_side_assert", at="step 9")], "device_side_assert", Next.FAIL),
    ],
)
def test_a_step_that_fails_twice_is_the_runs_own_fault(past: list[Past], cause: str, expected: Next) -> None:
    assert now(past, cause, at="step 9").next is expected


def test_the_step_and_the_nodes_are_named() -> None:
    elsewhere = now([failed(at="step 9", node="node2")], at="step 9").why
    here = now([failed(at="the validation after step 40")], at="the validation after step 40").why

    assert "step 9 has failed twice, on node2 and on node1" in elsewhere
    assert "the validation after step 40 has failed twice, on node1" in here


def test_what_ended_the_run_is_told_apart_from_its_cause() -> None:
    twice = now([failed("crash", at="step 9", node="node2")], "crash", at="step 9")

    assert (twice.cause, twice.history) == ("crash", twice.why.partition("; ")[2])
    assert now([], "crash", at="step 9").history == ""


def test_what_failed_before_it_trained_has_no_step() -> None:
    assert now([failed(), failed()]).next is Next.RESTART


def test_without_another_node_the_same_step_twice_is_enough() -> None:
    twice = [failed("illegal_address", at="step 9")]

    assert now(twice, "illegal_address", at="step 9", can_move=False).next is Next.FAIL


@pytest.mark.parametrize(
    ("past", "cause", "expected"),
    [
        ([failed(at="step 3")], "", Next.RESTART),
        ([failed(at="step 3"), failed(at="step 5")], "", Next.REQUEUE),
        ([failed(at="step 3"), failed(at="step 5", node="node2")], "", Next.RESTART),
        ([failed(at="step 3"), failed()], "", Next.RESTART),
        ([failed("cudnn_or_cublas", at="step 3")], "cudnn_or_cublas", Next.REQUEUE),
        ([failed("killed", at="step 3"), failed("killed", at="step 5")], "killed", Next.RESTART),
    ],
)
def test_different_steps_on_one_node_are_the_nodes_fault(past: list[Past], cause: str, expected: Next) -> None:
    """Each came further than the one before, so no budget is used up."""
    onward = [replace(it, step=index) for index, it in enumerate(past)]

    assert now(onward, cause, at="step 9", step=8).next is expected


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([failed(step=1), failed(step=2)], Next.FAIL),
        ([failed(step=1, has_saved=True), failed(step=2)], Next.RESTART),
        ([failed(step=1), Past(outcome="timeout", next="requeue", step=2)], Next.FAIL),
        ([failed(step=1), Past(outcome="preemption", next="requeue", step=2)], Next.RESTART),
        ([failed(step=1), Past(outcome="preemption"), failed(step=2)], Next.FAIL),  # which does not forgive either
        ([failed(step=1), failed(step=2, next="fail")], Next.RESTART),
    ],
)
def test_attempts_in_a_row_without_a_new_snapshot_end_a_run(past: list[Past], expected: Next) -> None:
    decision = now(past, retry=RetryConfig(max_unsaved=2), step=9)

    assert decision.next is expected
    assert ("3 attempts in a row have ended without a new snapshot" in decision.why) is (expected is Next.FAIL)


def test_one_that_has_saved_is_none_of_them() -> None:
    past = [failed(step=1), failed(step=2)]

    assert now(past, retry=RetryConfig(max_unsaved=2), step=9, has_saved=True).next is Next.RESTART
    assert now(past * 50, retry=RetryConfig(max_unsaved=-1), step=9).next is Next.RESTART


def test_a_time_limit_too_short_for_a_snapshot_ends_a_run_too() -> None:
    past, retry = [Past(outcome="timeout", next="requeue")] * 2, RetryConfig(max_unsaved=2)

    killed = now(past, retry=retry, code=-9, asked=StopReason.TIMEOUT, is_overdue=True)
    stopped = now(past, retry=retry, code=75, asked=StopReason.TIMEOUT)

    assert (killed.next, stopped.next) == (Next.FAIL, Next.REQUEUE)


@pytest.mark.parametrize(("before", "expected"), [(0, Next.REQUEUE), (1, Next.FAIL)])
def test_a_supervisor_killed_for_memory_has_that_cause(before: int, expected: Next) -> None:
    known = recognise(Symptoms(state="OUT_OF_MEMORY"), known_rules())
    silence = Silence(reason=StopReason.FAILURE, why="the supervisor was killed: out of memory", found=known)

    decision = after_silence([failed("host_out_of_memory")] * before, silence, RetryConfig())

    assert (decision.next, decision.cause) == (expected, "host_out_of_memory")
