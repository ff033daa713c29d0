"""Owns what is said of a run: its history judged, without any reading. Pure; history.py reads, tables.py shows."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from hpc_yolo.events import Kind
from hpc_yolo.report.goodput import goodput_in_brief
from hpc_yolo.report.history import AttemptHistory, RunHistory
from hpc_yolo.report.job_state import Verdict, judge
from hpc_yolo.report.ledger_state import last_step, position_of, state_by_ledger
from hpc_yolo.report.metrics import headline, newest_metrics
from hpc_yolo.report.pace import time_left_s
from hpc_yolo.rundir import RunDir, sweep_of
from hpc_yolo.types import RunState, StopReason

_REASONS = frozenset(reason.value for reason in StopReason)
#: States that nothing changes any more unless a person acts.
SETTLED = frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED})


@dataclass(kw_only=True, frozen=True, slots=True)
class RunStatus:
    """One row of `status`. `epoch` is the one being trained, counted from 1; 0 before the first."""

    id: str
    dir: str
    name: str
    sweep: str
    """The folder that it shares with the other runs of its sweep, without the way there."""
    parent: str | None
    """The id of the run from whose weights it started."""
    state: RunState
    epoch: int
    epochs: int | None
    step: int
    steps_total: int | None
    eta_s: float | None
    """How long its training still takes at the newest attempt's pace (seconds), without any wait in the queue."""
    attempts: int
    preemptions: int
    interruptions: dict[str, int]
    """How many attempts ended for each of the five reasons."""
    steps_redone: int
    goodput: float | None
    """The share of its allocated time that moved it forward; None before there was any."""
    allocated_s: float
    """How long its attempts have held what they were given (seconds)."""
    metric: float | None
    metric_name: str | None
    metrics: dict[str, float]
    worker_pid: int | None
    node: str | None
    """Of rank 0."""
    nodes: list[str]
    """All that the newest attempt trains on, that of rank 0 first."""
    ranks: int
    job_id: str | None
    job_state: str | None
    """As Slurm calls it."""
    starts_at: float | None
    """When Slurm expects a waiting job to start, or started it (seconds since the epoch)."""
    exit_code: int | None
    """Of a job that is over."""
    cause: str | None
    """Of the newest attempt's failure, where it was recognised; `hpc-yolo explain` tells more."""
    reason: str | None

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "state": self.state.value}


