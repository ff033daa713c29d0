"""Owns which runs `status` shows and in which order: by place, sweep and state."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.report.groups import by_sweep
from hpc_yolo.report.locate import RUNS_DIR, locate_all
from hpc_yolo.report.metrics import is_lower_better
from hpc_yolo.report.status import RunStatus
from hpc_yolo.rundir import RunDir, sweep_of
from hpc_yolo.types import ExitCode, RunState

_STATES = list(RunState)
_WAITING = (RunState.PENDING, RunState.REQUEUED)


def _goodness(row: RunStatus) -> float | None:
    """The smaller the better."""
    if row.metric is None or math.isnan(row.metric):
        return None
    return row.metric if is_lower_better(row.metric_name or "") else -row.metric


#: What `--sort` can go by: a run without a value comes last.
SORT_KEYS: dict[str, Callable[[RunStatus], float | str | None]] = {
    "run": lambda row: row.id,
    "sweep": lambda row: row.dir,
    "state": lambda row: _STATES.index(row.state),
    "progress": lambda row: None if not row.steps_total else -row.step / row.steps_total,
    "eta": lambda row: row.eta_s,
    "epoch": lambda row: -row.epoch,
    "step": lambda row: -row.step,
    "attempts": lambda row: -row.attempts,
    "preempted": lambda row: -row.preemptions,
    "redone": lambda row: -row.steps_redone,
    "goodput": lambda row: row.goodput,
    "metric": _goodness,
    "node": lambda row: row.node,
    "starts": lambda row: row.starts_at if row.state in _WAITING else None,
}


class UnknownChoiceError(HpcYoloError):
    """What was typed is none of the words that are understood here; type one of those."""

    exit_code = ExitCode.USAGE


@dataclass(kw_only=True, frozen=True, slots=True)
class Selection:
    """What was asked for on the command line.

    Raises:
        UnknownChoiceError: there is no such state or column; the message lists what there is.
    """

    paths: tuple[str, ...] = ()
    """Runs, or folders of runs; all of `runs_dir` where there are none."""
    runs_dir: Path = RUNS_DIR
    states: tuple[str, ...] = ()
    """All, where there are none."""
    sweep: str = "*"
    """The name of a folder that runs share; a shell's wildcards count."""
    sort: str | None = None

    def __post_init__(self) -> None:
        for state in self.states:
            _require(state, [it.value for it in RunState], "state")
        if self.sort is not None:
            _require(self.sort, SORT_KEYS, "column to sort by")

    def runs(self) -> list[RunDir]:
        """Raises UnknownRunError where a path is neither a folder nor a run."""
        found = locate_all(self.paths, self.runs_dir)
        return [run for run in found if self.sweep == "*" or fnmatchcase(sweep_of(run), self.sweep)]

    def ordered(self, rows: Sequence[RunStatus]) -> list[RunStatus]:
        """All of them; those of other states too, since a sweep's line is told of all its runs."""
        return ordered(rows, self.sort)

    def shown(self, rows: Sequence[RunStatus]) -> list[RunStatus]:
        return [row for row in rows if not self.states or row.state.value in self.states]

    def nothing(self) -> str:
        """What is said where there is nothing to show."""
        where = ", ".join(self.paths) or str(self.runs_dir)
        if self.states or self.sweep != "*":
            states = f"{' or '.join(self.states)} " if self.states else ""
            sweep = f" of a sweep named {self.sweep}" if self.sweep != "*" else ""
            return f"no {states}runs in {where}{sweep}. `hpc-yolo status` without --state and --sweep lists all."
        return f"no runs in {where}. Start one with `hpc-yolo train`, or look elsewhere with --runs-dir."


def ordered(rows: Sequence[RunStatus], key: str | None) -> list[RunStatus]:
    """Sorted by one of SORT_KEYS, else sweep by sweep."""
    if key is None:
        return [row for group in by_sweep(rows).values() for row in group]
    value = SORT_KEYS[key]
    unknown = [row for row in rows if value(row) is None]
    return [*sorted((row for row in rows if value(row) is not None), key=value), *unknown]  # type: ignore[arg-type]


def _require(word: str, known: Iterable[str], what: str) -> None:
    if word not in known:
        raise UnknownChoiceError(f"there is no {what} {word!r}. There is: {', '.join(known)}.")
