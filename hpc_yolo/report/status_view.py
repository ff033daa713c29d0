"""Owns what `hpc-yolo status` prints: a line of each sweep, one row a run; or JSON."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence

from hpc_yolo.report.groups import SweepSummary
from hpc_yolo.report.metrics import short_name
from hpc_yolo.report.status import RunStatus
from hpc_yolo.report.tables import counted, duration, fit, of_total, paint, percent, short
from hpc_yolo.types import RunState

_HEADER = (
    "RUN", "STATE", "PROGRESS", "EPOCH", "STEP", "ATTEMPTS", "PREEMPTED", "REDONE", "GOODPUT", "METRIC", "NODE", "REASON",
)  # fmt: skip
#: Left out where the terminal is narrow, in this order.
_EXPENDABLE = ("PREEMPTED", "ATTEMPTS", "GOODPUT", "STEP", "NODE", "REDONE", "EPOCH", "METRIC")
_REASON_COLUMNS = 30  # of a narrow terminal, for what matters most where something is wrong
_WAITING = (RunState.PENDING, RunState.REQUEUED)


def as_json(rows: Sequence[RunStatus]) -> str:
    return json.dumps([row.to_json() for row in rows], indent=2)


def as_text(
    rows: Sequence[RunStatus], colour: bool, width: int | None = None, sweeps: Sequence[SweepSummary] = ()
) -> str:
    """The lines of the sweeps, if there are any, and the table below.

    Args:
        width: of the terminal, where there is one: columns that do not fit are left out.
    """
    told = "\n".join(summary_line(it, colour) for it in sweeps)
    room = None if width is None else width - _REASON_COLUMNS
    table = fit(_HEADER, [_cells(row, colour) for row in rows], room, _EXPENDABLE)
    return f"{told}\n\n{table}" if told else table


def summary_line(summary: SweepSummary, colour: bool) -> str:
    """Such as `runs/lr: 6 runs: 4 done, 2 running; 12 steps redone; best mAP50-95 0.41 (3f2a90c1)`."""
    states = ", ".join(f"{count} {paint(state, colour)}" for state, count in summary.states.items())
    parts = [f"{summary.folder}: {counted(summary.runs, 'run')}: {states}"]
    parts.append(f"{counted(summary.steps_redone, 'step')} redone")
    if summary.goodput is not None:
        parts.append(f"goodput {percent(summary.goodput)}")
    if summary.best is not None and summary.best.metric_name is not None:
        best = summary.best
        parts.append(f"best {short_name(summary.best.metric_name)} {short(best.metric)} ({best.id})")
    return "; ".join(parts)


def _cells(row: RunStatus, colour: bool) -> list[str]:
    return [
        row.id if row.name in ("", row.id) else f"{row.id} {row.name}",
        paint(row.state, colour),
        progress_of(row),
        of_total(row.epoch, row.epochs),
        of_total(row.step, row.steps_total),
        str(row.attempts),
        str(row.preemptions),
        str(row.steps_redone),
        percent(row.goodput),
        metric_of(row),
        _place(row),
        row.reason or "",
    ]


def metric_of(row: RunStatus) -> str:
    """Such as `0.41 mAP50-95`."""
    return f"{short(row.metric)} {short_name(row.metric_name)}" if row.metric_name else "-"


def progress_of(row: RunStatus) -> str:
    """How much is done, and how long the rest takes, or when a waiting job is expected to start."""
    parts = [f"{100 * row.step // row.steps_total}%"] if row.steps_total else []
    if row.state in _WAITING and row.starts_at is not None:
        parts.append(time.strftime("starts %a %H:%M", time.localtime(row.starts_at)))
    elif row.eta_s is not None:
        parts.append(f"{duration(row.eta_s)} left")
    return " ".join(parts) or "-"


def _place(row: RunStatus) -> str:
    """Its node, or its first node and how many more, and its ranks where it has several."""
    if row.ranks == 1:
        return row.node or "-"
    more = f" +{len(row.nodes) - 1}" if len(row.nodes) > 1 else ""
    return f"{row.nodes[0]}{more} ({row.ranks} ranks)"
