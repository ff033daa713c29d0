"""Owns `train` on Slurm: what is queued or running is left alone, what waits with other resources is replaced, the rest goes.

Submitting the same thing twice never trains it twice: the queue is asked first, a lock lets one submission after the other
in, and a job that starts nevertheless is refused by the claim on the run.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from hpc_yolo.attempts import is_done, occupant
from hpc_yolo.config import Resubmit
from hpc_yolo.errors import BusyError, HpcYoloError
from hpc_yolo.frozen import is_launch, write_launch
from hpc_yolo.report.tables import counted
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm import commands
from hpc_yolo.slurm.limits import is_too_large, is_too_many, largest_array
from hpc_yolo.slurm.queue import Entry, read_queue
from hpc_yolo.slurm.strays import note_strays
from hpc_yolo.small_files import read_each
from hpc_yolo.submissions import (
    Jobs,
    Submission,
    neighbours,
    newest_submission,
    note_refusal,
    note_withdrawal,
    read_jobs,
)  # fmt: skip
from hpc_yolo.submit import slurm
from hpc_yolo.submit.freeze import Plan, materialise, put_aside
from hpc_yolo.submit.portions import Room, share
from hpc_yolo.submit.standing import Stand, Standing, standing_of
from hpc_yolo.submit.telling import Outcome, Telling
from hpc_yolo.supervise.past import started_by
from hpc_yolo.types import ExitCode, JobId

_POLL_S = 1.0
#: For how long a job that is just ending is waited for, to see whether it comes back.
_ENDING_S = 60.0
_HOWS = {
    Stand.NEW: Outcome.SUBMITTED,
    Stand.ONWARD: Outcome.ONWARD,
    Stand.BROKEN: Outcome.AGAIN,
    Stand.FAILED: Outcome.MENDED,
    Stand.DONE: Outcome.ANEW,
}


@dataclass(slots=True)
class _Submission:
    """One call of `submit_all`, under way."""

    began: float
    resubmit: Resubmit
    telling: Telling
    jobs: dict[Path, Jobs] = field(default_factory=dict)
    """Of each run, what its ledger of jobs says."""
    standings: dict[Path, Standing] = field(default_factory=dict)
    hows: dict[Path, Outcome] = field(default_factory=dict)
    """Of each run that is to be submitted, as what."""
    codes: dict[Path, int] = field(default_factory=dict)
    rooms: dict[tuple[str | None, ...], Room] = field(default_factory=dict)
    array_size: int | None = None

    def room_for(self, plan: Plan) -> Room:
        """Limits are of a partition, an account or a QOS, so what one of them refused says nothing of the others."""
        if self.array_size is None:
            self.array_size = largest_array()
        cluster = plan.launch.cluster
        return self.rooms.setdefault((cluster.partition, cluster.account, cluster.qos), Room(self.array_size))

    def conclude(self, plan: Plan, outcome: Outcome, line: str | None, code: int = ExitCode.DONE) -> None:
        self.codes[plan.run.path] = int(code)
        self.telling.tell(outcome, line, is_error=code != ExitCode.DONE)


def submit_all(plans: Sequence[Plan], resubmit: Resubmit = Resubmit.BROKEN) -> list[int]:
    """Bring each run into the queue, unless it is there or done; says what it does. Returns an exit code a run.

    Args:
        resubmit: which of those that have ended are to be trained again.

    Raises:
        SlurmError: Slurm does not answer, or there is none here.
    """
    commands.require("sbatch")
    _say_that_we_are_inside_a_job()
    distinct = list({plan.run.path: plan for plan in reversed(plans)}.values())[::-1]
    now = _Submission(time.time(), resubmit, Telling(len(distinct)))
    note_strays({plan.run.path.parent for plan in distinct})
    runs = [plan.run for plan in distinct]
    now.jobs = dict(zip((run.path for run in runs), read_each(read_jobs, runs), strict=True))
    known = _after_the_ends_of(runs, now)
    standings = read_each(lambda it: standing_of(it.run, it.launch, now.jobs[it.run.path]), distinct)
    now.standings = dict(zip((run.path for run in runs), standings, strict=True))
    wanted: list[Plan] = []
    for plan in _without_held(distinct, known, now):
        try:
            if _is_to_be_submitted(plan, known, now):
                wanted.append(plan)
        except BusyError as error:
            now.conclude(plan, Outcome.BUSY, _error_line(error), error.exit_code)
        except HpcYoloError as error:
            now.conclude(plan, Outcome.REFUSED, _error_line(error), error.exit_code)
    for group in slurm.by_shape(wanted):
        _submit(group, now)
    if len(distinct) > 1:
        print(now.telling.summary(), flush=True)
    return [now.codes[plan.run.path] for plan in plans]


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


def _is_to_be_submitted(plan: Plan, known: dict[str, Entry], now: _Submission) -> bool:
    """Make the run's directory ready. False where it is done, or a job stands for it already; says so."""
    run, submission, standing = plan.run, now.jobs[plan.run.path].submission, now.standings[plan.run.path]
    if standing.stand is Stand.DONE and now.resubmit is not Resubmit.ALL:
        now.conclude(plan, Outcome.DONE, f"already done: {run.path}")
        return False
    now.hows[run.path] = _HOWS[standing.stand]
    entry = known.get(submission.job) if submission else None
    if submission is not None and entry is not None and entry.state == "COMPLETING":
        raise BusyError(
            f"job {submission.job} has been completing for more than {_ENDING_S:.0f} s, so nobody knows whether it comes "
            "back. Submit it again once Slurm has let go of its node."
        )
    if submission is None or entry is None or entry.has_ended or submission.withdrawn:
        if not standing.is_to_be_trained(now.resubmit):
            now.conclude(plan, Outcome.LEFT, f"hpc-yolo: {standing.advice(run)}", standing.exit_code)
            return False
        _refuse_if_trained_elsewhere(run)
        if standing.stand is Stand.DONE:
            put_aside(run)
        materialise(plan, is_free=True)
        return True
    is_other = _wants_other_resources(plan)
    if entry.state == "PENDING" and is_other:
        others = neighbours(run, submission)
        if not others:
            commands.cancel([submission.job], only_waiting=True)
        later = None if submission.beside else read_queue([submission.user]).get(submission.job)
        if later is not None and not later.has_ended:
            _leave_alone(plan, submission, later, is_other, now)  # it has begun in this very moment
            return False
        now.hows[run.path] = Outcome.SUBMITTED
        note_withdrawal(run, submission.job, "replaced by a submission with other resources")
        kept = "; the job stays for those that share it" if others else ""
        print(
            f"run {plan.frozen.id}: job {submission.job} waited with other resources and is replaced{kept}", flush=True
        )
        materialise(plan, is_free=True)
        return True
    if is_other:
        write_launch(run, plan.launch)
    _leave_alone(plan, submission, entry, is_other, now)
    return False


