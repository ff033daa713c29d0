"""Owns cluster=slurm: handing runs to Slurm through submitit, each as a job or all of one shape as an array."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from submitit.core import core, utils
from submitit.slurm import slurm as submitit_slurm

from hpc_yolo.config import ClusterConfig
from hpc_yolo.frozen import canonical
from hpc_yolo.slurm import commands
from hpc_yolo.submissions import note_submission, submitting
from hpc_yolo.submit import script
from hpc_yolo.submit.folders import make_folder
from hpc_yolo.submit.freeze import Plan
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
        job = commands.sbatch(file)
        ids = [job] if count == 1 else [f"{job}_{number}" for number in range(count)]
        return [submitit_slurm.SlurmJob(folder=folder, job_id=it, tasks=[0]) for it in ids]


def script_of(plans: Sequence[Plan]) -> str:
    """The exact script that `submit` would hand to sbatch for these plans of one shape; writes nothing."""
    commands.require("srun")
    folder = plans[0].run.submitit_dir / "NAME"
    return _executor(folder, plans).text(len(plans))


def submit(plans: Sequence[Plan], began: float | None = None) -> list[JobId]:
    """Submit frozen runs of one shape: one as a job, several as an array. Each run remembers its job.

    Args:
        began: when the queue was asked whether they are there (seconds since the epoch).

    Raises:
        SlurmError: sbatch refused; its own words.
        BusyError: one of them is being submitted by somebody else right now.
    """
    commands.require("sbatch")
    commands.require("srun")
    began = time.time() if began is None else began
    with ExitStack() as locks:
        for plan in plans:
            locks.enter_context(submitting(plan.run, since=began))
        first = plans[0].run
        folder = make_folder(first, first.path.name if len(plans) == 1 else "array")
        (folder / "runs.json").write_text(json.dumps([str(it.run.path) for it in plans], indent=1), encoding="utf-8")
        executor = _executor(folder, plans)
        with executor.batch():
            jobs = [executor.submit(TrainTask(str(plan.run.path.absolute()))) for plan in plans]
        ids = [JobId(str(job.job_id)) for job in jobs]
        for plan, job in zip(plans, ids, strict=True):
            note_submission(plan.run, job, folder)
    return ids


def by_shape(plans: Sequence[Plan]) -> list[list[Plan]]:
    """Plans that ask for the same resources, below the same folder, together; in their order."""
    groups: dict[str, list[Plan]] = {}
    for plan in plans:
        shape = canonical([asdict(plan.launch.cluster), str(plan.run.path.parent)])
        groups.setdefault(shape, []).append(plan)
    return list(groups.values())


def _executor(folder: Path, plans: Sequence[Plan]) -> Executor:
    first = plans[0]
    is_one = len(plans) == 1
    name = f"hpc-yolo-{first.frozen.name}" + (f"-{first.frozen.id}" if is_one else "")
    comment = str(first.run.path) if is_one else f"{first.run.path.parent} ({len(plans)} runs, see {folder}/runs.json)"
    return Executor(folder, first.launch.cluster, name, comment)
