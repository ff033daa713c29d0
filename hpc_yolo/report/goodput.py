"""Owns what a run's allocated time was spent on: how much of it moved the run forward, and where the rest went. Pure.

Each second of an allocation has one cause. Waiting in the queue is no allocated time and stands apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import reduce
from itertools import pairwise
from operator import add
from typing import Any

from hpc_yolo.report.history import AttemptHistory
from hpc_yolo.report.timeline import Moments, moments_of


@dataclass(kw_only=True, frozen=True, slots=True)
class Shares:
    """Allocated time by cause (seconds)."""

    productive: float = 0.0
    """Training and validation whose result stayed."""
    start_up: float = 0.0
    """From an attempt's start to the end of its first batch, but for `restore`."""
    restore: float = 0.0
    """Reading and verifying the snapshot that an attempt went on from."""
    save: float = 0.0
    """Pauses for copies of the state; saving and leaving at a stop and at the end."""
    redone: float = 0.0
    """Training whose result was lost with an attempt, and had to be done again."""
    other: float = 0.0
    """From a failure to the attempt's end, and pauses before a restart in place."""

    @property
    def allocated(self) -> float:
        return self.productive + self.start_up + self.restore + self.save + self.redone + self.other

    def __add__(self, other: Shares) -> Shares:
        return Shares(**{f.name: getattr(self, f.name) + getattr(other, f.name) for f in fields(self)})


@dataclass(kw_only=True, frozen=True, slots=True)
class Goodput:
    """Of one run, or of the runs of a sweep together."""

    shares: Shares
    queued_s: float
    rank_hours: float
    """Allocated hours x ranks: GPU-hours, where each rank has a GPU."""

    @property
    def ratio(self) -> float | None:
        """Productive time / allocated time; None before there was any."""
        allocated = self.shares.allocated
        return self.shares.productive / allocated if allocated > 0 else None

    def to_json(self) -> dict[str, Any]:
        return {
            "goodput": self.ratio,
            "allocated_s": self.shares.allocated,
            **{f"{cause}_s": seconds for cause, seconds in asdict(self.shares).items()},
            "queued_s": self.queued_s,
            "gpu_hours": self.rank_hours,
        }


def goodput_of(attempts: Sequence[Moments], submitted: Sequence[float] = ()) -> Goodput:
    """Split a run's allocated time.

    Args:
        submitted: when the run was submitted to a scheduler (seconds since the epoch).
    """
    shares = [_shares(attempt, kept_until(attempt, attempts[i + 1 :])) for i, attempt in enumerate(attempts)]
    return Goodput(
        shares=reduce(add, shares) if shares else Shares(),
        queued_s=sum(until - since for since, until in waits_of(attempts, submitted)),
        rank_hours=sum(it.allocated * at.ranks for it, at in zip(shares, attempts, strict=True)) / 3600,
    )


def goodput_in_brief(attempts: Sequence[AttemptHistory]) -> Goodput:
    """The same for one row among many: what a long training often tells is read only where that is needed."""
    brief = moments_of(attempts, is_brief=True)
    is_enough = all(
        it.resumed_from in attempt.saved or (it.first_step or 0) >= attempt.last_step
        for number, attempt in enumerate(brief)
        for it in brief[number + 1 :]
        if it.first_step is not None
    )
    return goodput_of(brief if is_enough else moments_of(attempts))


def total(goodputs: Iterable[Goodput]) -> Goodput:
    """Of several runs together."""
    every = list(goodputs)
    return Goodput(
        shares=sum((it.shares for it in every), Shares()),
        queued_s=sum(it.queued_s for it in every),
        rank_hours=sum(it.rank_hours for it in every),
    )


def kept_until(attempt: Moments, later: Sequence[Moments]) -> float:
    """Until when the attempt's training stayed: what came after that, a later attempt went on from before."""
    return min((_kept_by(attempt, it) for it in later if it.first_step is not None), default=attempt.left)


def _kept_by(attempt: Moments, later: Moments) -> float:
    file, step = later.resumed_from, later.first_step or 0
    if file is not None and file in attempt.saved:
        return min(max(attempt.saved[file], attempt.worked), attempt.left)
    if attempt.first_step is None or step > attempt.last_step:
        return attempt.left
    if step <= attempt.first_step:
        return attempt.worked
    return attempt.time_at(step)


def _shares(attempt: Moments, kept: float) -> Shares:
    stalls = sum(seconds for moment, seconds in attempt.stalls if moment <= kept)
    after = attempt.ended - attempt.left
    return Shares(
        productive=kept - attempt.worked - stalls,
        start_up=attempt.worked - attempt.began - attempt.restore_s,
        restore=attempt.restore_s,
        save=stalls + (after if attempt.is_saved else 0.0),
        redone=attempt.left - kept,
        other=0.0 if attempt.is_saved else after,
    )


def waits_of(attempts: Sequence[Moments], submitted: Sequence[float]) -> list[tuple[float, float]]:
    """When a scheduler made the run wait: since a submission, or since an attempt gave it back, until the next start."""
    waits, free = [], float("-inf")
    for before, attempt in pairwise([None, *attempts]):
        assert attempt is not None
        asked = [moment for moment in submitted if free <= moment <= attempt.began]
        if before is not None and before.is_requeued:
            asked.append(before.ended)
        if asked:
            waits.append((min(asked), attempt.began))
        free = attempt.ended
    return waits
