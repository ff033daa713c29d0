"""Owns finding jobs that reached Slurm while whoever submitted them did not live, or did not hear, to note it.

Between sbatch's way to Slurm and the line in each run's ledger a login shell may die, and a slow controller may take a job that
sbatch has given up on. So the submission's folder is made first and says which runs it is about, the job's comment names the
folder, and whoever comes next looks for what came of a folder that nobody has settled.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from hpc_yolo.errors import BusyError
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm.queue import read_comments
from hpc_yolo.submissions import (
    Intent,
    by_job,
    newest_submission,
    note_submission,
    read_intents,
    settle,
    submitting,
    task_ids,
)  # fmt: skip
from hpc_yolo.types import JobId

#: Whatever Slurm was asked for longer ago than that, it has taken or dropped.
_DECIDED_S = 600.0
#: What a job that has begun leaves in its folder begins with its id.
_TRACE = re.compile(r"^(\d+)(?:_\d+)?_(?:0_log\.|submitted\.pkl|ends\.log|code_)")


def note_strays(experiments: Iterable[Path]) -> int:
    """Look for the jobs of every submission below these folders whose outcome nobody has noted, and note them.

    Costs one squeue where there is such a submission, else none. One that is going on at this moment is left alone.

    Returns:
        How many runs got a job.

    Raises:
        SlurmError: it does not answer.
    """
    found = 0
    for experiment in experiments:
        if not any(map(_is_open, read_intents(experiment))):
            continue
        with suppress(OSError, BusyError), submitting(experiment, patience_s=0.0):
            held = [intent for intent in read_intents(experiment) if _is_open(intent)]
            comments = read_comments(intent.user for intent in held) if held else {}
            found += sum(_note(intent, find_job(intent, comments)) for intent in held)
    return found


def find_job(intent: Intent, comments: Mapping[JobId, str]) -> JobId | None:
    """The job, or the array's own id without an index, that came of a submission; None where nothing tells of one."""
    for job, comment in comments.items():
        if intent.mark in comment:
            return JobId(job.partition("_")[0])
    traces = (_TRACE.match(file.name) for file in intent.folder.iterdir())
    return next((JobId(trace[1]) for trace in traces if trace), None)


def _is_open(intent: Intent) -> bool:
    """False, and settled from now on, where each run has noted it: an earlier release told it nowhere else."""
    if all(_knows(run, intent) for run in intent.runs):
        with suppress(OSError):
            settle(intent.folder, "noted by every run")
        return False
    return True


def _note(intent: Intent, job: JobId | None) -> int:
    if job is None:
        if time.time() - intent.time > _DECIDED_S:
            settle(intent.folder, "it never reached Slurm")
        return 0
    noted = 0
    together = by_job(intent.runs, intent.per_job)
    for runs, task in zip(together, task_ids(job, len(together)), strict=True):
        for run in runs:
            if run.is_run() and not _knows(run, intent) and not _has_moved_on(run, intent):
                note_submission(run, task, intent.folder, user=intent.user, at=intent.time, together=runs)
                noted += 1
    settle(intent.folder, f"job {job}, found later")
    return noted


def _knows(run: RunDir, intent: Intent) -> bool:
    newest = newest_submission(run)
    return newest is not None and newest.folder.name == intent.folder.name


def _has_moved_on(run: RunDir, intent: Intent) -> bool:
    """It was submitted again since: should the stray come to run, the claim on the run refuses it."""
    newest = newest_submission(run)
    return newest is not None and newest.time > intent.time
