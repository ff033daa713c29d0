"""Owns what a person does with a run that is under way or has stopped: cancel, preempt, resume. Alike here and on Slurm."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hpc_yolo.attempts import is_done
from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import load_launch, load_run
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm import commands
from hpc_yolo.slurm.queue import Entry, read_queue
from hpc_yolo.submissions import Submission, newest_submission, note_withdrawal
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.supervise import drill
from hpc_yolo.types import ExitCode, JobId


@dataclass(frozen=True, slots=True)
class _Queued:
    """A run that a job of Slurm's stands for, waiting or running."""

    run: RunDir
    submission: Submission
    entry: Entry


def cancel(runs: Sequence[RunDir]) -> list[str]:
    """Stop runs and let them stay stopped; those on Slurm with one scancel. A line for the user each.

    Raises:
        ConfigError, BusyError: there is nothing to stop.
        SlurmError
    """
    queued = _queued(runs)
    told = [drill.stop(run) for run in runs if run.path not in queued]
    commands.cancel(it.submission.job for it in queued.values())
    for it in queued.values():
        note_withdrawal(it.run, it.submission.job, f"job {it.submission.job} was cancelled on request")
        how = "it saves its state and ends" if it.entry.state == "RUNNING" else "it had not been running"
        told.append(f"cancelled job {it.submission.job} of {it.run.path}; {how}. {_onward(it.run)}")
    return told


def preempt(runs: Sequence[RunDir]) -> list[str]:
    """Warn runs as their scheduler would: a fire drill. A line for the user each.

    Raises:
        ConfigError, BusyError: one of them is not running.
        SlurmError
    """
    queued = _queued(runs)
    waiting = [it for it in queued.values() if it.entry.state != "RUNNING"]
    if waiting:
        it = waiting[0]
        raise ConfigError(
            f"{it.run.path} is not running: job {it.submission.job} is {it.entry.state.lower()} ({it.entry.reason})."
        )
    told = [drill.preempt(run) for run in runs if run.path not in queued]
    commands.warn(it.submission.job for it in queued.values())
    told += [
        f"warned job {it.submission.job} of {it.run.path} on {it.entry.nodes}. It saves its state and is queued again."
        for it in queued.values()
    ]
    return told


def resume(run: RunDir) -> int:
    """Go on with a run that has stopped, as it was last launched: submitted to Slurm again, or here in the foreground.

    Raises:
        HpcYoloError: it cannot be launched; it carries its exit code.
    """
    if is_done(run):
        print(f"already done: {run.path}", flush=True)
        return ExitCode.DONE
    frozen, launch = load_run(run), load_launch(run.launch_yaml)
    if launch.cluster.kind == "slurm":
        from hpc_yolo.submit.queue_up import submit_all

        return submit_all([Plan(run, frozen, launch)])[0]
    from hpc_yolo.submit.local import launch as launch_here
    from hpc_yolo.submit.queue_up import refuse_if_queued

    refuse_if_queued(run)
    return launch_here(run, True)


def _queued(runs: Sequence[RunDir]) -> dict[object, _Queued]:
    """Those that a living job stands for, by their path; one squeue."""
    submissions = {run.path: it for run in runs if (it := newest_submission(run)) is not None and not it.withdrawn}
    entries: dict[JobId, Entry] = read_queue(it.user for it in submissions.values()) if submissions else {}
    found: dict[object, _Queued] = {}
    for run in runs:
        submission = submissions.get(run.path)
        entry = entries.get(submission.job) if submission else None
        if submission is not None and entry is not None and not entry.has_ended:
            found[run.path] = _Queued(run, submission, entry)
    return found


def _onward(run: RunDir) -> str:
    return f"`hpc-yolo resume {run.path}` goes on with it."
