"""Owns what the screen shows of sweeps and runs, as cells of tables. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hpc_yolo.report.groups import by_sweep, summaries
from hpc_yolo.report.status import RunStatus
from hpc_yolo.report.status_view import metric_of, progress_of
from hpc_yolo.report.tables import of_total
from hpc_yolo.types import RunState

SWEEP_HEADER = ("SWEEP", "RUNS", "DONE", "RUNNING", "FAILED", "OTHER", "REDONE", "BEST")
RUN_HEADER = ("RUN", "STATE", "PROGRESS", "EPOCH", "METRIC", "NODE", "REASON")
#: The key of the line that stands for all sweeps.
ALL = ""
#: What `f` goes through: the states that are shown.
FILTERS: tuple[tuple[RunState, ...], ...] = (
    (),
    (RunState.RUNNING, RunState.STOPPING),
    (RunState.PENDING, RunState.REQUEUED),
    (RunState.FAILED, RunState.CANCELLED),
    (RunState.DONE,),
)
#: What `s` goes through.
SORTS: tuple[str | None, ...] = (None, "state", "metric", "eta", "redone", "run")


def sweep_rows(rows: Sequence[RunStatus]) -> dict[str, tuple[str, ...]]:
    """A line for all, and one a folder, by its path."""
    groups = by_sweep(rows)
    best = {it.folder: it.best for it in summaries(rows)}
    found = {ALL: ("all", *_counts(rows), "")}
    for folder, group in groups.items():
        found[folder] = (group[0].sweep, *_counts(group), _best(best.get(folder)))
    return found


def run_rows(rows: Iterable[RunStatus]) -> dict[str, tuple[str, ...]]:
    """A line a run, by its directory."""
    return {row.dir: _run(row) for row in rows}


def chosen(rows: Iterable[RunStatus], folder: str, states: tuple[RunState, ...]) -> list[RunStatus]:
    return [
        row
        for row in rows
        if (folder == ALL or row.dir.rpartition("/")[0] == folder) and (not states or row.state in states)
    ]


def _counts(rows: Sequence[RunStatus]) -> tuple[str, ...]:
    states = [row.state for row in rows]
    told = [states.count(it) for it in (RunState.DONE, RunState.RUNNING, RunState.FAILED)]
    return (*map(str, [len(rows), *told, len(rows) - sum(told)]), str(sum(row.steps_redone for row in rows)))


def _best(row: RunStatus | None) -> str:
    return "" if row is None or row.metric_name is None else f"{metric_of(row)} ({row.id})"


def _run(row: RunStatus) -> tuple[str, ...]:
    return (
        row.id,
        row.state.value,
        progress_of(row),
        of_total(row.epoch, row.epochs),
        metric_of(row),
        row.node or "-",
        row.reason or "",
    )
