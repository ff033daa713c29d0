"""Owns what `hpc-yolo status` prints: one row a run, or JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence

from hpc_yolo.report.status import RunStatus, short_name
from hpc_yolo.report.tables import of_total, paint, render, short

_HEADER = ("RUN", "STATE", "EPOCH", "STEP", "ATTEMPTS", "PREEMPTED", "REDONE", "METRIC", "NODE", "REASON")


def as_json(rows: Sequence[RunStatus]) -> str:
    return json.dumps([row.to_json() for row in rows], indent=2)


def as_table(rows: Sequence[RunStatus], colour: bool) -> str:
    return render(_HEADER, [_cells(row, colour) for row in rows])


def _cells(row: RunStatus, colour: bool) -> list[str]:
    metric = f"{short(row.metric)} {short_name(row.metric_name)}" if row.metric_name else "-"
    return [
        row.id if row.name in ("", row.id) else f"{row.id} {row.name}",
        paint(row.state, colour),
        of_total(row.epoch, row.epochs),
        of_total(row.step, row.steps_total),
        str(row.attempts),
        str(row.preemptions),
        str(row.steps_redone),
        metric,
        row.node or "-",
        row.reason or "",
    ]
