"""Owns when what began and ended in each attempt of a run: from events and heartbeats to moments. Pure; judges nothing.

Times are seconds since the epoch. Clocks of two nodes may differ: a moment never comes before the one it follows, nor after
the next attempt's begin.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hpc_yolo.events import OFTEN, Event, Kind
from hpc_yolo.report.history import AttemptHistory
from hpc_yolo.report.ledger_state import last_step, with_cause

#: What follows an attempt in the same allocation: the pause until then is allocated time.
_IN_PLACE = "restart"


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment at which `step` optimizer steps were done."""

    time: float
    step: int


@dataclass(kw_only=True, frozen=True, slots=True)
class Moments:
    """One attempt in time. `began <= worked <= left <= ended`."""

    number: int
    began: float
    worked: float
    """Its start-up is over; the same as `left` where it never was."""
    left: float
    """It trains no more: it begins to save and to leave, or was no more."""
    ended: float
    restore_s: float
    """Of the start-up: reading and verifying the snapshot."""
    is_saved: bool
    """It left in order: what follows `left` is saving and leaving."""
    stalls: tuple[tuple[float, float], ...]
    """Pauses for a copy of the state while training: when it was over, how long it took (seconds)."""
    marks: tuple[Mark, ...]
    """Steps whose moment is known, from `worked` to `left`."""
    saved: Mapping[str, float]
    """Snapshots that it committed, by file name: the moment whose state each one holds."""
    resumed_from: str | None
    """File name of the snapshot that it went on from; None where it began from nothing."""
    first_step: int | None
    """Where it went on; None if it never came so far."""
    last_step: int
    ranks: int
    nodes: tuple[str, ...]
    reason: str | None
    """One of the five reasons, or None: it completed the run, is under way, or left no word."""
    why: str
    is_over: bool
    is_requeued: bool
    """Its end gave the run back to the scheduler, which starts it again."""

    def time_at(self, step: int) -> float:
        """When the attempt first had `step` steps done; between two marks by proportion."""
        if step >= self.last_step:
            return self.left
        for before, after in pairwise(self.marks):
            if step <= before.step:
                return before.time
            if step < after.step:
                share = (step - before.step) / (after.step - before.step)
                return before.time + share * (after.time - before.time)
        return self.left


def moments_of(attempts: Sequence[AttemptHistory], *, is_brief: bool = False) -> list[Moments]:
    """Those of each attempt that has told anything, oldest first.

    Args:
        is_brief: no `marks`, of `saved` the last one, all `stalls` in one: for that, little is read of a long training.
    """
    told = [attempt for attempt in attempts if attempt.events.rare]
    begins = [attempt.events.rare[0].time for attempt in told]
    found = [_moments(attempt, until, is_brief) for attempt, until in zip(told, [*begins, None][1:], strict=True)]
    return [
        _joined(it, begins[i + 1]) if i + 1 < len(found) and _is_in_place(told[i]) else it for i, it in enumerate(found)
    ]


def _joined(moments: Moments, until: float) -> Moments:
    """With the pause before a restart in place."""
    return replace(moments, ended=max(moments.ended, until))


def _is_in_place(attempt: AttemptHistory) -> bool:
    ended = attempt.last(Kind.ATTEMPT_ENDED)
    return ended is not None and ended.fields.get("next") == _IN_PLACE


def _moments(attempt: AttemptHistory, until: float | None, is_brief: bool) -> Moments:
    began = attempt.events.rare[0].time
    ended = max(began, _end(attempt, until))
    resumed = attempt.first(Kind.RESUMED)
    first = int(resumed.fields.get("step") or 0) if resumed else None
    last = last_step(attempt) if first is not None else 0
    left, is_saved = _leave(attempt, ended)
    left = min(max(left, began), ended)
    worked = min(max(_under_way(attempt, first, last, left), began), left)
    stalls = ((worked, _stalled_s(attempt, is_saved)),) if is_brief else tuple(_stalls(attempt, worked, left))
    finish = attempt.last(Kind.ATTEMPT_ENDED)
    outcome = str(finish.fields.get("outcome")) if finish else None
    return Moments(
        number=attempt.number,
        began=began,
        worked=worked,
        left=left,
        ended=ended,
        restore_s=min(float(resumed.fields.get("read_s") or 0.0), worked - began) if resumed else 0.0,
        is_saved=is_saved,
        stalls=stalls,
        marks=() if is_brief else tuple(_marks(attempt, worked, left, first, last)),
        saved={str(e.fields.get("file")): _copied(e) for e in _saves(attempt, only_last=is_brief)},
        resumed_from=(resumed.fields.get("snapshot") if resumed else None) or None,
        first_step=first,
        last_step=last,
        ranks=attempt.ranks or 1,
        nodes=_nodes(attempt),
        reason=outcome if outcome != "done" else None,
        why=_why(attempt, finish),
        is_over=not attempt.is_alive or attempt.last(Kind.ATTEMPT_ENDED, Kind.FINISHED) is not None,
        is_requeued=finish is not None and finish.fields.get("next") == "requeue",
    )


