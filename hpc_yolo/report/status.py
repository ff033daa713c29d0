"""Owns what is said of a run: its history judged, without any reading. Pure; history.py reads, tables.py shows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpc_yolo.events import Event, Kind
from hpc_yolo.heartbeat import Beat
from hpc_yolo.report.history import AttemptHistory, RunHistory
from hpc_yolo.report.job_state import Verdict, judge
from hpc_yolo.types import RunState, StopReason

#: States that nothing changes any more unless a person acts.
SETTLED = frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED})

_UNDECIDED = "the worker has left; its supervisor decides what comes next"
#: What a run is told by, best first; of several, the first whose name contains it.
_HEADLINES = ("mAP50-95", "accuracy_top1", "mIoU", "fitness")


@dataclass(kw_only=True, frozen=True, slots=True)
class RunStatus:
    """One row of `status`. `epoch` is the one being trained, counted from 1; 0 before the first."""

    id: str
    dir: str
    name: str
    state: RunState
    epoch: int
    epochs: int | None
    step: int
    steps_total: int | None
    attempts: int
    preemptions: int
    interruptions: dict[str, int]
    """How many attempts ended for each of the five reasons."""
    steps_redone: int
    metric: float | None
    metric_name: str | None
    metrics: dict[str, float]
    worker_pid: int | None
    node: str | None
    job_id: str | None
    job_state: str | None
    """As Slurm calls it."""
    starts_at: float | None
    """When Slurm expects a waiting job to start, or started it (seconds since the epoch)."""
    exit_code: int | None
    """Of a job that is over."""
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "state": self.state.value}


@dataclass(frozen=True, slots=True)
class _Position:
    step: int = 0
    epoch: int = 0  # counted from 1
    beat: Beat | None = None


def status_of(history: RunHistory) -> RunStatus:
    """Judge a run by its events and heartbeats."""
    newest = history.attempts[-1] if history.attempts else None
    verdict = _verdict(history)
    position = _position(history.attempts)
    epochs = history.epochs or (position.beat.epochs if position.beat else None)
    metrics = newest_metrics(history.attempts)
    metric_name = headline(metrics)
    return RunStatus(
        id=history.id,
        dir=str(history.path),
        name=history.name,
        state=verdict.state,
        epoch=min(position.epoch, epochs) if epochs else position.epoch,
        epochs=epochs,
        step=position.step,
        steps_total=next(
            (a.beat.steps_total for a in reversed(history.attempts) if a.beat and a.beat.steps_total), None
        ),
        attempts=len(history.attempts),
        preemptions=sum(was_preempted(attempt) for attempt in history.attempts),
        interruptions=interruptions(history.attempts),
        steps_redone=steps_redone(history.attempts),
        metric=metrics[metric_name] if metric_name else None,
        metric_name=metric_name,
        metrics=metrics,
        worker_pid=_worker_pid(newest),
        node=_node(newest),
        job_id=history.job.submission.job if history.job else _job_id(newest),
        job_state=history.job.entry.state if history.job and history.job.entry else None,
        starts_at=history.job.entry.starts_at if history.job and history.job.entry else None,
        exit_code=verdict.exit_code,
        reason="; ".join(
            filter(
                None,
                [
                    history.trouble,
                    verdict.reason,
                    _storage_trouble(newest),
                    _slow_save(history.attempts),
                    _inexact(history.attempts),
                ],
            )
        )
        or None,
    )


def was_preempted(attempt: AttemptHistory) -> bool:
    """Whether it ended because it was asked to, for a reason that is not the run's own and not the user's."""
    ended = attempt.last(Kind.ATTEMPT_ENDED)
    if ended is not None:
        return bool(ended.fields.get("outcome") == StopReason.PREEMPTION.value)
    last = attempt.last(Kind.STOPPED, Kind.FINISHED)
    return last is not None and last.kind is Kind.STOPPED


def interruptions(attempts: Sequence[AttemptHistory]) -> dict[str, int]:
    """By reason, of those attempts that were ended by one; a lone worker's stop counts as a preemption."""
    found: dict[str, int] = {}
    for attempt in attempts:
        ended = attempt.last(Kind.ATTEMPT_ENDED)
        outcome = str(ended.fields.get("outcome")) if ended else StopReason.PREEMPTION.value * was_preempted(attempt)
        if outcome in [reason.value for reason in StopReason]:
            found[outcome] = found.get(outcome, 0) + 1
    return found


def steps_redone(attempts: tuple[AttemptHistory, ...]) -> int:
    """Steps that had been done and were lost, over all attempts that came as far as to resume."""
    redone, done = 0, 0
    for attempt in attempts:
        resumed = attempt.first(Kind.RESUMED)
        if resumed is None:
            continue
        redone += max(0, done - _step(resumed))
        done = last_step(attempt)
    return redone


def last_step(attempt: AttemptHistory) -> int:
    """The last optimizer step that the attempt did, or resumed from; by its heartbeat, which survives any kill."""
    told = [_step(event) for event in attempt.events if event.kind is not Kind.INEXACT]
    return max([*told, attempt.beat.step if attempt.beat else 0])


def headline(metrics: dict[str, float]) -> str | None:
    """The name of the metric that a run is told by."""
    return next((name for wanted in _HEADLINES for name in metrics if wanted in name), next(iter(metrics), None))


