"""Owns reading what a report shows of a run, into plain values. Judges nothing: status, goodput and interruptions do."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo.events import Kind, read_events
from hpc_yolo.report.goodput import Goodput, goodput_of, waits_of
from hpc_yolo.report.history import RunHistory
from hpc_yolo.report.interruptions import Interruption, Saved, interruptions_of, saved_of
from hpc_yolo.report.jobs import read_histories
from hpc_yolo.report.status import RunStatus, status_of
from hpc_yolo.report.timeline import Moments, moments_of
from hpc_yolo.result_rows import read_rows
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.reading import entries
from hpc_yolo.sweeps import overrides_by_run, read_invocations


@dataclass(kw_only=True, frozen=True, slots=True)
class RunReport:
    """One run, judged."""

    run: RunDir
    history: RunHistory
    status: RunStatus
    moments: list[Moments]
    waits: list[tuple[float, float]]
    goodput: Goodput
    interruptions: list[Interruption]
    saved: Saved
    overrides: dict[str, str] | None
    """What it was composed of; None where nothing was kept of that."""
    has_gpu: bool

    def to_json(self) -> dict[str, Any]:
        return {
            "status": self.status.to_json(),
            "goodput": self.goodput.to_json(),
            "interruptions": [it.to_json() for it in self.interruptions],
            "saved": self.saved.to_json(),
            "overrides": self.overrides,
        }


@dataclass(kw_only=True, frozen=True, slots=True)
class Kept:
    """A snapshot that is there."""

    name: str
    step: int
    attempt: int
    bytes: int


def read_reports(runs: Sequence[RunDir]) -> list[RunReport]:
    """Slurm is asked once for all of them, where there is one to ask."""
    folders = dict.fromkeys(run.path.parent for run in runs)
    asked = {folder: overrides_by_run(read_invocations(folder)) for folder in folders}
    histories = read_histories(runs)
    return [
        _report(run, history, asked[run.path.parent].get(run.path.name))
        for run, history in zip(runs, histories, strict=True)
    ]


def read_curves(report: RunReport) -> dict[int, dict[str, float]]:
    """What each finished epoch (counted from 1) came to: results.csv, and what only the ledger tells.

    A row that cannot be read is passed over.
    """
    rows: dict[int, dict[str, float]] = {}
    for attempt in report.history.attempts:
        for event in attempt.events:
            if event.kind is Kind.EPOCH_ENDED:
                rows[int(event.fields.get("epoch") or 0) + 1] = dict(event.fields.get("metrics") or {})
    for epoch, values in read_rows(report.run.results_csv).items():
        rows.setdefault(epoch, {}).update(values)
    return dict(sorted(rows.items()))


def read_environments(run: RunDir) -> dict[int, dict[str, Any]]:
    """What each attempt ran on, where it came as far as to tell."""
    found = {attempt.number: _environment(attempt.environment) for attempt in run.attempts()}
    return {number: values for number, values in found.items() if values}


def config_of(report: RunReport) -> dict[str, str]:
    """run.yaml, a row for each value; nested keys are joined by dots."""
    return dict(_flat("", report.history.frozen))


def read_snapshots(run: RunDir) -> list[Kept]:
    """Newest first."""
    found = []
    for entry in reversed(entries(run.snapshots_dir)):
        with suppress(OSError):
            found.append(
                Kept(name=entry.path.name, step=entry.step, attempt=entry.attempt, bytes=entry.path.stat().st_size)
            )
    return found


def _report(run: RunDir, history: RunHistory, overrides: dict[str, str] | None) -> RunReport:
    moments = moments_of(history.attempts)
    submitted = [event.time for event in read_events(run.jobs) if event.kind is Kind.SUBMITTED]
    cuts = interruptions_of(history.attempts, moments)
    newest = run.attempts()[-1:]
    return RunReport(
        run=run,
        history=history,
        status=status_of(history),
        moments=moments,
        waits=waits_of(moments, submitted),
        goodput=goodput_of(moments, submitted),
        interruptions=cuts,
        saved=saved_of(cuts, moments),
        overrides=overrides,
        has_gpu=any(_environment(attempt.environment).get("gpu") for attempt in newest),
    )


def _environment(path: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        values = json.loads(path.read_text(encoding="utf-8"))
        return values if isinstance(values, dict) else {}
    return {}


def _flat(prefix: str, value: Any) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [pair for key, it in value.items() for pair in _flat(f"{prefix}.{key}" if prefix else str(key), it)]
    return [(prefix, json.dumps(value, default=str) if isinstance(value, list | dict | bool | None) else str(value))]