def _end(attempt: AttemptHistory, until: float | None) -> float:
    """Its last sign of life. An end without an exit code was told by the next attempt, long after."""
    finish = attempt.last(Kind.ATTEMPT_ENDED)
    if finish is not None and finish.fields.get("exit_code") is not None:
        latest = max(it.time for it in attempt.events.rare)
    else:
        told = [*attempt.events.rare, *filter(None, [attempt.last(*OFTEN)])]
        own = [it.time for it in told if it.kind is not Kind.ATTEMPT_ENDED]
        latest = max([*own, attempt.beat.time if attempt.beat else 0.0])
    return latest if until is None else min(latest, until)


def _leave(attempt: AttemptHistory, ended: float) -> tuple[float, bool]:
    """When the training was over, and whether the attempt saved its state then."""
    if (save := _save_at_the_end(attempt)) is not None:
        return _copied(save) - _stall_s(save), True
    orderly = attempt.last(Kind.STOPPED, Kind.FINISHED)
    if orderly is not None:
        return orderly.time, True
    failed = attempt.last(Kind.FAILED)
    if failed is not None:
        return failed.time, False
    return (attempt.beat.time if attempt.beat and attempt.first(Kind.RESUMED) else ended), False


def _save_at_the_end(attempt: AttemptHistory) -> Event | None:
    save = attempt.last(Kind.SNAPSHOT_COMMITTED)
    return save if save is not None and save.fields.get("cause") in ("stop", "done") else None


def _under_way(attempt: AttemptHistory, first: int | None, last: int, left: float) -> float:
    """The end of the start-up. A ledger of before that was told has the resume alone."""
    started = attempt.first(Kind.TRAINING_STARTED)
    if started is not None:
        return started.time
    resumed = attempt.first(Kind.RESUMED)
    return resumed.time if resumed is not None and first is not None and last > first else left


def _marks(attempt: AttemptHistory, worked: float, left: float, first: int | None, last: int) -> Iterable[Mark]:
    """In order; a step never falls back within an attempt, so one that seems to is passed over."""
    if first is None:
        return
    started = attempt.first(Kind.TRAINING_STARTED)
    known = [Mark(worked, int(started.fields.get("step") or first) if started else first), Mark(left, last)]
    for event in attempt.events:
        if event.kind is Kind.EPOCH_ENDED:
            known.append(Mark(event.time, int(event.fields.get("step") or 0)))
        if event.kind is Kind.SNAPSHOT_COMMITTED:
            known.append(Mark(_copied(event), int(event.fields.get("step") or 0)))
    reached = first
    for mark in sorted((it for it in known if worked <= it.time <= left), key=lambda it: (it.time, it.step)):
        if reached <= mark.step <= last:
            reached = mark.step
            yield mark


def _saves(attempt: AttemptHistory, *, only_last: bool = False) -> Iterable[Event]:
    if only_last:
        return filter(None, [attempt.last(Kind.SNAPSHOT_COMMITTED)])
    return (event for event in attempt.events if event.kind is Kind.SNAPSHOT_COMMITTED)


def _stalled_s(attempt: AttemptHistory, is_saved: bool) -> float:
    """All pauses while training together; the last one belongs to the leaving of an attempt that saved then."""
    save = _save_at_the_end(attempt) if is_saved else None
    return attempt.events.stalled_s - (_stall_s(save) if save is not None else 0.0)


def _stalls(attempt: AttemptHistory, worked: float, left: float) -> Iterable[tuple[float, float]]:
    for event in _saves(attempt):
        if worked <= _copied(event) <= left:
            yield _copied(event), min(_stall_s(event), _copied(event) - worked)


def _copied(snapshot: Event) -> float:
    """When the copy of the state was made: the training went on while it was written."""
    return snapshot.time - float(snapshot.fields.get("seconds") or 0.0)


def _stall_s(snapshot: Event) -> float:
    return float(snapshot.fields.get("stall_s") or 0.0)


def _nodes(attempt: AttemptHistory) -> tuple[str, ...]:
    if (met := attempt.nodes_of_ranks) is not None:
        return met
    told = [e.fields.get("host") for e in attempt.events.rare if e.kind in (Kind.WORKER_STARTED, Kind.ATTEMPT_STARTED)]
    return tuple(str(host) for host in told[-1:] if host)


def _why(attempt: AttemptHistory, finish: Event | None) -> str:
    failed = attempt.last(Kind.FAILED)
    told = (failed.fields.get("error") if failed else None) or (finish.fields.get("why") if finish else None)
    return with_cause(finish, None if told is None else str(told)) or ""
