"""Owns how the runs of a sweep stand together: how many in which state, steps redone, the best one. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.report.metrics import best_of
from hpc_yolo.report.status import RunStatus
from hpc_yolo.types import RunState


@dataclass(kw_only=True, frozen=True, slots=True)
class SweepSummary:
    """What one line says of several runs that share a folder."""

    folder: str
    runs: int
    states: dict[RunState, int]
    """How many in each state, in the order of a run's life; without those that no run is in."""
    steps_redone: int
    goodput: float | None
    """Of all their allocated time together; None before there was any."""
    best: RunStatus | None
    """By the newest metric of each; None where the runs have none that they could be compared by."""


def by_sweep(rows: Iterable[RunStatus]) -> dict[str, list[RunStatus]]:
    """The runs of each folder, folders in the order in which they come first."""
    groups: dict[str, list[RunStatus]] = {}
    for row in rows:
        groups.setdefault(row.dir.rpartition("/")[0] or str(Path(row.dir).parent), []).append(row)
    return groups


def summaries(rows: Iterable[RunStatus]) -> list[SweepSummary]:
    """One of each folder that several runs share."""
    return [_summary(folder, group) for folder, group in by_sweep(rows).items() if len(group) > 1]


def _summary(folder: str, rows: Sequence[RunStatus]) -> SweepSummary:
    counts = Counter(row.state for row in rows)
    return SweepSummary(
        folder=folder,
        runs=len(rows),
        states={state: counts[state] for state in RunState if counts[state]},
        steps_redone=sum(row.steps_redone for row in rows),
        goodput=_goodput(rows),
        best=_best(rows),
    )


def _goodput(rows: Sequence[RunStatus]) -> float | None:
    allocated = sum(row.allocated_s for row in rows)
    return sum((row.goodput or 0.0) * row.allocated_s for row in rows) / allocated if allocated > 0 else None


def _best(rows: Sequence[RunStatus]) -> RunStatus | None:
    """Compared by the metric that most of them are told by: another task's number says nothing beside it."""
    names = Counter(row.metric_name for row in rows if row.metric is not None)
    if not names:
        return None
    name = names.most_common(1)[0][0]
    values = {row.id: row.metric for row in rows if row.metric_name == name and row.metric is not None}
    best = best_of(values, name or "")
    return next((row for row in rows if row.id == best), None)
