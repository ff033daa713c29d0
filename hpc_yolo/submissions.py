"""Owns which jobs of a scheduler a run was submitted as: the run's own ledger, and the lock against submitting twice."""

from __future__ import annotations

import fcntl
import json
import os
import pwd
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, TypeVar

from hpc_yolo.errors import BusyError
from hpc_yolo.events import Event, Kind, Ledger, read_events
from hpc_yolo.rundir import RunDir, submit_lock, submitit_dir, write_text_atomic
from hpc_yolo.types import JobId

#: One submission takes a call or two of sbatch, which may take a minute each.
TURN_S = 180.0
_LOOK_EVERY_S = 0.1
_INTENT, _SETTLED = "runs.json", "settled"

T = TypeVar("T")


@dataclass(kw_only=True, frozen=True, slots=True)
class Submission:
    """One job that a run was submitted as."""

    job: JobId
    """Slurm's id; of a task of an array ARRAY_INDEX."""
    folder: Path
    """Where submitit keeps the script, the pickle and the job's own log."""
    user: str
    time: float
    withdrawn: str = ""
    """Why the job stands for the run no more, though others may share it; empty where it does."""
    exit_code: int | None = None
    """What the run's supervisor left such a job with; None where a person took the run back."""
    beside: tuple[str, ...] = ()
    """The ids of the runs that share the job, below the same folder."""

    @property
    def log(self) -> Path:
        """What the job's script and its supervisor wrote; not the worker."""
        return self.folder / f"{self.job}_0_log.err"

    @property
    def ends(self) -> Path:
        """The exit codes with which starts of the job ended, as its script saw them: `RESTARTS CODE` a line."""
        return ends_file(self.folder, self.job)


def code_file(folder: Path, job: str, restarts: int) -> Path:
    """What the supervisor of one start of a job leaves with, by its own word."""
    return folder / f"{job}_code_{restarts}"


def ends_file(folder: Path, job: str, run: str = "") -> Path:
    """By the job's script; of a run that shares the job by its task, of supervisors that could not tell their end."""
    return folder / (f"{job}_{run}_ends.log" if run else f"{job}_ends.log")


def task_ids(job: JobId, count: int) -> list[JobId]:
    """The ids of what was submitted as one job, or as an array of `count` tasks."""
    return [job] if count == 1 else [JobId(f"{job}_{number}") for number in range(count)]


def by_job(runs: Sequence[T], per_job: int) -> list[Sequence[T]]:
    """What each job of a submission trains, in the order of the array's tasks; the last one may have fewer."""
    return [runs[start : start + per_job] for start in range(0, len(runs), per_job)]


@dataclass(frozen=True, slots=True)
class Intent:
    """What is on its way to a scheduler, written down before: the folder of a submission, and the runs that it is about."""

    folder: Path
    mark: str
    """The folder as the job's comment names it."""
    runs: tuple[RunDir, ...]
    """In the order of the array's tasks."""
    per_job: int
    """How many of them share a task."""
    user: str
    time: float


def mark_of(folder: Path) -> str:
    """What a job's comment ends with, so that the job is found by the folder of its submission."""
    return f"(see {folder})"


def note_intent(folder: Path, runs: Sequence[RunDir], per_job: int = 1) -> None:
    """Before the scheduler hears of it."""
    told = {"mark": mark_of(folder), "runs": [str(run.path) for run in runs], "per_job": per_job}
    write_text_atomic(folder / _INTENT, json.dumps(told, indent=1) + "\n")


def settle(folder: Path, how: str) -> None:
    """Note that nobody needs to look any more for what became of a submission."""
    (folder / _SETTLED).write_text(f"{how}\n", encoding="utf-8")


def read_intents(experiment: Path) -> list[Intent]:
    """Every submission of runs of an experiment that is not settled, in no order. What cannot be read is passed over."""
    found = []
    for file in submitit_dir(experiment).glob(f"*/{_INTENT}"):
        if (file.parent / _SETTLED).exists():
            continue
        with suppress(OSError, ValueError, TypeError, KeyError):
            told, state = json.loads(file.read_text(encoding="utf-8")), file.stat()
            if isinstance(told, list):  # of an earlier release
                told = {"mark": mark_of(file.parent), "runs": told}
            found.append(
                Intent(
                    folder=file.parent.absolute(),
                    mark=str(told["mark"]),
                    runs=tuple(
                        RunDir(experiment / Path(path).name) for path in told["runs"]
                    ),  # wherever it is mounted now
                    per_job=int(told.get("per_job", 1)),
                    user=_user(state.st_uid),
                    time=state.st_mtime,
                )
            )
    return found


