"""Owns what a person does with runs that are under way or have stopped: cancel, preempt, requeue, resume. Here and on Slurm.

Of many runs, Slurm is asked once and told once.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from hpc_yolo.attempts import is_done
from hpc_yolo.config import Resubmit
from hpc_yolo.errors import ConfigError, HpcYoloError
from hpc_yolo.frozen import load_launch, load_run
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm import commands
from hpc_yolo.slurm.commands import SlurmError
from hpc_yolo.slurm.job import ALIVE
from hpc_yolo.slurm.queue import Entry, read_queue
from hpc_yolo.submissions import Submission, neighbours, newest_submission, note_withdrawal
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.supervise import drill
from hpc_yolo.types import ExitCode, JobId


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a run of which something was asked."""

    said: str
    """A line for the user; empty where it was said already."""
    code: int = ExitCode.DONE
    is_skipped: bool = False
    """Whether there was nothing to do."""


@dataclass(frozen=True, slots=True)
class _Queued:
    """A run that a job of Slurm's stands for, waiting or running."""

    run: RunDir
    submission: Submission
    entry: Entry

    @property
    def job(self) -> JobId:
        return self.submission.job

    @property
    def company(self) -> str:
        """Who else is told, where the job is told: the runs that share it."""
        names = ", ".join(it.path.name for it in neighbours(self.run, self.submission))
        return f", which {names} share" if "," in names else f", which {names} shares" if names else ""


@dataclass(frozen=True, slots=True)
class _Sorted:
    """The runs of one command, by who is to be told. `told` are those of which nothing can be asked."""

    queued: list[_Queued]
    others: list[RunDir]
    told: list[Outcome]


def worst(outcomes: Iterable[Outcome]) -> int:
    """The exit code of them all. A run that was skipped counts only where nothing was done at all."""
    every = list(outcomes)
    return max((it.code for it in [it for it in every if not it.is_skipped] or every), default=ExitCode.DONE)


def cancel(runs: Sequence[RunDir]) -> list[Outcome]:
    """Stop runs and let them stay stopped; those on Slurm with one scancel.

    A job that other runs share stays for them: its own run is taken out of it, which its supervisor sees.
    """
    found = _sort(runs, "cancel")
    wanted = {it.run.path for it in found.queued}
    shared = {
        it.job for it in found.queued if any(other.path not in wanted for other in neighbours(it.run, it.submission))
    }
    refused = _refused(commands.cancel, [it for it in found.queued if it.job not in shared])
    told = [_cancelled(it, refused, it.job in shared) for it in found.queued]
    return [*found.told, *told, *(_signal(run, drill.stop) for run in found.others)]


def _cancelled(it: _Queued, refused: dict[JobId, str], is_shared: bool) -> Outcome:
    what, why = f"cancelled job {it.job} of {it.run.path}", f"job {it.job} was cancelled on request"
    if is_shared:
        what, why = f"took {it.run.path} out of job {it.job}{it.company}", f"taken out of job {it.job} on request"
    if it.job not in refused:
        note_withdrawal(it.run, it.job, why)
    how = "it saves its state and ends" if it.entry.state == "RUNNING" else "it had not been running"
    return _told(it, refused, f"{what}; {how}. {_onward(it.run)}")


def preempt(runs: Sequence[RunDir]) -> list[Outcome]:
    """Warn runs as their scheduler would: a fire drill. Those on Slurm with one scancel."""
    found = _sort(runs, "preempt")
    running = [it for it in found.queued if it.entry.state == "RUNNING"]
    refused = _refused(commands.warn, running)
    told = []
    for it in found.queued:
        if it in running:
            warned = f"warned job {it.job} of {it.run.path} on {it.entry.nodes}{it.company}."
            told.append(_told(it, refused, f"{warned} It saves its state and is queued again."))
        else:
            told.append(_skipped(f"{it.run.path} is not running: {_state_of(it)}.", ExitCode.BAD_CONFIG))
    return [*found.told, *told, *(_signal(run, drill.preempt) for run in found.others)]


def requeue(runs: Sequence[RunDir]) -> list[Outcome]:
    """Hand running jobs back to Slurm now, and release held ones; one scontrol for each of both.

    Slurm warns a job that is requeued with SIGTERM, and ends it KillWait later (by default 30 s), as in a preemption.
    """
    found = _sort(runs, "requeue")
    running = [it for it in found.queued if it.entry.state in ALIVE]
    held = [it for it in found.queued if it.entry.is_held]
    refused = {**_refused(commands.requeue, running), **_refused(commands.release, held)}
    told = []
    for it in found.queued:
        if it in running:
            what = f"requeued job {it.job} of {it.run.path}{it.company}"
            told.append(_told(it, refused, f"{what}; it saves its state and is queued again"))
        elif it in held:
            told.append(
                _told(
                    it, refused, f"released job {it.job} of {it.run.path}{it.company}; it was held ({it.entry.reason})"
                )
            )
        else:
            told.append(_skipped(f"{it.run.path} needs no requeue: {_state_of(it)}."))
    return [*found.told, *told, *map(_not_on_slurm, found.others)]


