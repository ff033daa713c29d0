"""Owns cluster=local: handing a run to a controller on this machine, through submitit."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any, TextIO

from submitit.local import local

from hpc_yolo.attempts import occupant
from hpc_yolo.errors import BusyError
from hpc_yolo.frozen import load_launch
from hpc_yolo.report.progress import ProgressView
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.folders import make_folder
from hpc_yolo.submit.foreground import Foreground, Submission
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.drill import find_target
from hpc_yolo.supervise.task import TrainTask
from hpc_yolo.types import ExitCode

#: Submitit takes every job under ten minutes for timed out, and gives up after so many timeouts. Ours have no limit.
_NO_LIMIT_MIN = 60 * 24 * 3650
_NO_LIMIT_TIMEOUTS = 10**9


def launch(run: RunDir, wait: bool, *, task: TrainTask | None = None, stream: TextIO | None = None) -> int:
    """Train `run` on this machine.

    Args:
        wait: stay, show progress and return the outcome; else return 0 as soon as it is on its way.
        task: what is submitted; a TrainTask of the run.
        stream: where progress goes; stdout.

    Returns:
        0 done, 75 stopped with its state saved, 130 killed by a second Ctrl-C, else the failure's code.

    Raises:
        BusyError: the run is being trained already.
        ConfigError, StorageError: it cannot be submitted.
    """
    out = sys.stdout if stream is None else stream
    view = ProgressView(run, out) if wait else None
    submission = submit(run, wait, task)
    if view is not None:
        return Foreground(submission, view, out).wait()
    print(f"training in the background; follow it with `hpc-yolo logs -f {run.path}`", file=out, flush=True)
    return ExitCode.DONE


def submit(run: RunDir, wait: bool, task: TrainTask | None = None) -> Submission:
    """Hand the run to a controller of its own; if we are to wait for it, it stops the run when we die."""
    _refuse_if_taken(run)
    grace_s = load_launch(run.launch_yaml).retry.grace_s
    run = RunDir(run.path.absolute())
    before = len(run.attempts())
    executor = Executor(make_folder(run, run.path.name), run, grace_s, os.getpid() if wait else None)
    job = executor.submit(task or TrainTask(str(run.path)))
    return Submission(run, job._process, job.paths.stderr, before)


class Executor(local.LocalExecutor):
    """Submitit's local executor with our controller in place of its own."""

    def __init__(self, folder: Path, run: RunDir, grace_s: float, parent: int | None) -> None:
        super().__init__(folder, max_num_timeout=_NO_LIMIT_TIMEOUTS)
        self.update_parameters(timeout_min=_NO_LIMIT_MIN)
        self._run, self._grace_s, self._parent = run, grace_s, parent

    def _submit_command(self, command: str) -> Any:  # noqa: ARG002 (the controller knows it)
        controller = [sys.executable, "-m", "hpc_yolo.submit.controller", str(self.folder), str(self._run.path)]
        controller += ["--grace-s", str(self._grace_s)]
        controller += [] if self._parent is None else ["--parent", str(self._parent)]
        with (self.folder / "controller.log").open("ab") as log, tree.warnings_blocked():
            process = subprocess.Popen(
                controller,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **_environment()},
                start_new_session=True,  # neither a terminal's Ctrl-C nor its end reaches it
            )
        return local.LocalJob(folder=self.folder, job_id=str(process.pid), process=process)


def _environment() -> dict[str, str]:
    """What submitit's task asks its environment for. CUDA_VISIBLE_DEVICES stays as it is."""
    return {
        "SUBMITIT_EXECUTOR": "local",
        "SUBMITIT_PREEMPT_SIGNAL": "USR1",
        "SUBMITIT_LOCAL_NTASKS": "1",
        "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
        "SUBMITIT_LOCAL_NODEID": "0",
    }


def _refuse_if_taken(run: RunDir) -> None:
    taken, supervisor = occupant(run), find_target(run)  # a supervisor between two attempts occupies nothing
    who = f"process {taken.pid} on {taken.host}" if taken is not None and taken.pid else "a process just starting"
    if supervisor is not None:
        who = f"process {supervisor.pid} here"
    if taken is not None or supervisor is not None:
        raise BusyError(
            f"{run.path} is being trained already, by {who}. "
            f"Follow it with `hpc-yolo logs -f {run.path}`, or stop it first."
        )