def _leave_alone(plan: Plan, submission: Submission, entry: Entry, is_other: bool, now: _Submission) -> None:
    outcome = Outcome.QUEUED if entry.state == "PENDING" else Outcome.RUNNING
    where = f" on {entry.nodes}" if entry.nodes else ""
    reason = f" ({entry.reason})" if entry.state == "PENDING" and entry.reason else ""
    later = "; its next attempt takes the new settings, its resources stay" if is_other else ""
    state = "queued" if entry.state == "PENDING" else entry.state.lower()
    line = f"run {plan.frozen.id}: already {state} as job {submission.job}{where}{reason}{later}"
    now.conclude(plan, outcome, line)


def _wants_other_resources(plan: Plan) -> bool:
    return not is_launch(plan.run.launch_yaml, plan.launch)


def _without_held(plans: Sequence[Plan], known: dict[str, Entry], now: _Submission) -> list[Plan]:
    """Release the jobs that are held and are what is wanted, all in one call; returns the other plans."""
    held: list[tuple[JobId, Plan]] = []
    for plan in plans:
        submission, stand = now.jobs[plan.run.path].submission, now.standings[plan.run.path].stand
        entry = known.get(submission.job) if submission and not submission.withdrawn else None
        if submission is not None and entry is not None and entry.is_held and stand is not Stand.DONE:
            with suppress(HpcYoloError):  # one whose launch.yaml cannot be read is told of later
                held += [] if _wants_other_resources(plan) else [(submission.job, plan)]
    try:
        commands.release(dict(held))
    except commands.SlurmError as error:
        for _, plan in held:
            now.conclude(plan, Outcome.REFUSED, _error_line(error), error.exit_code)
    else:
        for job, plan in held:
            line = f"run {plan.frozen.id}: job {job} was held ({known[job].reason}) and is released"
            now.conclude(plan, Outcome.QUEUED, line)
    settled = {plan.run.path for _, plan in held}
    return [plan for plan in plans if plan.run.path not in settled]