def resume(runs: Sequence[RunDir]) -> list[Outcome]:
    """Go on with runs that have stopped, as they were last launched: submitted to Slurm together, or here, one by one."""
    told: list[Outcome] = []
    on_slurm: list[Plan] = []
    here: list[Plan] = []
    for run in runs:
        try:
            if is_done(run):
                told.append(_skipped(f"already done: {run.path}"))
                continue
            it = Plan(run, load_run(run), load_launch(run.launch_yaml))
            (on_slurm if it.launch.cluster.kind == "slurm" else here).append(it)
        except HpcYoloError as error:
            told.append(Outcome(str(error), error.exit_code))
    return [*told, *_submit(on_slurm), *_launch_here([it.run for it in here])]


def _submit(plans: list[Plan]) -> list[Outcome]:
    from hpc_yolo.submit.queue_up import submit_all  # submitit takes a moment

    try:
        return [Outcome("", code) for code in submit_all(plans, Resubmit.FAILED)] if plans else []
    except SlurmError as error:
        return [Outcome(str(error), error.exit_code)]


def _launch_here(runs: list[RunDir]) -> list[Outcome]:
    """In the foreground. After one that was stopped, by Ctrl-C or otherwise, the others are left alone."""
    if not runs:
        return []
    from hpc_yolo.submit.local import launch

    told: list[Outcome] = []
    free = _refuse_queued(runs, told)
    for run in free:
        try:
            told.append(Outcome("", launch(run, True)))
        except HpcYoloError as error:
            told.append(Outcome(str(error), error.exit_code))
        if told[-1].code in (ExitCode.STOPPED, 128 + 2) and run is not free[-1]:
            told.append(Outcome(f"{run.path} was stopped, so the others are left alone.", told[-1].code))
            break
    return told


def _refuse_queued(runs: list[RunDir], told: list[Outcome]) -> list[RunDir]:
    """Those that no job of Slurm's stands for; of the others it is told. Without an answer the claim on the run decides."""
    try:
        queued = {it.run.path: it for it in _queued(runs)}
    except SlurmError:
        return runs
    for it in queued.values():
        said = f"{it.run.path} is in Slurm's queue: {_state_of(it)}. Take it out first: hpc-yolo cancel {it.run.path}"
        told.append(Outcome(said, ExitCode.BUSY))
    return [run for run in runs if run.path not in queued]


def _sort(runs: Sequence[RunDir], verb: str) -> _Sorted:
    """One squeue for all. If Slurm does not answer, runs that it never had are still seen to."""
    done = [run for run in runs if is_done(run)]
    told = [_skipped(f"{run.path} is done: there is nothing to {verb}.") for run in done]
    left = [run for run in runs if run not in done]
    try:
        queued = _queued(left)
    except SlurmError as error:
        told.append(Outcome(str(error), error.exit_code))
        return _Sorted([], [run for run in left if newest_submission(run) is None], told)
    paths = {it.run.path for it in queued}
    return _Sorted(queued, [run for run in left if run.path not in paths], told)


def _queued(runs: Sequence[RunDir]) -> list[_Queued]:
    """Those that a living job stands for."""
    submissions = [(run, it) for run in runs if (it := newest_submission(run)) is not None and not it.withdrawn]
    entries = read_queue(it.user for _, it in submissions) if submissions else {}
    known = [(run, it, entries[it.job]) for run, it in submissions if it.job in entries]
    return [_Queued(run, it, entry) for run, it, entry in known if not entry.has_ended]


def _refused(tell: Callable[[list[JobId]], None], queued: Sequence[_Queued]) -> dict[JobId, str]:
    """Tell Slurm something of all these jobs in one call; what it says of those that it refuses.

    It goes on after a job that it refuses, and names it; where it names none, all are taken for refused.
    """
    jobs = list(dict.fromkeys(it.job for it in queued))  # runs may share one
    try:
        tell(jobs)
    except SlurmError as error:
        parts = re.split(r" (?=\w+: (?:error|fatal):)", str(error))
        named = {job: part for job in jobs for part in parts if re.search(rf"\b{re.escape(job)}\b", part)}
        return named or dict.fromkeys(jobs, str(error))
    return {}


def _signal(run: RunDir, send: Callable[[RunDir], str]) -> Outcome:
    try:
        return Outcome(send(run))
    except ConfigError as error:  # it is not running
        return _skipped(str(error), error.exit_code)
    except HpcYoloError as error:
        return Outcome(str(error), error.exit_code)


def _not_on_slurm(run: RunDir) -> Outcome:
    if drill.find_target(run) is not None:
        return _skipped(
            f"{run.path} runs here and not on Slurm. `hpc-yolo preempt {run.path}` warns it.", ExitCode.BAD_CONFIG
        )
    return _skipped(f"{run.path} is not in Slurm's queue. {_onward(run)}", ExitCode.BAD_CONFIG)


def _told(it: _Queued, refused: dict[JobId, str], said: str) -> Outcome:
    why = refused.get(it.job)
    return Outcome(said) if why is None else Outcome(f"{it.run.path}: {why}", ExitCode.BAD_CONFIG)


def _skipped(said: str, code: int = ExitCode.DONE) -> Outcome:
    return Outcome(said, code, is_skipped=True)


def _state_of(it: _Queued) -> str:
    reason = f" ({it.entry.reason})" if it.entry.reason else ""
    return f"job {it.job} is {it.entry.state.lower()}{reason}"


def _onward(run: RunDir) -> str:
    return f"`hpc-yolo resume {run.path}` goes on with it."
