"""Owns cluster=slurm: handing runs to Slurm through submitit, each as a job or all of one shape as an array."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from submitit.core import core, utils
from submitit.slurm import slurm as submitit_slurm

from hpc_yolo.config import ClusterConfig
from hpc_yolo.errors import BusyError
from hpc_yolo.frozen import canonical
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm import commands
from hpc_yolo.slurm.limits import QUEUE_IS_FULL, is_too_large, is_too_many
from hpc_yolo.slurm.queue import read_comments
from hpc_yolo.slurm.strays import find_job
from hpc_yolo.submissions import (
    by_job,
    mark_of,
    note_intent,
    note_submission,
    read_intents,
    refuse_if_submitted_since,
    settle,
    submitting,
    task_ids,
)  # fmt: skip
from hpc_yolo.submit import script
from hpc_yolo.submit.folders import make_folder
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.supervise.pack import PackTask
from hpc_yolo.supervise.task import TrainTask
from hpc_yolo.types import JobId

#: Submitit's own budget, out of the way: ours decide (retry.*).
_NO_LIMIT_TIMEOUTS = 10**9
_NO_LIMIT_MIN = 60 * 24 * 3650


class Executor(submitit_slurm.SlurmExecutor):
    """Submitit's Slurm executor, but that a job finds its pickle by itself.

    Submitit moves the pickles to their jobs' names after sbatch has returned; a login shell that dies between the two
    strands the jobs. Here they have fixed names, and the job's script makes the link.
    """

    def __init__(self, folder: Path, cluster: ClusterConfig, name: str, comment: str) -> None:
        super().__init__(folder, max_num_timeout=_NO_LIMIT_TIMEOUTS, python=script.python_words(sys.executable))
        self.job: JobId | None = None
        """As Slurm named it: an array's own id, without an index."""
        self._cluster = cluster
        self.update_parameters(
            **script.options(cluster, name, comment),
            setup=script.setup(cluster, Path(folder), sys.executable),
            teardown=script.teardown(Path(folder)),
        )

    def text(self, count: int) -> str:
        """The script that submits so many tasks."""
        if count > 1:
            self.parameters["map_count"] = count
        text = self._make_submission_file_text(self._submitit_command_str, "")
        return script.without_unset(str(text), self._cluster)

    def _internal_process_submissions(self, delayed_submissions: list[utils.DelayedSubmission]) -> list[core.Job[Any]]:
        folder = Path(self.folder)
        for number, delayed in enumerate(delayed_submissions):
            delayed.set_timeout(_NO_LIMIT_MIN, self.max_num_timeout)
            delayed.dump(folder / script.PICKLE.format(number))
        count = len(delayed_submissions)
        file = folder / "submission.sh"
        file.write_text(self.text(count), encoding="utf-8")
        self.job = commands.sbatch(file, give_up_on=QUEUE_IS_FULL)
        return [submitit_slurm.SlurmJob(folder=folder, job_id=it, tasks=[0]) for it in task_ids(self.job, count)]


def script_of(plans: Sequence[Plan], parallelism: int | None = None) -> str:
    """The exact script that `submit` would hand to sbatch for these plans of one shape; writes nothing."""
    commands.require("srun")
    folder = plans[0].run.submitit_dir / "NAME"
    return _executor(folder, plans, parallelism).text(len(_jobs(plans)))


@dataclass(frozen=True, slots=True)
class Submitted:
    """What became of the runs that were to be submitted together, by their paths."""

    jobs: dict[Path, JobId]
    busy: dict[Path, BusyError]
    """Those that somebody else submits at this moment."""


def submit(plans: Sequence[Plan], began: float | None = None, parallelism: int | None = None) -> Submitted:
    """Submit frozen runs of one shape with one sbatch: one job as such, several as an array. Each run remembers its job.

    Args:
        began: when the queue was asked whether they are there (seconds since the epoch).
        parallelism: how many jobs may run at once.

    Raises:
        NoAnswerError: sbatch took too long; they may have been submitted nevertheless.
        SlurmError: sbatch refused; its own words.
        BusyError: another submission below the same folder does not come to its end.
    """
    commands.require("sbatch")
    commands.require("srun")
    began = time.time() if began is None else began
    busy: dict[Path, BusyError] = {}
    free: list[Plan] = []
    with submitting(plans[0].run.path.parent):
        for plan in plans:
            try:
                refuse_if_submitted_since(plan.run, began)
            except BusyError as error:
                busy[plan.run.path] = error
            else:
                free.append(plan)
        jobs = _submit_together(free, parallelism) if free else []
    return Submitted({plan.run.path: job for plan, job in zip(free, jobs, strict=True)}, busy)


def _submit_together(plans: Sequence[Plan], parallelism: int | None) -> list[JobId]:
    first = plans[0].run
    folder = make_folder(first, first.path.name if len(plans) == 1 else "array")
    note_intent(folder, [it.run for it in plans], plans[0].launch.cluster.runs_per_gpu)
    job = _submit_from(folder, plans, parallelism)
    jobs: list[JobId] = []
    together = _jobs(plans)
    for runs, task in zip(together, task_ids(job, len(together)), strict=True):
        for run in runs:
            note_submission(run, task, folder, together=runs)
            jobs.append(task)
    settle(folder, f"job {job}")
    return jobs


def _jobs(plans: Sequence[Plan]) -> list[Sequence[RunDir]]:
    """The runs that each job is to train."""
    return by_job([it.run for it in plans], plans[0].launch.cluster.runs_per_gpu)


def _task_of(runs: Sequence[RunDir]) -> TrainTask:
    paths = [str(run.path.absolute()) for run in runs]
    return TrainTask(paths[0]) if len(paths) == 1 else PackTask(paths)


def _submit_from(folder: Path, plans: Sequence[Plan], parallelism: int | None) -> JobId:
    executor = _executor(folder, plans, parallelism)
    try:
        with executor.batch():
            for runs in _jobs(plans):
                executor.submit(_task_of(runs))
    except commands.NoAnswerError as error:
        return _look_for_job(folder, plans[0].run.path.parent, error)
    except commands.SlurmError as error:
        if is_too_many(str(error)) or is_too_large(str(error)):
            shutil.rmtree(folder, ignore_errors=True)  # one of several tries
        else:
            settle(folder, str(error))
        raise
    assert executor.job is not None
    return executor.job


def _look_for_job(folder: Path, experiment: Path, error: commands.NoAnswerError) -> JobId:
    """A controller that is slow may have taken the job, or may yet take it: the folder stays unsettled then."""
    (intent,) = [it for it in read_intents(experiment) if it.folder == folder]
    try:
        job = find_job(intent, read_comments([intent.user]))
    except commands.SlurmError:
        job = None
    if job is None:
        raise commands.NoAnswerError(
            f"{error} Should Slurm have taken it nevertheless, `hpc-yolo status` or the same command finds the job."
        ) from error
    return job


def by_shape(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Plans that ask for the same resources, below the same folder, together; in their order."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        shape = canonical([asdict(plan.launch.cluster), str(plan.run.path.parent)])
        groups.setdefault(shape, []).append(plan)
    return list(groups.values())


def _executor(folder: Path, plans: Sequence[Plan], parallelism: int | None) -> Executor:
    first = plans[0]
    is_one = len(plans) == 1
    name = f"hpc-yolo-{first.frozen.name}" + (f"-{first.frozen.id}" if is_one else "")
    what = str(first.run.path) if is_one else f"{first.run.path.parent} ({len(plans)} runs)"
    comment = f"{what} {mark_of(folder)}"
    return Executor(folder, replace(first.launch.cluster, array_parallelism=parallelism), name, comment)
