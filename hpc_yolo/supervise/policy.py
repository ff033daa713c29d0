"""Owns the decision after an attempt: done, restart in place, requeue, stop, hold or fail. Pure: no clock, no files."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from itertools import takewhile

from hpc_yolo.causes import Fault, Found, Remedy, Symptoms, known_rules, recognise
from hpc_yolo.config import RetryConfig
from hpc_yolo.supervise.blame import node_fault, own_fault, remedy_of, unsaved
from hpc_yolo.supervise.endings import Ending, Past, Silence, since_a_person_acted, since_progress
from hpc_yolo.types import FINAL_EXIT_CODES, ExitCode, StopReason

#: `outcome` of an attempt that completed the run; the others are StopReasons.
DONE = "done"
_MAX_DELAY_S = 60.0
_MOST_LOST_NODES = 10
_FAILURE_CODES = frozenset({*FINAL_EXIT_CODES, ExitCode.BUG, ExitCode.STORAGE})


class Next(str, Enum):
    """What follows an attempt; the values stand in the ledger."""

    DONE = "done"
    RESTART = "restart"  # in place: same allocation, new attempt
    REQUEUE = "requeue"  # the scheduler starts it again, wherever it likes
    STOP = "stop"  # somebody wanted it to stop
    HOLD = "hold"  # a person must make room first; then it goes on
    FAIL = "fail"


_SETTLED_BY = {Remedy.HOLD: Next.HOLD, Remedy.FAIL: Next.FAIL}


@dataclass(kw_only=True, frozen=True, slots=True)
class Decision:
    """What comes next. `exit_code` is what the supervisor leaves with, if it leaves."""

    next: Next
    outcome: str
    exit_code: int
    why: str
    delay_s: float = 0.0
    cause: str = ""
    """Of a failure that was recognised, by its rule's name."""
    by: str = ""
    """What it was recognised by."""
    history: str = ""
    """What the earlier attempts say of it, where that has ended the run."""
    is_node_sick: bool = False
    """Its node is to blame, as far as is known: other runs had better stay off it."""


def decide(past: Sequence[Past], ending: Ending, retry: RetryConfig) -> Decision:
    """What follows an attempt that ended like this, after those before it, oldest first."""
    decision = _decide(past, ending, retry)
    return with_cause(decision, ending.found) if decision.outcome == StopReason.FAILURE.value else decision


def after_silence(past: Sequence[Past], silence: Silence, retry: RetryConfig) -> Decision:
    """What follows an attempt whose supervisor ended without a word; `past` are those before it, `step` where it came to."""
    return with_cause(_after_silence(past, silence, retry), silence.found)


def with_cause(decision: Decision, found: Found | None) -> Decision:
    """The same decision, with what was recognised as the cause."""
    return decision if found is None else replace(decision, cause=found.rule.cause, by=found.by)


def superseded() -> Decision:
    """What follows for an attempt that is not the newest any more: nothing."""
    why = "a newer attempt has taken the run over: the scheduler had given this node up"
    return Decision(next=Next.REQUEUE, outcome=StopReason.NODE_FAILURE.value, exit_code=ExitCode.BUSY, why=why)


def leave_between(asked: StopReason) -> Decision:
    """What follows a stop request that came while no worker was running."""
    if asked is StopReason.CANCELLATION:
        return _stopped("stopped on request between two attempts")
    why = f"{asked.value.replace('_', ' ')} between two attempts"
    return Decision(next=Next.REQUEUE, outcome=asked.value, exit_code=ExitCode.STOPPED, why=why)


def leave_sick_node(past: Sequence[Past], why: str, retry: RetryConfig) -> Decision | None:
    """What follows on a node that the run is to stay off; None where it has left such nodes too often, and trains here."""
    found = recognise(Symptoms(state="SICK_NODE"), known_rules())
    assert found is not None
    moves = list(takewhile(lambda it: it.has_moved, reversed(since_a_person_acted(past))))
    if len(moves) >= retry.max_moves:
        return None
    told = f"{why}; move {len(moves) + 1} of {retry.max_moves}"
    outcome = StopReason.NODE_FAILURE.value
    return with_cause(Decision(next=Next.REQUEUE, outcome=outcome, exit_code=ExitCode.STOPPED, why=told), found)


def told(exit_code: int) -> str:
    """The end of a worker in words."""
    if exit_code >= 0:
        return f"the worker left with exit code {exit_code}"
    try:
        return f"the worker was killed by {signal.Signals(-exit_code).name}"
    except ValueError:  # a real-time signal has no name
        return f"the worker was killed by signal {-exit_code}"


