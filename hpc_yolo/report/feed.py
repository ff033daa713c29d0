"""Owns looking at the same runs again and again: one that is done is not read again, and Slurm is asked with restraint."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from hpc_yolo.report.history import RunHistory, read_history
from hpc_yolo.report.jobs import PacedJobs
from hpc_yolo.report.ledger_state import state_by_ledger
from hpc_yolo.report.selection import Selection
from hpc_yolo.report.status import RunStatus, status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.small_files import read_each
from hpc_yolo.types import RunState


class Feed:
    """How the runs of a selection stand, now and later. New ones are found, and those that are gone are dropped."""

    def __init__(self, selection: Selection, jobs: PacedJobs | None = None) -> None:
        self.selection = selection
        self._jobs = jobs or PacedJobs()
        self._done: dict[Path, RunHistory] = {}

    @property
    def trouble(self) -> str | None:
        """Why Slurm's word is old, or there is none; None while it answers."""
        return self._jobs.trouble

    def rows(self) -> list[RunStatus]:
        """A row each, in the selection's order, those of other states too."""
        return self.selection.ordered([status_of(it) for it in self._read(self.selection.runs())])

    def _read(self, runs: list[RunDir]) -> list[RunHistory]:
        left = [run for run in runs if run.path not in self._done]
        found = {it.path: it for it in read_each(read_history, left)}
        self._done |= {path: it for path, it in found.items() if state_by_ledger(it).state is RunState.DONE}
        known = self._jobs.jobs_of([None if path in self._done else it.submission for path, it in found.items()])
        found = {path: replace(it, job=job) for (path, it), job in zip(found.items(), known, strict=True)}
        return [found.get(run.path) or self._done[run.path] for run in runs]