def note_submission(
    run: RunDir,
    job: JobId,
    folder: Path,
    *,
    user: str | None = None,
    at: float | None = None,
    together: Sequence[RunDir] = (),
) -> None:
    """Say which job stands for the run from now on.

    Args:
        user: whose job it is; ours.
        at: when it was submitted (seconds since the epoch); now.
        together: the runs that share the job.
    """
    ledger = Ledger(run.jobs, clock=time.time if at is None else lambda: at)
    beside = [it.path.name for it in together if it.path != run.path]
    shared = {"beside": beside} if beside else {}
    ledger.append(Kind.SUBMITTED, job_id=job, folder=str(folder), user=user or _user(), **shared)


def note_withdrawal(run: RunDir, job: JobId, why: str, exit_code: int | None = None) -> None:
    Ledger(run.jobs).append(Kind.WITHDRAWN, job_id=job, why=why, exit_code=exit_code)


def stands_for(run: RunDir, job: str, folder: Path) -> bool:
    """Whether a job still is the run's: it was not taken back, and no other one was submitted since.

    Args:
        folder: of the job's submission.
    """
    newest = newest_submission(run)
    if newest is None or newest.job == job:
        return newest is None or not newest.withdrawn  # where nobody lived to note it, nobody has taken it back either
    try:
        return newest.time < (folder / _INTENT).stat().st_mtime
    except OSError:
        return False


def neighbours(run: RunDir, submission: Submission) -> list[RunDir]:
    """The other runs that the same job still stands for."""
    others = [RunDir(run.path.with_name(name)) for name in submission.beside]
    return [it for it in others if stands_for(it, submission.job, submission.folder)]


@dataclass(frozen=True, slots=True)
class Jobs:
    """What a run's own ledger of jobs says."""

    submission: Submission | None
    """The job that stands for the run now; None where it was never submitted to a scheduler."""
    refusal: str | None
    """Why the run could not be submitted, if that is the last thing that happened to it."""


def read_jobs(run: RunDir) -> Jobs:
    events = read_events(run.jobs)
    is_refused = bool(events) and events[-1].kind is Kind.REFUSED
    return Jobs(_newest_submission(events), str(events[-1].fields.get("why")) if is_refused else None)


def newest_submission(run: RunDir) -> Submission | None:
    """The job that stands for the run now; None where it was never submitted to a scheduler."""
    return read_jobs(run).submission


def newest_refusal(run: RunDir) -> str | None:
    """Why the run could not be submitted, if that is the last thing that happened to it."""
    return read_jobs(run).refusal


def _newest_submission(events: Sequence[Event]) -> Submission | None:
    submitted = next((event for event in reversed(events) if event.kind is Kind.SUBMITTED), None)
    if submitted is None:
        return None
    job = JobId(str(submitted.fields["job_id"]))
    withdrawn = next((e.fields for e in reversed(events) if _takes_back(e, job)), {})
    code = withdrawn.get("exit_code")
    return Submission(
        job=job,
        folder=Path(str(submitted.fields["folder"])),
        user=str(submitted.fields.get("user") or _user()),
        time=submitted.time,
        withdrawn=str(withdrawn.get("why") or ""),
        exit_code=None if code is None else int(code),
        beside=tuple(submitted.fields.get("beside") or ()),
    )


def note_refusal(run: RunDir, why: str) -> None:
    Ledger(run.jobs).append(Kind.REFUSED, why=why)


@cache
def _user(uid: int | None = None) -> str:
    """As Slurm knows us, or another one: by the uid, whatever LOGNAME says."""
    number = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _takes_back(event: Event, job: JobId) -> bool:
    return event.kind is Kind.WITHDRAWN and event.fields.get("job_id") == job


@contextmanager
def submitting(experiment: Path, patience_s: float = TURN_S) -> Iterator[None]:
    """Keep other submissions below the same folder out for the moment that this one takes; waits for its turn.

    One lock for all, since a sweep may have more runs than a process may have open files. Where the file system has no
    locks, the claim on the run still lets only one job train it.

    Raises:
        BusyError: another one holds it, longer than `patience_s`.
    """
    lock_file = submit_lock(experiment)
    lock_file.parent.mkdir(parents=True, exist_ok=True)
    with lock_file.open("w") as lock:
        _await_lock(lock, experiment, patience_s)
        yield
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)


def refuse_if_submitted_since(run: RunDir, since: float) -> None:
    """Raises BusyError where somebody has submitted the run after `since` (seconds since the epoch)."""
    newest = newest_submission(run)
    if newest is not None and newest.time > since and not newest.withdrawn:
        raise BusyError(f"{run.path} was submitted by another process a moment ago, as job {newest.job}.")


def _await_lock(lock: IO[str], experiment: Path, patience_s: float) -> None:
    until = time.monotonic() + patience_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise BusyError(
                    f"another process is submitting runs of {experiment}, for more than {patience_s:g} s now. Try again later."
                ) from None
        except OSError:
            return
        time.sleep(_LOOK_EVERY_S)
