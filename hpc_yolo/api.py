"""Owns hpc-yolo for Python programs: submit what a command line would, and look at runs. A thin face of what the commands use;
docs/how-to/python.md has an example.

Importing it loads no torch. Errors are `hpc_yolo.errors.HpcYoloError`, which say what is wrong, where, and what to do.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.report.history import read_history
from hpc_yolo.report.jobs import look
from hpc_yolo.report.locate import RUNS_DIR, locate, locate_all
from hpc_yolo.report.results import epochs_of
from hpc_yolo.report.status import SETTLED, RunStatus, status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.sweeps import overrides_of
from hpc_yolo.types import ExitCode, RunState

__all__ = [
    "Epoch", "Event", "HpcYoloError", "Kind", "NotDoneError", "Run", "RunState", "RunStatus",
    "cancel", "open_run", "preempt", "requeue", "resume", "runs", "statuses", "submit", "wait",
]  # fmt: skip


class NotDoneError(HpcYoloError):
    """What was asked for could not be done of every run. `exit_code` is what the command would have left with."""

    def __init__(self, message: str, code: int, made: Sequence[Run] = ()) -> None:
        super().__init__(message)
        self.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.BUG
        self.runs = list(made)
        """All runs that were to be made, those that came to nothing among them."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """One validated epoch."""

    number: int
    """Counted from 1."""
    metrics: dict[str, float]
    """By ultralytics' names, such as metrics/mAP50-95(B); fitness among them."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run on disk. Everything is read when it is asked for, so it is never old."""

    path: Path

    @property
    def id(self) -> str:
        return self.path.name

    @property
    def config(self) -> dict[str, Any]:
        """What run.yaml holds: what is trained, frozen at the first submission."""
        return read_history(RunDir(self.path)).frozen

    @property
    def overrides(self) -> dict[str, str]:
        """Key and value of each override that it was composed of, by the newest command that asked for it."""
        return overrides_of([self.path]).get(self.path, {})

    @property
    def status(self) -> RunStatus:
        """As `hpc-yolo status --json` has it. Asks Slurm; of many runs ask `statuses`, which asks once."""
        return statuses([self])[0]

    @property
    def events(self) -> list[Event]:
        """What happened, attempt after attempt; times are seconds since the epoch. docs/reference.md lists the kinds."""
        return [event for attempt in RunDir(self.path).attempts() for event in read_events(attempt.events)]

    @property
    def epochs(self) -> list[Epoch]:
        """Those that were validated, in order; of one that was validated twice, the later time."""
        attempts = read_history(RunDir(self.path)).attempts
        return [Epoch(number, metrics) for number, metrics in epochs_of(attempts).items()]

    @property
    def weights(self) -> Path | None:
        """best.pt, of the epoch with the best fitness so far; None before there is one."""
        best = RunDir(self.path).weights_dir / "best.pt"
        return best if best.is_file() else None


def submit(*words: str) -> list[Run]:
    """Do what `hpc-yolo train WORDS` does, and return the runs: one, or with `-m` those of the sweep, in its order.

    On Slurm they are queued then; here (`cluster=local`) they are done, unless `wait=false` stands among the words. A run
    that is done or queued already is not made again, and is returned like the others.

    Raises:
        NotDoneError: of some of them nothing came.
        HpcYoloError: the words, the data or the directory are not usable.
    """
    from hpc_yolo.submit.train_command import train

    found, codes = train(list(words))
    made = [Run(run.path) for run in found]
    if any(codes):
        why = "each was told on stderr, and `hpc-yolo status` has the reasons"
        raise NotDoneError(f"{sum(map(bool, codes))} of {len(codes)} runs came to nothing: {why}.", max(codes), made)
    return made


def open_run(name: str | Path, runs_dir: str | Path = RUNS_DIR) -> Run:
    """The run of this directory or id, or whose id begins so.

    Raises:
        UnknownRunError: there is none, or there are several.
    """
    return Run(locate(str(name), Path(runs_dir)).path)


def runs(*names: str | Path, runs_dir: str | Path = RUNS_DIR) -> list[Run]:
    """The runs of these sweeps (folders, or their names below `runs_dir`), directories and ids; all of them without a name.

    Raises:
        UnknownRunError: a name that means nothing.
    """
    return [Run(run.path) for run in locate_all(map(str, names), Path(runs_dir))]


def statuses(of: Sequence[Run]) -> list[RunStatus]:
    """How each stands. Slurm is asked once for all."""
    return look([RunDir(run.path) for run in of], status_of)


def wait(of: Sequence[Run], *, timeout_s: float | None = None, every_s: float = 15.0) -> list[RunStatus]:
    """Wait until each is done, has failed or was cancelled.

    Args:
        timeout_s: how long at most (seconds); for ever without.
        every_s: between two looks (seconds). Slurm is asked at each, and its administrators ask for restraint.

    Raises:
        TimeoutError: some are not settled yet. They go on.
    """
    until = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        rows = statuses(of)
        going = [row for row in rows if row.state not in SETTLED]
        if not going:
            return rows
        if until is not None and time.monotonic() + every_s > until:
            raise TimeoutError(f"{len(going)} of {len(rows)} runs are not settled after {timeout_s:g} s; they go on")
        time.sleep(every_s)


def cancel(of: Sequence[Run]) -> list[str]:
    """Stop runs, here or on Slurm; their state is saved, and they stay stopped.

    Returns:
        What was done, a line each, as the command line tells it.

    Raises:
        NotDoneError: of some of them nothing could be asked; the others were told nevertheless.
    """
    return _operate("cancel", of)


def preempt(of: Sequence[Run]) -> list[str]:
    """Warn runs as their scheduler would: a fire drill. Returns and raises as `cancel`."""
    return _operate("preempt", of)


def requeue(of: Sequence[Run]) -> list[str]:
    """Hand running jobs back to Slurm, and release held ones. Returns and raises as `cancel`."""
    return _operate("requeue", of)


def resume(of: Sequence[Run]) -> list[str]:
    """Go on with runs that have stopped, as they were last launched. Returns and raises as `cancel`."""
    return _operate("resume", of)


def _operate(verb: str, of: Sequence[Run]) -> list[str]:
    from hpc_yolo.submit import operate

    verbs = {"cancel": operate.cancel, "preempt": operate.preempt, "requeue": operate.requeue, "resume": operate.resume}
    outcomes = verbs[verb]([RunDir(run.path) for run in of]) if of else []
    if code := operate.worst(outcomes):
        raise NotDoneError("; ".join(it.said for it in outcomes if it.code and it.said) or f"cannot {verb}", code)
    return [it.said for it in outcomes if it.said]