def newest_metrics(attempts: Sequence[AttemptHistory]) -> dict[str, float]:
    """Those of the last validation, of whichever attempt; fitness among them."""
    for attempt in reversed(attempts):
        event = next((e for e in reversed(attempt.events) if e.fields.get("metrics")), None)
        if event is not None:
            fitness = event.fields.get("fitness")
            return {**event.fields["metrics"], **({"fitness": fitness} if fitness is not None else {})}
    return {}


def short_name(metric: str) -> str:
    """`metrics/mAP50-95(B)` is `mAP50-95` to a reader."""
    return metric.rpartition("/")[2].removesuffix("(B)")


def _verdict(history: RunHistory) -> Verdict:
    """By the ledger, and where the run was submitted to Slurm by what Slurm says of its job."""
    ledger = _state(history)
    if history.refusal is not None and ledger.state is not RunState.DONE and not _is_busy(history):
        return replace(ledger, reason=f"not submitted: {history.refusal}")
    if history.job is None:
        return ledger
    newest = history.attempts[-1] if history.attempts else None
    started = newest.first(Kind.ATTEMPT_STARTED) if newest else None
    is_later = started is not None and started.time >= history.job.submission.time
    return judge(
        ledger,
        history.job,
        is_local=is_later and started is not None and started.fields.get("job_id") is None,
        has_begun=any(_told(attempt, "job_id") == history.job.submission.job for attempt in history.attempts),
        path=str(history.path),
    )


def _is_busy(history: RunHistory) -> bool:
    return bool(history.attempts) and history.attempts[-1].is_alive


def _storage_trouble(newest: AttemptHistory | None) -> str | None:
    """Told by the heartbeat, which is rewritten in place: a full disk takes no event."""
    if newest is None or not newest.is_alive or newest.beat is None or newest.beat.trouble is None:
        return None
    since = time.strftime("%a %H:%M:%S", time.localtime(newest.beat.trouble_since))
    return f"nothing could be saved since {since}: {newest.beat.trouble}"


def _slow_save(attempts: Sequence[AttemptHistory]) -> str | None:
    """A warning that comes later than a save takes is none."""
    for attempt in attempts[-1:]:
        delay = float(_told(attempt, "signal_delay_s") or 0)
        saves = [float(e.fields.get("seconds") or 0) for e in attempt.events if e.kind is Kind.SNAPSHOT_COMMITTED]
        slowest = max(saves, default=0.0)
        if 0 < delay <= slowest:
            return (
                f"a save took {slowest:.1f} s, but Slurm warns only {delay:g} s before the time limit: "
                f"set cluster.signal_delay_s={math.ceil(4 * slowest)} or more"
            )
    return None


def _state(history: RunHistory) -> Verdict:
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


def _state_after(attempt: AttemptHistory, ended: Event) -> Verdict:
    why = str(ended.fields["why"]) if ended.fields.get("why") else None
    then = ended.fields.get("next")
    if ended.fields.get("outcome") == StopReason.CANCELLATION.value or then == "stop":
        return Verdict(RunState.CANCELLED, why)
    if then in ("restart", "requeue"):
        return Verdict(RunState.REQUEUED, why)
    return Verdict(RunState.FAILED, _error(attempt) or why)


def _state_of_dead(history: RunHistory, attempt: AttemptHistory) -> Verdict:
    last = attempt.last(Kind.STOPPED, Kind.FAILED)
    if last is None:
        at = _position(history.attempts).step
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


def _position(attempts: tuple[AttemptHistory, ...]) -> _Position:
    """Where the newest attempt stands that got as far as to train; a heartbeat from before it resumed says nothing."""
    for attempt in reversed(attempts):
        resumed = attempt.first(Kind.RESUMED)
        if resumed is None:
            continue
        epoch = int(resumed.fields.get("epoch") or 0)
        if attempt.beat is not None and attempt.beat.step >= _step(resumed):
            epoch = max(epoch, attempt.beat.epoch)
        return _Position(last_step(attempt), epoch + 1, attempt.beat)
    return _Position()


def _committed_step(attempts: tuple[AttemptHistory, ...]) -> int:
    return max((_step(e) for a in attempts for e in a.events if e.kind is Kind.SNAPSHOT_COMMITTED), default=0)


def _worker_pid(newest: AttemptHistory | None) -> int | None:
    """Before the worker's own first heartbeat, the heartbeat speaks for whoever claimed the attempt: not a worker's."""
    if newest is None or newest.beat is None or not newest.is_alive:
        return None
    workers = {event.fields.get("pid") for event in newest.events if event.kind is Kind.WORKER_STARTED}
    return newest.beat.pid if newest.beat.pid in workers else None


def _node(newest: AttemptHistory | None) -> str | None:
    if newest is None:
        return None
    return (newest.beat.host if newest.beat else None) or _told(newest, "host")


def _job_id(newest: AttemptHistory | None) -> str | None:
    return _told(newest, "job_id") if newest else None


def _told(attempt: AttemptHistory, field: str) -> str | None:
    values = (e.fields.get(field) for e in attempt.events if e.kind in (Kind.ATTEMPT_STARTED, Kind.WORKER_STARTED))
    return next((str(value) for value in values if value), None)


def _inexact(attempts: tuple[AttemptHistory, ...]) -> str | None:
    for attempt in attempts:
        event = attempt.first(Kind.INEXACT)
        if event is not None:
            differences = ", ".join(map(str, event.fields.get("differences") or ()))
            return f"not exact from step {event.fields.get('from_step')} on ({differences})"
    return None


def _step(event: Event) -> int:
    return int(event.fields.get("step") or 0)
