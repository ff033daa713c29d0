"""Owns which jobs of a scheduler a run was submitted as: the run's own ledger, and the lock against submitting twice."""

from __future__ import annotations

import fcntl
import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.errors import BusyError
from hpc_yolo.events import Event, Kind, Ledger, read_events
from hpc_yolo.rundir import RunDir
from hpc_yolo.types import JobId


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
    """Why a person took it back; empty where nobody did."""

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


def ends_file(folder: Path, job: str) -> Path:
    return folder / f"{job}_ends.log"


def note_submission(run: RunDir, job: JobId, folder: Path) -> None:
    Ledger(run.jobs).append(Kind.SUBMITTED, job_id=job, folder=str(folder), user=_user())


def note_withdrawal(run: RunDir, job: JobId, why: str) -> None:
    Ledger(run.jobs).append(Kind.WITHDRAWN, job_id=job, why=why)


def newest_submission(run: RunDir) -> Submission | None:
    """The job that stands for the run now; None where it was never submitted to a scheduler."""
    events = list(read_events(run.jobs))
    submitted = next((event for event in reversed(events) if event.kind is Kind.SUBMITTED), None)
    if submitted is None:
        return None
    job = JobId(str(submitted.fields["job_id"]))
    return Submission(
        job=job,
        folder=Path(str(submitted.fields["folder"])),
        user=str(submitted.fields.get("user") or _user()),
        time=submitted.time,
        withdrawn=_why_withdrawn(events, job),
    )


def note_refusal(run: RunDir, why: str) -> None:
    Ledger(run.jobs).append(Kind.REFUSED, why=why)


def newest_refusal(run: RunDir) -> str | None:
    """Why the run could not be submitted, if that is the last thing that happened to it."""
    events = list(read_events(run.jobs))
    return str(events[-1].fields.get("why")) if events and events[-1].kind is Kind.REFUSED else None


def _user() -> str:
    """As Slurm knows us: by the uid, whatever LOGNAME says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        return str(os.getuid())


def _why_withdrawn(events: list[Event], job: JobId) -> str:
    found = [e for e in events if e.kind is Kind.WITHDRAWN and e.fields.get("job_id") == job]
    return str(found[-1].fields.get("why")) if found else ""


@contextmanager
def submitting(run: RunDir, since: float) -> Iterator[None]:
    """Keep a second submission of the same run out for the moment that this one takes.

    Where the file system has no locks, the claim on the run still lets only one job train it.

    Args:
        since: when the queue was asked (seconds since the epoch): somebody may have submitted it since.

    Raises:
        BusyError: it is being submitted right now.
    """
    with run.submit_lock.open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BusyError(f"{run.path} is being submitted by another process at this moment.") from None
        except OSError:
            pass
        newest = newest_submission(run)
        if newest is not None and newest.time > since and not newest.withdrawn:
            raise BusyError(f"{run.path} was submitted by another process a moment ago, as job {newest.job}.")
        yield
        with suppress(OSError):
            fcntl.flock(lock, fcntl.LOCK_UN)
