"""Owns releasing jobs that Slurm holds because their launch has failed: "launch failed requeued held".

Nobody of theirs lives then: a sibling, whose job runs, or a person must do it. What a person holds is left alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from hpc_yolo.errors import BusyError, HpcYoloError
from hpc_yolo.events import Kind, Ledger, read_events
from hpc_yolo.frozen import load_launch
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm import commands
from hpc_yolo.slurm.queue import Entry
from hpc_yolo.submissions import newest_submission, submitting
from hpc_yolo.types import JobId


@dataclass(frozen=True, slots=True)
class Held:
    """A run whose job Slurm holds for a failed launch, and what became of that."""

    run: RunDir
    job: JobId
    reason: str
    refusal: str = ""
    """Why it was not released; empty where it was."""

    def __str__(self) -> str:
        said = f"job {self.job} of {self.run.path}, held by Slurm ({self.reason})"
        return f"not released: {said}: {self.refusal}" if self.refusal else f"released {said}"


def find_held(runs: Sequence[RunDir], queue: Mapping[JobId, Entry]) -> list[Held]:
    """Those of the runs whose job is held for a failed launch. Where Slurm holds none, no ledger is read."""
    if not any(entry.is_held_for_launch for entry in queue.values()):
        return []
    jobs = [(run, it.job) for run in runs if (it := newest_submission(run)) is not None and not it.withdrawn]
    return [Held(run, job, queue[job].reason) for run, job in jobs if job in queue and queue[job].is_held_for_launch]


def release_held(held: Sequence[Held], by: str) -> list[Held]:
    """Release them with one scontrol an experiment, each as often as `retry.max_releases` allows, and note it in their ledgers.

    Args:
        by: who does it, for the ledger.

    Returns:
        Every one of them, with what became of it. One that another process is releasing just now is left out.
    """
    found: list[Held] = []
    for experiment in dict.fromkeys(it.run.path.parent for it in held):
        with suppress(BusyError, OSError), submitting(experiment, patience_s=0.0):
            found += _release([it for it in held if it.run.path.parent == experiment], by)
    return found


def _release(held: Sequence[Held], by: str) -> list[Held]:
    judged = [_judged(it) for it in held]
    free = [it for it in judged if not it.refusal]
    try:
        commands.release(dict.fromkeys(it.job for it in free))  # runs may share one
    except commands.SlurmError as error:
        return [it if it.refusal else Held(it.run, it.job, it.reason, error.gist) for it in judged]
    for it in free:
        Ledger(it.run.jobs).append(Kind.RELEASED, job_id=it.job, reason=it.reason, by=by)
    return judged


def _judged(it: Held) -> Held:
    """Refused where its budget is spent."""
    try:
        most = load_launch(it.run.launch_yaml).retry.max_releases
    except HpcYoloError as error:
        return Held(it.run, it.job, it.reason, str(error))
    count = releases_since_start(it.run)
    if count < most:
        return it
    spent = f"it was released {count} times and never started (retry.max_releases={most}). Look at its node: sinfo -R"
    return Held(it.run, it.job, it.reason, f"{spent}; then `hpc-yolo requeue {it.run.path}`")


def releases_since_start(run: RunDir) -> int:
    """How often its job was released since an attempt last began."""
    attempts = run.attempts()
    started = read_events(attempts[-1].events).first(Kind.ATTEMPT_STARTED) if attempts else None
    since = started.time if started is not None else 0.0
    return sum(it.kind is Kind.RELEASED and it.time > since for it in read_events(run.jobs))