def status_of(history: RunHistory) -> RunStatus:
    """Judge a run by its events and heartbeats."""
    newest = history.attempts[-1] if history.attempts else None
    verdict = _verdict(history)
    position = position_of(history.attempts)
    epochs = history.epochs or (position.beat.epochs if position.beat else None)
    metrics = newest_metrics(history.attempts)
    metric_name = headline(metrics)
    totals = (a.beat.steps_total for a in reversed(history.attempts) if a.beat and a.beat.steps_total)
    steps_total = next(totals, None)
    goodput = goodput_in_brief(history.attempts)
    return RunStatus(
        id=history.id,
        dir=str(history.path),
        name=history.name,
        sweep=sweep_of(RunDir(history.path)),
        parent=history.parent,
        state=verdict.state,
        epoch=min(position.epoch, epochs) if epochs else position.epoch,
        epochs=epochs,
        step=position.step,
        steps_total=steps_total,
        eta_s=None if verdict.state in SETTLED else time_left_s(history.attempts, position.step, steps_total),
        attempts=len(history.attempts),
        preemptions=sum(was_preempted(attempt) for attempt in history.attempts),
        interruptions=interruptions(history.attempts),
        steps_redone=steps_redone(history.attempts),
        goodput=goodput.ratio,
        allocated_s=goodput.shares.allocated,
        metric=metrics[metric_name] if metric_name else None,
        metric_name=metric_name,
        metrics=metrics,
        worker_pid=_worker_pid(newest),
        node=_node(newest),
        nodes=_nodes(newest),
        ranks=_ranks(history.attempts),
        job_id=history.job.submission.job if history.job else _job_id(newest),
        job_state=history.job.entry.state if history.job and history.job.entry else None,
        starts_at=history.job.entry.starts_at if history.job and history.job.entry else None,
        exit_code=verdict.exit_code,
        cause=_cause(newest),
        reason="; ".join(
            filter(
                None,
                [
                    history.trouble,
                    verdict.reason,
                    _storage_trouble(newest, verdict.state),
                    _slow_save(history.attempts),
                    _short_grace(history.attempts),
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
        if outcome in _REASONS:
            found[outcome] = found.get(outcome, 0) + 1
    return found


def steps_redone(attempts: tuple[AttemptHistory, ...]) -> int:
    """Steps that had been done and were lost, over all attempts that came as far as to resume."""
    redone, done = 0, 0
    for attempt in attempts:
        resumed = attempt.first(Kind.RESUMED)
        if resumed is None:
            continue
        redone += max(0, done - resumed.step)
        done = last_step(attempt)
    return redone


def _verdict(history: RunHistory) -> Verdict:
    """By the ledger, and where the run was submitted to Slurm by what Slurm says of its job."""
    ledger = state_by_ledger(history)
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


def _storage_trouble(newest: AttemptHistory | None, state: RunState) -> str | None:
    """Told by the heartbeat, which is rewritten in place: a full disk takes no event, and one that hangs not even that."""
    if newest is None or newest.beat is None or state not in (RunState.RUNNING, RunState.STOPPING):
        return None
    if newest.is_silent and newest.first(Kind.RESUMED) is not None:
        return f"no heartbeat since {_at(newest.beat.time)}: its storage does not answer, or its process is held up"
    if newest.beat.trouble is None:
        return None
    return f"nothing could be saved since {_at(newest.beat.trouble_since)}: {newest.beat.trouble}"


def _at(moment: float | None) -> str:
    return time.strftime("%a %H:%M:%S", time.localtime(moment))


def _slow_save(attempts: Sequence[AttemptHistory]) -> str | None:
    """A warning that comes later than a save takes is none."""
    for attempt in attempts[-1:]:
        delay, runs = float(_told(attempt, "signal_delay_s") or 0), int(_told(attempt, "runs_together") or 1)
        if 0 < delay <= (slowest := attempt.events.slowest_save_s) * runs:
            together = f" and {runs} runs of its job save at once" if runs > 1 else ""
            return (
                f"a save took {slowest:.1f} s{together}, but Slurm warns only {delay:g} s before the time limit: "
                f"set cluster.signal_delay_s={math.ceil(4 * slowest * runs)} or more"
            )
    return None


def _short_grace(attempts: Sequence[AttemptHistory]) -> str | None:
    """A preemption that leaves no time for a save is as one without a warning."""
    events = (it for attempt in reversed(attempts) for it in reversed(attempt.events.rare))
    told = (it.fields for it in events if it.kind is Kind.STOP_EXPLAINED)
    grace_s = next((it.get("grace_s") for it in told if it.get("reason") == StopReason.PREEMPTION.value), None)
    slowest = max((attempt.events.slowest_save_s for attempt in attempts), default=0.0)
    if grace_s is None or slowest <= float(grace_s):
        return None
    return (
        f"a save took {slowest:.1f} s, but a preemption leaves only {float(grace_s):g} s: then the last snapshot before it "
        "counts, and a shorter snapshot.every_s loses less"
    )


def _worker_pid(newest: AttemptHistory | None) -> int | None:
    """Before the worker's own first heartbeat, the heartbeat speaks for whoever claimed the attempt: not a worker's."""
    if newest is None or newest.beat is None or not newest.is_alive:
        return None
    workers = {event.fields.get("pid") for event in newest.events.rare if event.kind is Kind.WORKER_STARTED}
    return newest.beat.pid if newest.beat.pid in workers else None


def _node(newest: AttemptHistory | None) -> str | None:
    if newest is None:
        return None
    return (newest.beat.host if newest.beat else None) or _told(newest, "host")


def _cause(newest: AttemptHistory | None) -> str | None:
    ended = newest.last(Kind.ATTEMPT_ENDED) if newest else None
    return str(ended.fields["cause"]) if ended and ended.fields.get("cause") else None


def _nodes(newest: AttemptHistory | None) -> list[str]:
    if newest is not None and (met := newest.nodes_of_ranks) is not None:
        return list(met)
    return [it for it in [_node(newest)] if it]


def _ranks(attempts: Sequence[AttemptHistory]) -> int:
    return next((ranks for it in reversed(attempts) if (ranks := it.ranks) is not None), 1)


def _job_id(newest: AttemptHistory | None) -> str | None:
    return _told(newest, "job_id") if newest else None


def _told(attempt: AttemptHistory, field: str) -> str | None:
    values = (e.fields.get(field) for e in attempt.events.rare if e.kind in (Kind.ATTEMPT_STARTED, Kind.WORKER_STARTED))
    return next((str(value) for value in values if value), None)


def _inexact(attempts: tuple[AttemptHistory, ...]) -> str | None:
    for attempt in attempts:
        event = attempt.first(Kind.INEXACT)
        if event is not None:
            differences = ", ".join(map(str, event.fields.get("differences") or ()))
            return f"not exact from step {event.fields.get('from_step')} on ({differences})"
    return None
