"""Owns what `scontrol show job` says of one job, as values. Pure but for `show`."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass

from hpc_yolo.slurm import commands
from hpc_yolo.types import JobId

_FIELD = re.compile(r"(?:^|\s)([\w/:*]+)=")
#: A job in one of these will not run again by itself.
ENDED = frozenset(
    ("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
)

#: States of a job that is still on its nodes; the first signal of a preemption shows as SIGNALING for a moment.
ALIVE = ("RUNNING", "SIGNALING", "SUSPENDED", "STOPPED", "RESIZING", "CONFIGURING")


@dataclass(kw_only=True, frozen=True, slots=True)
class Job:
    """One job as slurmctld sees it now. Times are seconds since the epoch."""

    id: JobId
    state: str
    reason: str = ""
    restarts: int = 0
    start: float | None = None
    """When this start of it began."""
    end: float | None = None
    """When it must have ended: by its time limit, or, once it is being preempted, by its grace period."""
    preempted_at: float | None = None
    exit_code: str = "0:0"
    nodes: str = ""
    comment: str = ""
    may_requeue: bool = True

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED


def parse_job(text: str) -> Job | None:
    """The job of one line of `scontrol --oneliner show job`; None where there is none."""
    fields = fields_of(text.strip().splitlines()[0]) if text.strip() else {}
    if "JobId" not in fields:
        return None
    return Job(
        id=JobId(fields["JobId"]),
        state=fields.get("JobState", ""),
        reason=_told(fields.get("Reason")),
        restarts=int(fields.get("Restarts") or 0),
        start=parse_time(fields.get("StartTime")),
        end=parse_time(fields.get("EndTime")),
        preempted_at=parse_time(fields.get("PreemptTime")),
        exit_code=fields.get("ExitCode", "0:0"),
        nodes=_told(fields.get("NodeList")),
        comment=_told(fields.get("Comment")),
        may_requeue=fields.get("Requeue") != "0",
    )


def show(job: JobId) -> Job | None:
    """Ask slurmctld; None where it does not know the job (any more).

    Raises:
        SlurmError: it does not answer.
    """
    try:
        return parse_job(commands.run(commands.show_words(job)))
    except commands.NoSlurmError:
        raise
    except commands.SlurmError as error:
        if "Invalid job id" in str(error):
            return None
        raise


def parse_time(text: str | None) -> float | None:
    """Seconds since the epoch of Slurm's local time, such as 2026-11-24T08:29:59; None for N/A, None and Unknown."""
    try:
        return time.mktime(time.strptime(text or "", "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None


def fields_of(line: str) -> dict[str, str]:
    """NAME=VALUE pairs. A value may hold blanks, and a comment even something that looks like a pair; the first stands."""
    starts = list(_FIELD.finditer(line))
    fields: dict[str, str] = {}
    for index, start in enumerate(starts):
        until = starts[index + 1].start() if index + 1 < len(starts) else len(line)
        fields.setdefault(start[1], line[start.end() : until].strip())
    return fields


def _told(text: str | None) -> str:
    return "" if text in (None, "None", "(null)") else str(text)