def failure_code(exit_code: int) -> int:
    """The exit code of a run that failed for good: its worker's where that tells what to do, else 70.

    Death by a signal, and codes that mean something else to whoever waits (1: not equal, 144: submitit's requeue),
    become 70. A failed run never leaves with 0.
    """
    return int(exit_code if exit_code in _FAILURE_CODES else ExitCode.BUG)


def _decide(past: Sequence[Past], ending: Ending, retry: RetryConfig) -> Decision:
    if ending.exit_code == ExitCode.DONE:
        return Decision(next=Next.DONE, outcome=DONE, exit_code=ExitCode.DONE, why="the run is complete")
    if ending.exit_code in FINAL_EXIT_CODES:
        return _failed(ending, f"{told(ending.exit_code)}: it would again, until that is mended")
    if _has_stopped(ending):
        return _after_stop(past, ending, retry)
    return _after_failure(past, ending, retry)


def _after_silence(past: Sequence[Past], silence: Silence, retry: RetryConfig) -> Decision:
    lost = 1 + sum(it.outcome == silence.reason.value and not it.has_moved for it in since_progress(past, silence.step))
    if silence.reason is StopReason.NODE_FAILURE and lost > _MOST_LOST_NODES:
        why = f"{silence.why}; {lost} in a row without a step of progress: it may be the run that takes its nodes down"
        return Decision(next=Next.FAIL, outcome=StopReason.NODE_FAILURE.value, exit_code=ExitCode.BUG, why=why)
    if silence.reason is not StopReason.FAILURE:
        why = f"{silence.why}, so the run goes on from its last snapshot"
        return Decision(next=Next.REQUEUE, outcome=silence.reason.value, exit_code=ExitCode.STOPPED, why=why)
    failures = 1 + _failures(past, silence.step)
    gone = Decision(next=Next.FAIL, outcome=StopReason.FAILURE.value, exit_code=ExitCode.BUG, why=silence.why)
    if failures > retry.max_restarts:
        why = f"{silence.why}; failure {failures} in a row (retry.max_restarts={retry.max_restarts})"
        return replace(gone, why=why)
    remedy = remedy_of(past, silence.found, silence.step)
    if remedy in (Remedy.FAIL, Remedy.HOLD) and silence.found is not None:
        return replace(gone, next=_SETTLED_BY[remedy], why=f"{silence.why}; {silence.found.rule.why}")
    return replace(gone, next=Next.REQUEUE, why=f"{silence.why}; restart {failures} of {retry.max_restarts}")


def _has_stopped(ending: Ending) -> bool:
    """Whether it stopped as asked. In the grace period a death by a signal is the scheduler's doing, not the run's."""
    was_killed_when_asked = ending.asked is not None and ending.exit_code < 0
    return ending.exit_code == ExitCode.STOPPED or was_killed_when_asked


def _after_stop(past: Sequence[Past], ending: Ending, retry: RetryConfig) -> Decision:
    outcome = ending.asked or StopReason.PREEMPTION  # unasked: somebody warned the worker alone
    how = _how_it_stopped(ending)
    if outcome is StopReason.CANCELLATION:
        return _stopped(f"stopped on request; {how}")
    spent = _spent_budget(past, outcome, retry)
    if outcome is StopReason.TIMEOUT and ending.exit_code != ExitCode.STOPPED:
        spent = spent or _too_long_unsaved(past, ending, retry)
    if spent:
        return Decision(next=Next.FAIL, outcome=outcome.value, exit_code=ExitCode.STOPPED, why=f"{spent}; {how}")
    if ending.asked is not None:
        why = f"{outcome.value.replace('_', ' ')}; {how}"
        return Decision(next=Next.REQUEUE, outcome=outcome.value, exit_code=ExitCode.STOPPED, why=why)
    return Decision(
        next=Next.RESTART,
        outcome=outcome.value,
        exit_code=ExitCode.STOPPED,
        why=f"the worker alone was warned; {how}",
        delay_s=_delay_s(len(since_progress(past, ending.step))),
    )


