"""Owns where a run stands by its ledger and heartbeats alone, whatever a scheduler says of its job. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from hpc_yolo.events import Event, Kind
from hpc_yolo.heartbeat import Beat
from hpc_yolo.report.history import AttemptHistory, RunHistory
from hpc_yolo.report.job_state import Verdict
from hpc_yolo.types import RunState, StopReason

_UNDECIDED = "the worker has left; its supervisor decides what comes next"


@dataclass(frozen=True, slots=True)
class Position:
    """How far a run has come. `beat` is that of the attempt that came there."""

    step: int = 0
    epoch: int = 0  # counted from 1
    beat: Beat | None = None


def state_by_ledger(history: RunHistory) -> Verdict:
    """The state, and the reason where there is one to tell."""
    attempts = history.attempts
    if not attempts:
        return Verdict(RunState.PENDING, None)
    if any(map(_is_done, attempts)):
        return Verdict(RunState.DONE, None)
    newest = attempts[-1]
    ended = newest.last(Kind.ATTEMPT_ENDED)
    if ended is not None:
        return _state_after(newest, ended)
    leaving = newest.last(Kind.STOP_REQUESTED, Kind.STOPPED, Kind.FAILED)
    if newest.is_alive:
        return Verdict(RunState.STOPPING if leaving else RunState.RUNNING, None)
    if newest.is_supervised:
        return Verdict(RunState.STOPPING, _UNDECIDED)
    return _state_of_dead(history, newest)


def position_of(attempts: tuple[AttemptHistory, ...]) -> Position:
    """Where the newest attempt stands that got as far as to train; a heartbeat from before it resumed says nothing."""
    for attempt in reversed(attempts):
        resumed = attempt.first(Kind.RESUMED)
        if resumed is None:
            continue
        epoch = int(resumed.fields.get("epoch") or 0)
        if attempt.beat is not None and attempt.beat.step >= resumed.step:
            epoch = max(epoch, attempt.beat.epoch)
        return Position(last_step(attempt), epoch + 1, attempt.beat)
    return Position()


def last_step(attempt: AttemptHistory) -> int:
    """The last optimizer step that the attempt did, or resumed from; by its heartbeat, which survives any kill."""
    return max(attempt.events.last_step, attempt.beat.step if attempt.beat else 0)


def _state_after(attempt: AttemptHistory, ended: Event) -> Verdict:
    why = str(ended.fields["why"]) if ended.fields.get("why") else None
    then = ended.fields.get("next")
    if ended.fields.get("outcome") == StopReason.CANCELLATION.value or then == "stop":
        return Verdict(RunState.CANCELLED, why)
    if then in ("restart", "requeue"):
        return Verdict(RunState.REQUEUED, with_cause(ended, why))
    error, history = _error(attempt), ended.fields.get("history")
    if error is not None and history:  # of which the worker knew nothing
        return Verdict(RunState.FAILED, with_cause(ended, f"{error.rstrip('.')}; {history}"))
    return Verdict(RunState.FAILED, with_cause(ended, error or why))


def with_cause(ended: Event | None, text: str | None) -> str | None:
    """The text, with the cause before it where one was recognised."""
    cause = ended.fields.get("cause") if ended else None
    return f"{cause}: {text or 'no more is known'}" if cause else text


def _state_of_dead(history: RunHistory, attempt: AttemptHistory) -> Verdict:
    last = attempt.last(Kind.STOPPED, Kind.FAILED)
    if last is None:
        at = position_of(history.attempts).step
        onward = f"`hpc-yolo run {history.path}` goes on from step {_committed_step(history.attempts)}"
        return Verdict(RunState.FAILED, f"the worker vanished at step {at}; {onward}", is_told=False)
    if last.kind is Kind.STOPPED:
        return Verdict(RunState.REQUEUED, None, is_told=False)
    return Verdict(RunState.FAILED, _error(attempt))


def _is_done(attempt: AttemptHistory) -> bool:
    ended = attempt.last(Kind.ATTEMPT_ENDED)
    return attempt.last(Kind.FINISHED) is not None or (ended is not None and ended.fields.get("next") == "done")


def _error(attempt: AttemptHistory) -> str | None:
    failed = attempt.last(Kind.FAILED)
    return str(failed.fields.get("error")) if failed else None


def _committed_step(attempts: tuple[AttemptHistory, ...]) -> int:
    return max((e.step for a in attempts for e in a.events if e.kind is Kind.SNAPSHOT_COMMITTED), default=0)
