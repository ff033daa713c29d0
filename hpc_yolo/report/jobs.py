"""Owns asking Slurm about the jobs of many runs at once: one squeue for all, one sacct for those that it has forgotten."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace

from hpc_yolo.report.history import JobHistory, RunHistory, read_history
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm.commands import SlurmError
from hpc_yolo.slurm.queue import Entry, read_accounting, read_queue
from hpc_yolo.submissions import Submission, newest_submission
from hpc_yolo.types import JobId

#: Slurm may need so long to show a job that it has just taken (seconds).
_YOUNG_S = 10.0


def read_histories(runs: Sequence[RunDir], *, ask_slurm: bool = True) -> list[RunHistory]:
    """Each run as it lies on disk, with what Slurm says of the job that stands for it, where there is one."""
    histories = [read_history(run) for run in runs]
    jobs = jobs_of([newest_submission(run) for run in runs], ask_slurm=ask_slurm)
    return [replace(history, job=job) for history, job in zip(histories, jobs, strict=True)]


def jobs_of(submissions: Sequence[Submission | None], *, ask_slurm: bool = True) -> list[JobHistory | None]:
    """What Slurm says of each. Where it does not answer, the reason stands in `trouble`."""
    wanted = [it for it in submissions if it is not None and not it.withdrawn]
    entries, trouble = _ask(wanted) if wanted and ask_slurm else ({}, None if ask_slurm else "not asked")
    return [None if it is None else _history(it, entries.get(it.job), trouble) for it in submissions]


def _ask(wanted: Iterable[Submission]) -> tuple[dict[JobId, Entry], str | None]:
    submissions = list(wanted)
    try:
        queue = read_queue(it.user for it in submissions)
    except SlurmError as error:
        return {}, error.gist
    gone = [it.job for it in submissions if it.job not in queue or queue[it.job].has_ended]
    accounted = read_accounting(gone) if gone else {}
    return {**accounted, **queue, **{job: _joined(queue.get(job), accounted[job]) for job in accounted}}, None


def _joined(queued: Entry | None, accounted: Entry) -> Entry:
    """Of an ended job the accounting knows the exit code, the queue the reason."""
    if queued is None:
        return accounted
    return replace(queued, exit_code=accounted.exit_code) if queued.has_ended else queued


def _history(submission: Submission, entry: Entry | None, trouble: str | None) -> JobHistory:
    if entry is None and trouble is None and not submission.withdrawn and time.time() - submission.time < _YOUNG_S:
        trouble = "Slurm does not show it yet"
    return JobHistory(submission, entry, trouble)