def _spent_budget(past: Sequence[Past], outcome: StopReason, retry: RetryConfig) -> str:
    """Which budget one more stop for this reason exceeds, in words; empty where none."""
    budgets = {
        StopReason.PREEMPTION: ("preempted", "max_preemptions", retry.max_preemptions),
        StopReason.TIMEOUT: ("ended by the time limit", "max_timeouts", retry.max_timeouts),
    }
    if outcome not in budgets:
        return ""
    happened, name, budget = budgets[outcome]
    count = 1 + sum(attempt.outcome == outcome.value for attempt in since_a_person_acted(past))
    return f"{happened} {count} times (retry.{name}={budget})" if 0 <= budget < count else ""


def _after_failure(past: Sequence[Past], ending: Ending, retry: RetryConfig) -> Decision:
    how = told(ending.exit_code)
    if ending.asked is StopReason.CANCELLATION:
        return _failed(ending, f"{how} when it was asked to stop")
    hopeless = ending.asked is None and (own_fault(past, ending) or _too_long_unsaved(past, ending, retry))
    if hopeless:
        return replace(_failed(ending, f"{how}; {hopeless}"), history=hopeless)
    failures = 1 + _failures(past, ending.step)
    remedy, why = _remedy(past, ending) if ending.asked is None else (Remedy.RESTART, "")
    if remedy in _SETTLED_BY:
        return replace(_failed(ending, f"{how}; {why}"), next=_SETTLED_BY[remedy])
    if failures > retry.max_restarts:
        spent = f"{how}; failure {failures} in a row (retry.max_restarts={retry.max_restarts})"
        return replace(_failed(ending, spent), next=_SETTLED_BY.get(_decision_of(ending.found), Next.FAIL))
    if remedy is Remedy.ELSEWHERE and ending.can_move:
        is_sick = ending.found is None or ending.found.rule.fault is Fault.NODE
        why = f"{how}; {why}; restart {failures} of {retry.max_restarts}, elsewhere"
        return replace(_again(ending, Next.REQUEUE, failures, why), is_node_sick=is_sick)
    then = Next.RESTART if ending.asked is None else Next.REQUEUE
    return _again(ending, then, failures, f"{how}; restart {failures} of {retry.max_restarts}")


def _remedy(past: Sequence[Past], ending: Ending) -> tuple[Remedy, str]:
    """What the rule of its cause asks for, or what the history says of the node; and why."""
    remedy = remedy_of(past, ending.found, ending.step)
    if remedy is not Remedy.RESTART and ending.found is not None:
        return remedy, ending.found.rule.why
    sick = node_fault(past, ending)
    return (Remedy.ELSEWHERE, sick) if sick else (Remedy.RESTART, "")


def _decision_of(found: Found | None) -> Remedy:
    return Remedy.RESTART if found is None else found.rule.decision


def _again(ending: Ending, then: Next, failures: int, why: str) -> Decision:
    code = failure_code(ending.exit_code)
    delay_s = _delay_s(failures)
    return Decision(next=then, outcome=StopReason.FAILURE.value, exit_code=code, why=why, delay_s=delay_s)


def _too_long_unsaved(past: Sequence[Past], ending: Ending, retry: RetryConfig) -> str:
    """In words; empty where it is not so."""
    count = unsaved(past, has_saved=ending.has_saved)
    if not 0 <= retry.max_unsaved < count:
        return ""
    return f"{count} attempts in a row have ended without a new snapshot (retry.max_unsaved={retry.max_unsaved})"


def _failures(past: Sequence[Past], step: int) -> int:
    """Earlier failures that count together with one at `step`."""
    return sum(attempt.outcome == StopReason.FAILURE.value for attempt in since_progress(past, step))


def _how_it_stopped(ending: Ending) -> str:
    if ending.exit_code == ExitCode.STOPPED:
        return "its state is saved"
    how = f"it did not stop within {ending.grace_s:.0f} s" if ending.is_overdue else told(ending.exit_code)
    return f"{how}, so it goes on from its last snapshot"


def _stopped(why: str) -> Decision:
    return Decision(next=Next.STOP, outcome=StopReason.CANCELLATION.value, exit_code=ExitCode.STOPPED, why=why)


def _failed(ending: Ending, why: str) -> Decision:
    code = failure_code(ending.exit_code)
    return Decision(next=Next.FAIL, outcome=StopReason.FAILURE.value, exit_code=code, why=why)


def _delay_s(count: int) -> float:
    """0, 1, 2, 4 ... seconds: long enough for a full disk or a busy file server to be seen to, at most a minute."""
    return min(2.0 ** (count - 1), _MAX_DELAY_S) if count else 0.0