def _after_the_ends_of(runs: Sequence[RunDir], now: _Submission) -> dict[str, Entry]:
    """What the queue knows of their jobs, once none of them is just ending.

    One that is completing comes back if it was requeued, and is gone if it was cancelled; all are waited for together.
    """
    known = entries_of(it.submission for it in now.jobs.values())
    until = time.monotonic() + _ENDING_S
    told: set[JobId] = set()
    while ending := [run for run in runs if _is_ending(now.jobs[run.path].submission, known) and not is_done(run)]:
        jobs = {it.job for run in ending if (it := now.jobs[run.path].submission) is not None}
        for job in sorted(jobs - told):
            print(f"job {job} is just ending; waiting to see whether it comes back", flush=True)
        told |= jobs
        if time.monotonic() > until:
            break
        time.sleep(_POLL_S)
        now.jobs |= {run.path: read_jobs(run) for run in ending}
        known = entries_of(it.submission for it in now.jobs.values())
    return known


def _is_ending(submission: Submission | None, known: Mapping[str, Entry]) -> bool:
    entry = known.get(submission.job) if submission is not None else None
    return entry is not None and entry.state == "COMPLETING"


def _refuse_if_trained_elsewhere(run: RunDir) -> None:
    """Its job has ended; a worker of that job may still be on its way out, and the next job waits for it."""
    attempts = run.attempts()
    if not attempts or started_by(attempts[-1]).get("job_id") is not None:
        return
    taken = occupant(run)
    if taken is not None:
        raise BusyError(
            f"{run.path} is being trained by process {taken.pid} on {taken.host}, outside of Slurm. Stop that first, or "
            f"follow it with `hpc-yolo logs -f {run.path}`."
        )


def _submit(group: Sequence[Plan], now: _Submission) -> None:
    """Submit runs of one shape with as few calls of sbatch as the site allows, and as many runs."""
    room, left, cluster = now.room_for(group[0]), list(group), group[0].launch.cluster
    of = cluster.jobs_for(len(group))
    while left and (count := room.next(cluster.jobs_for(len(left)))):
        parallelism = share(cluster.jobs_at_once, of - cluster.jobs_for(len(left)), count, of)
        several = left[: count * cluster.runs_per_gpu]
        try:
            made = slurm.submit(several, now.began, parallelism)
        except HpcYoloError as error:
            said = str(error)
            if is_too_large(said) and room.shrink(count):
                continue
            if is_too_many(said):
                room.refuse(count, said)
                continue
            is_unknown = isinstance(error, commands.NoAnswerError)
            _refuse(left, now, said, ExitCode.STOPPED if is_unknown else error.exit_code)
            return
        for plan in several:
            _tell_submitted(plan, made, now)
        room.take(len(set(made.jobs.values())))
        left = left[len(several) :]
    if left:
        _refuse_for_now(left, now, room.refusal)


def _tell_submitted(plan: Plan, made: slurm.Submitted, now: _Submission) -> None:
    if (error := made.busy.get(plan.run.path)) is not None:
        now.conclude(plan, Outcome.BUSY, _error_line(error), error.exit_code)
        return
    how = now.hows[plan.run.path]
    remark = "" if how is Outcome.SUBMITTED else f" ({how.value})"
    line = f"run {plan.frozen.id}: submitted as job {made.jobs[plan.run.path]}{remark}: {plan.run.path}"
    now.conclude(plan, how, line)


def _refuse(plans: Sequence[Plan], now: _Submission, said: str, code: int) -> None:
    """Slurm says it once for all of them."""
    print(f"hpc-yolo: {said}", file=sys.stderr, flush=True)
    for plan in plans:
        note_refusal(plan.run, said)
        now.conclude(plan, Outcome.REFUSED, None, code)


def _refuse_for_now(plans: Sequence[Plan], now: _Submission, said: str) -> None:
    print(f"hpc-yolo: {said}", file=sys.stderr, flush=True)
    print(
        f"hpc-yolo: that is as many as may be submitted at this moment. {counted(len(plans), 'run')} had to wait: the same "
        "command later submits the rest.",
        file=sys.stderr,
        flush=True,
    )
    for plan in plans:
        note_refusal(plan.run, f"{said} (for now; the same command later submits it)")
        now.conclude(plan, Outcome.REFUSED, None, ExitCode.STOPPED)


def entries_of(submissions: Iterable[Submission | None]) -> dict[str, Entry]:
    """What the queue knows of the jobs of their users; one squeue, or none where there is no job."""
    users = {submission.user for submission in submissions if submission is not None}
    return {str(job): entry for job, entry in read_queue(users).items()} if users else {}


def _say_that_we_are_inside_a_job() -> None:
    if job := os.environ.get("SLURM_JOB_ID"):
        print(f"hpc-yolo: submitting from inside job {job}; its SLURM_* settings are not passed on", file=sys.stderr)


def _error_line(error: HpcYoloError) -> str:
    return f"hpc-yolo: {' '.join(str(error).split())}"
