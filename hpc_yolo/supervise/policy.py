"""Owns the decision after an attempt: done, restart in place, requeue, stop or fail. Pure: no clock, no files."""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from hpc_yolo.config import RetryConfig
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
    FAIL = "fail"


_SETTLED = (Next.DONE, Next.STOP, Next.FAIL)


@dataclass(kw_only=True, frozen=True, slots=True)
class Past:
    """One earlier attempt, as far as it bears on what comes next."""

    outcome: str = ""
    """As in its last ATTEMPT_ENDED; empty where its supervisor died before it could tell."""
    next: str = ""
    step: int = 0
    """The last optimizer step that it did."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Ending:
    """How a worker ended."""

    exit_code: int
    """As subprocess has it: negative for a signal."""
    step: int = 0
    """The last optimizer step that it did."""
    asked: StopReason | None = None
    """Why it was asked to stop, if it was."""
    is_overdue: bool = False
    """It did not stop in the grace period, and was killed for that."""
    grace_s: float = 0.0
    """How long that was (seconds)."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Silence:
    """What is known of the end of an attempt whose supervisor could not tell it."""

    reason: StopReason
    why: str
    step: int = 0
    """The last optimizer step that it did."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Decision:
    """What comes next. `exit_code` is what the supervisor leaves with, if it leaves."""

    next: Next
    outcome: str
    exit_code: int
    why: str
    delay_s: float = 0.0


def decide(past: Sequence[Past], ending: Ending, retry: RetryConfig) -> Decision:
    """What follows an attempt that ended like this, after those before it, oldest first."""
    if ending.exit_code == ExitCode.DONE:
        return Decision(next=Next.DONE, outcome=DONE, exit_code=ExitCode.DONE, why="the run is complete")
    if ending.exit_code in FINAL_EXIT_CODES:
        return _failed(ending, f"{told(ending.exit_code)}: it would again, until that is mended")
    if _has_stopped(ending):
        return _after_stop(past, ending, retry)
    return _after_failure(past, ending, retry)


def after_silence(past: Sequence[Past], silence: Silence, retry: RetryConfig) -> Decision:
    """What follows an attempt whose supervisor ended without a word; `past` are those before it, `step` where it came to."""
    lost = 1 + sum(it.outcome == silence.reason.value for it in _since_progress(past, silence.step))
    if silence.reason is StopReason.NODE_FAILURE and lost > _MOST_LOST_NODES:
        why = f"{silence.why}; {lost} in a row without a step of progress: it may be the run that takes its nodes down"
        return Decision(next=Next.FAIL, outcome=StopReason.NODE_FAILURE.value, exit_code=ExitCode.BUG, why=why)
    if silence.reason is not StopReason.FAILURE:
        why = f"{silence.why}, so the run goes on from its last snapshot"
        return Decision(next=Next.REQUEUE, outcome=silence.reason.value, exit_code=ExitCode.STOPPED, why=why)
    failures = 1 + _failures(past, silence.step)
    if failures > retry.max_restarts:
        why = f"{silence.why}; failure {failures} in a row (retry.max_restarts={retry.max_restarts})"
        return Decision(next=Next.FAIL, outcome=StopReason.FAILURE.value, exit_code=ExitCode.BUG, why=why)
    why = f"{silence.why}; restart {failures} of {retry.max_restarts}"
    return Decision(next=Next.REQUEUE, outcome=StopReason.FAILURE.value, exit_code=ExitCode.BUG, why=why)


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


def _has_stopped(ending: Ending) -> bool:
    """Whether it stopped as asked. In the grace period a death by a signal is the scheduler's doing, not the run's."""
    was_killed_when_asked = ending.asked is not None and ending.exit_code < 0
    return ending.exit_code == ExitCode.STOPPED or was_killed_when_asked


def _after_stop(past: Sequence[Past], ending: Ending, retry: RetryConfig) -> Decision:
    outcome = ending.asked or StopReason.PREEMPTION  # unasked: somebody warned the worker alone
    how = _how_it_stopped(ending)
    if outcome is StopReason.CANCELLATION:
        return _stopped(f"stopped on request; {how}")
    if spent := _spent_budget(past, outcome, retry):
        return Decision(next=Next.FAIL, outcome=outcome.value, exit_code=ExitCode.STOPPED, why=f"{spent}; {how}")
    if ending.asked is not None:
        why = f"{outcome.value.replace('_', ' ')}; {how}"
        return Decision(next=Next.REQUEUE, outcome=outcome.value, exit_code=ExitCode.STOPPED, why=why)
    return Decision(
        next=Next.RESTART,
        outcome=outcome.value,
        exit_code=ExitCode.STOPPED,
        why=f"the worker alone was warned; {how}",
        delay_s=_delay_s(len(_since_progress(past, ending.step))),
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
    count = 1 + sum(attempt.outcome == outcome.value for attempt in _since_a_person_acted(past))
    return f"{happened} {count} times (retry.{name}={budget})" if 0 <= budget < count else ""


def _after_failure(past: Sequence[Past], ending: Ending, retry: RetryConfig) -> Decision:
    how = told(ending.exit_code)
    if ending.asked is StopReason.CANCELLATION:
        return _failed(ending, f"{how} when it was asked to stop")
    failures = 1 + _failures(past, ending.step)
    if failures > retry.max_restarts:
        return _failed(ending, f"{how}; failure {failures} in a row (retry.max_restarts={retry.max_restarts})")
    return Decision(
        next=Next.RESTART if ending.asked is None else Next.REQUEUE,
        outcome=StopReason.FAILURE.value,
        exit_code=failure_code(ending.exit_code),
        why=f"{how}; restart {failures} of {retry.max_restarts}",
        delay_s=_delay_s(failures),
    )


def _failures(past: Sequence[Past], step: int) -> int:
    """Earlier failures that count together with one at `step`."""
    return sum(attempt.outcome == StopReason.FAILURE.value for attempt in _since_progress(past, step))


def _since_a_person_acted(past: Sequence[Past]) -> Sequence[Past]:
    """Attempts after the last one without a sequel: whoever started the run again since gave it full budgets."""
    settled = {then.value for then in _SETTLED}
    return past[max((i + 1 for i, attempt in enumerate(past) if attempt.next in settled), default=0) :]


def _since_progress(past: Sequence[Past], step: int) -> Sequence[Past]:
    """The earlier attempts that count together with one that came to `step`; none if that one got further than all.

    They begin with the last one that got further than all before it: an attempt that does lost steps again and dies
    where the last one died has moved nothing.
    """
    furthest, start = 0, 0
    for index, attempt in enumerate(past):
        if attempt.step > furthest:
            furthest, start = attempt.step, index
    recent = _since_a_person_acted(past)
    return () if step > furthest else recent[max(0, start - (len(past) - len(recent))) :]


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
