"""Owns what `hpc-yolo results` prints: a table, CSV, Markdown or JSON, and a line of the best run."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path
from typing import Any

from hpc_yolo.report.metrics import is_lower_better, short_name
from hpc_yolo.report.results import Result, Results
from hpc_yolo.report.tables import fit, of_total, paint, short

#: Left out where the terminal is narrow, in this order. The parameters stay.
_EXPENDABLE = ("EPOCH", "FINAL", "STATE")


def as_table(results: Results, colour: bool, width: int | None = None) -> str:
    """Columns that do not fit into `width` are left out."""
    rows = [_cells(results, it, paint(it.status.state, colour)) for it in results.rows]
    return fit(_header(results), rows, width, _EXPENDABLE)


def as_markdown(results: Results) -> str:
    rows = [_cells(results, it, it.status.state.value) for it in results.rows]
    lines = [_header(results), ["---"] * len(_header(results)), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def as_csv(results: Results) -> str:
    """Numbers in full, one line a run, names of columns in the first."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(
        ["run", "sweep", *results.parameters, "state", "epoch", "metric", "final", "best", "best_epoch", "weights"]
    )
    for it in results.rows:
        of_run = [it.status.id, it.status.sweep, *it.parameters.values(), it.status.state.value, it.status.epoch]
        writer.writerow([*of_run, results.metric, it.final, it.best, it.best_epoch, it.weights])
    return out.getvalue().rstrip("\n")


def as_json(results: Results) -> str:
    best = results.best
    values = {
        "metric": results.metric,
        "lower_is_better": is_lower_better(results.metric or ""),
        "parameters": results.parameters,
        "runs": [_object(it) for it in results.rows],
        "best": None if best is None else _object(best),
    }
    return json.dumps(values, indent=2)


def best_line(results: Results) -> str:
    """Which run is the best, and where its weights lie."""
    best = results.best
    if best is None or results.metric is None:
        return "no epoch of these runs has been validated yet, so none is the best"
    told = f"best: {best.status.id}, {short_name(results.metric)} {short(best.best)} at epoch {best.best_epoch}"
    if best.weights is None:
        return f"{told}; its weights/best.pt is not there: {best.status.dir}"
    other = "" if best.weights_epoch is None else f" (of epoch {best.weights_epoch}, which has the best fitness)"
    return f"{told}: {best.weights}{other}"


def _header(results: Results) -> list[str]:
    metric = f" {short_name(results.metric)}" if results.metric else ""
    return ["RUN", *results.parameters, "STATE", "EPOCH", "FINAL", f"BEST{metric}", "AT EPOCH"]


def _cells(results: Results, it: Result, state: str) -> list[str]:
    is_one = len({Path(row.status.dir).parent for row in results.rows}) == 1
    return [
        it.status.id if is_one else f"{it.status.sweep}/{it.status.id}",
        *("-" if value is None else value for value in it.parameters.values()),
        state,
        of_total(it.status.epoch, it.status.epochs),
        short(it.final),
        short(it.best),
        "-" if it.best_epoch is None else str(it.best_epoch),
    ]


def _object(it: Result) -> dict[str, Any]:
    return {
        "id": it.status.id,
        "dir": it.status.dir,
        "sweep": it.status.sweep,
        "parameters": it.parameters,
        "state": it.status.state.value,
        "epoch": it.status.epoch,
        "epochs": it.status.epochs,
        "final": None if it.final is None or math.isnan(it.final) else it.final,  # JSON has no NaN
        "best": it.best,
        "best_epoch": it.best_epoch,
        "weights": it.weights,
        "weights_epoch": it.weights_epoch or it.best_epoch,
    }
