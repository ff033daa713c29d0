"""Owns `train` on Slurm: what is queued or running is left alone, what waits with other resources is replaced, the rest goes.

Submitting the same thing twice never trains it twice: the queue is asked first, a lock keeps a second submission out, and a
job that starts nevertheless is refused by the claim on the run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from hpc_yolo.attempts import is_done, occupant
from hpc_yolo.errors import BusyError, HpcYoloError
from hpc_yolo.frozen import launch_text, load_launch, write_launch
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm import commands
from hpc_yolo.slurm.queue import Entry, read_queue
from hpc_yolo.submissions import Submission, newest_submission, note_refusal, note_withdrawal
from hpc_yolo.submit import slurm
from hpc_yolo.submit.freeze import Plan, materialise
from hpc_yolo.supervise.past import started_by
from hpc_yolo.types import ExitCode

_POLL_S = 1.0
#: For how long a job that is just ending is waited for, to see whether it comes back.
_ENDING_S = 60.0


def submit_all(plans: Sequence[Plan]) -> list[int]:
    """Bring each run into the queue, unless it is there or done; one line each. Returns an exit code a run.

    Raises:
        SlurmError: Slurm does not answer, or there is none here.
    """
    commands.require("sbatch")
    _say_that_we_are_inside_a_job()
    began = time.time()
    known = _entries([plan.run for plan in plans])
    codes: dict[int, int] = {}
    wanted: list[Plan] = []
    seen: set[Path] = set()
    for plan in plans:
        if plan.run.path in seen:  # values that are written in two ways, or that are no part of the run
            print(f"run {plan.frozen.id}: twice in this sweep; one is enough", flush=True)
            codes[id(plan)] = ExitCode.DONE
            continue
        seen.add(plan.run.path)
        try:
            if _is_to_be_submitted(plan, known):
                wanted.append(plan)
            else:
                codes[id(plan)] = ExitCode.DONE
        except HpcYoloError as error:
            codes[id(plan)] = _tell(error)
    for group in slurm.by_shape(wanted):
        codes |= _submit(group, began)
    return [int(codes[id(plan)]) for plan in plans]


def refuse_if_queued(run: RunDir) -> None:
    """Raises BusyError where a job of Slurm's stands for the run: it would be trained twice."""
    submission = newest_submission(run)
    if submission is None or submission.withdrawn:
        return
    try:
        entry = read_queue([submission.user]).get(submission.job)
    except commands.SlurmError:
        return  # no cluster here; the claim on the run still lets only one train it
    if entry is not None and not entry.has_ended:
        raise BusyError(
            f"{run.path} is in Slurm's queue as job {submission.job} ({entry.state.lower()}). "
            f"Take it out first: hpc-yolo cancel {run.path}"
        )


def _is_to_be_submitted(plan: Plan, known: dict[str, Entry]) -> bool:
    """Make the run's directory ready. False where it is done, or a job stands for it already; says so."""
    run, submission = plan.run, newest_submission(plan.run)
    if is_done(run):
        print(f"already done: {run.path}", flush=True)
        return False
    entry = known.get(submission.job) if submission else None
    if submission is not None and entry is not None and entry.state == "COMPLETING":
        entry = _after_its_end(submission)
    if submission is None or entry is None or entry.has_ended or submission.withdrawn:
        _refuse_if_trained_elsewhere(run)
        materialise(plan, is_free=True)
        return True
    is_other = launch_text(load_launch(run.launch_yaml)) != launch_text(plan.launch)
    if entry.state == "PENDING" and is_other:
        commands.cancel([submission.job], only_waiting=True)
        if (now := read_queue([submission.user]).get(submission.job)) is not None and not now.has_ended:
            _leave_alone(plan, submission, now, is_other)  # it has begun in this very moment
            return False
        note_withdrawal(run, submission.job, "replaced by a submission with other resources")
        print(f"run {plan.frozen.id}: job {submission.job} waited with other resources and is replaced", flush=True)
        materialise(plan, is_free=True)
        return True
    if is_other:
        write_launch(run, plan.launch)
    _leave_alone(plan, submission, entry, is_other)
    return False


def _leave_alone(plan: Plan, submission: Submission, entry: Entry, is_other: bool) -> None:
    if entry.is_held:
        commands.release(submission.job)
        print(f"run {plan.frozen.id}: job {submission.job} was held ({entry.reason}) and is released", flush=True)
        return
    where = f" on {entry.nodes}" if entry.nodes else ""
    reason = f" ({entry.reason})" if entry.state == "PENDING" and entry.reason else ""
    later = "; its next attempt takes the new settings, its resources stay" if is_other else ""
    state = "queued" if entry.state == "PENDING" else entry.state.lower()
    print(f"run {plan.frozen.id}: already {state} as job {submission.job}{where}{reason}{later}", flush=True)


def _after_its_end(submission: Submission) -> Entry | None:
    """A job that is completing comes back if it was requeued, and is gone if it was cancelled."""
    print(f"job {submission.job} is just ending; waiting to see whether it comes back", flush=True)
    until = time.monotonic() + _ENDING_S
    while True:
        entry = read_queue([submission.user]).get(submission.job)
        if entry is None or entry.state != "COMPLETING":
            return entry
        if time.monotonic() > until:
            raise BusyError(
                f"job {submission.job} has been completing for more than {_ENDING_S:.0f} s, so nobody knows whether it comes "
                "back. Submit it again once Slurm has let go of its node."
            )
        time.sleep(_POLL_S)


def _refuse_if_trained_elsewhere(run: RunDir) -> None:
    """Its job has ended; a worker of that job may still be on its way out, and the next job waits for it."""
    taken = occupant(run)
    if taken is not None and started_by(taken.attempt).get("job_id") is None:
        raise BusyError(
            f"{run.path} is being trained by process {taken.pid} on {taken.host}, outside of Slurm. Stop that first, or "
            f"follow it with `hpc-yolo logs -f {run.path}`."
        )


def _submit(group: list[Plan], began: float) -> dict[int, int]:
    try:
        jobs = slurm.submit(group, began)
    except HpcYoloError as error:  # sbatch says it once for the whole array
        code = _tell(error)
        for plan in group:
            note_refusal(plan.run, str(error))
        return {id(plan): code for plan in group}
    for plan, job in zip(group, jobs, strict=True):
        print(f"run {plan.frozen.id}: submitted as job {job}: {plan.run.path}", flush=True)
    return {id(plan): int(ExitCode.DONE) for plan in group}


def _entries(runs: Sequence[RunDir]) -> dict[str, Entry]:
    """What the queue knows of the jobs that stand for these runs; one squeue."""
    users = {submission.user for run in runs if (submission := newest_submission(run)) is not None}
    return {str(job): entry for job, entry in read_queue(users).items()} if users else {}


def _say_that_we_are_inside_a_job() -> None:
    if job := os.environ.get("SLURM_JOB_ID"):
        print(f"hpc-yolo: submitting from inside job {job}; its SLURM_* settings are not passed on", file=sys.stderr)


def _tell(error: HpcYoloError) -> int:
    print(f"hpc-yolo: {' '.join(str(error).split())}", file=sys.stderr, flush=True)
    return int(error.exit_code)
