"""Owns what squeue and sacct say of many jobs, in one call each. Parsers are pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from hpc_yolo.slurm import commands
from hpc_yolo.slurm.job import ENDED, parse_time
from hpc_yolo.types import JobId

#: Job with array index, state, expected or real start, nodes, reason.
_SQUEUE = "%i|%T|%S|%N|%r"
_SACCT = "JobID,State,ExitCode,NodeList"
_TOGETHER = 5000  # ids on one command line: a word of it may have 128 kB


@dataclass(kw_only=True, frozen=True, slots=True)
class Entry:
    """One job, or one task of an array, as the queue or the accounting has it."""

    id: JobId
    state: str
    starts_at: float | None = None
    """When a pending one is expected to start, or a running one did (seconds since the epoch)."""
    nodes: str = ""
    reason: str = ""
    exit_code: str = ""
    """CODE:SIGNAL; only the accounting tells it."""

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @property
    def is_held(self) -> bool:
        """Whether nothing but a release lets it run."""
        said = self.reason.lower()  # "JobHeldUser", "launch failed requeued held", "JobHoldMaxRequeue"
        return self.state == "PENDING" and ("held" in said or "jobhold" in said)

    @property
    def is_held_for_launch(self) -> bool:
        """Whether Slurm itself has held it, for it could not be launched where it was to run."""
        return self.is_held and any(it in self.reason.lower() for it in ("launch failed", "jobholdmaxrequeue"))


def read_queue(users: Iterable[str]) -> dict[JobId, Entry]:
    """Every job of these users that Slurm still knows, ended ones too for a few minutes; one squeue.

    Raises:
        SlurmError
    """
    named = ",".join(sorted(set(users)))
    return parse_squeue(
        commands.run(["squeue", "--noheader", "--array", "--states=all", f"--user={named}", f"--format={_SQUEUE}"])
    )


def read_comments(users: Iterable[str]) -> dict[JobId, str]:
    """The comment of every job of these users that Slurm still knows; of an array one line may stand for many tasks.

    Raises:
        SlurmError
    """
    named = ",".join(sorted(set(users)))
    said = commands.run(["squeue", "--noheader", "--states=all", f"--user={named}", "--format=%i|%k"])
    pairs = (line.partition("|") for line in said.splitlines())
    return {JobId(job): comment for job, bar, comment in pairs if bar}


def read_accounting(jobs: Iterable[JobId]) -> dict[JobId, Entry]:
    """What became of jobs that the queue has forgotten; empty where the cluster keeps no accounting."""
    ids = sorted(set(jobs))
    found: dict[JobId, Entry] = {}
    try:
        for start in range(0, len(ids), _TOGETHER):
            words = ["sacct", "--noheader", "--parsable2", "--allocations", f"--format={_SACCT}"]
            found |= parse_sacct(commands.run([*words, f"--jobs={','.join(ids[start : start + _TOGETHER])}"]))
    except commands.SlurmError:
        return found
    return found


def parse_squeue(text: str) -> dict[JobId, Entry]:
    entries = {}
    for line in text.splitlines():
        parts = line.split("|", 4)
        if len(parts) == 5:
            job, state, start, nodes, reason = parts
            entries[JobId(job)] = Entry(
                id=JobId(job),
                state=state,
                starts_at=parse_time(start),
                nodes=nodes,
                reason="" if reason == "None" else reason,
            )
    return entries


def parse_sacct(text: str) -> dict[JobId, Entry]:
    """The newest row of each job: a requeued one has several where duplicates are asked for."""
    entries = {}
    for line in text.splitlines():
        parts = line.split("|")
        if len(parts) == 4:
            job, state, code, nodes = parts
            words = state.split()  # "CANCELLED by 1000"
            entries[JobId(job)] = Entry(
                id=JobId(job), state=words[0].rstrip("+") if words else "", nodes=nodes, exit_code=code
            )
    return entries
