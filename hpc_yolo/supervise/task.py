"""Owns what submitit pickles and calls: one run's supervisor, and what its signals mean. Holds no state."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Any, Protocol

from submitit.helpers import DelayedSubmission

from hpc_yolo.config import RetryConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import load_launch
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.snapshot.expiry import expire_all
from hpc_yolo.supervise.allocation import Allocation, allocation_of
from hpc_yolo.supervise.follower import Follower, Node
from hpc_yolo.supervise.policy import Decision, Next
from hpc_yolo.supervise.siblings import start_looking
from hpc_yolo.supervise.supervisor import POLL_S, Supervisor
from hpc_yolo.supervise.tree import unblock_warnings
from hpc_yolo.types import ExitCode

#: Set by our local controller: its pid. A supervisor with a controller does not outlive it by more than a saved stop.
CONTROLLER_VARIABLE = "HPC_YOLO_CONTROLLER_PID"


class Lead(Protocol):
    """Who does a task's work, in a thread of its own."""

    def start(self) -> None: ...

    def warn(self, signum: signal.Signals) -> None: ...

    def is_over(self) -> bool: ...

    def conclude(self) -> Decision: ...


class TrainTask:
    """Supervises one run until it is done, has failed, was stopped, or is to be requeued.

    The pickle holds the run directory's path and nothing else: after a node failure the first pickle is started again.
    """

    #: Whether submitit, where it is, is who calls: on the first node its handler of SIGUSR1 calls `checkpoint`.
    is_called_by_submitit = True

    def __init__(self, run_dir: str) -> None:
        self.run_dir = run_dir
        self._supervisor: Lead | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {"run_dir": self.run_dir, "_supervisor": None}

    def __call__(self) -> None:
        """Called by submitit once its own handlers stand.

        Raises:
            SystemExit: with the supervisor's exit code, unless the run is done. Submitit lets it pass.
        """
        node = Node.of()
        supervisor = self._supervisor_on(node)
        self._supervisor = supervisor
        _take_signals(supervisor, is_called=_is_under_submitit() and self.is_called_by_submitit and node.number == 0)
        supervisor.start()
        unblock_warnings()
        if _is_on_slurm() and self.is_called_by_submitit and node.number == 0:
            start_looking(RunDir(Path(self.run_dir)))
        while not supervisor.is_over():
            time.sleep(POLL_S)
            if _is_orphaned():
                supervisor.warn(signal.SIGTERM)
        _ignore_warnings()  # Python puts the default actions back while it shuts down: one more warning would kill us
        code = _code_of(supervisor.conclude())
        if node.number == 0:
            self.allocation().leave(code)
            if code == ExitCode.DONE:
                expire_all(Path(self.run_dir).parent)
        if code:
            sys.exit(code)

    def checkpoint(self) -> DelayedSubmission:
        """Called by submitit's handler of SIGUSR1, in the middle of `__call__`: stop, then have the task started again.

        On Slurm the supervisor itself hands the job back. Submitit's own way (write the pickle anew, one `scontrol requeue`
        that must succeed) fails where Slurm has requeued first, and there is nothing in our pickle to write anew.

        Raises:
            SystemExit: on Slurm always; else if there is nothing to requeue: the run is done, has failed, or was stopped.
        """
        _ignore_warnings()
        if self._supervisor is not None:
            self._supervisor.warn(signal.SIGUSR1)
            while not self._supervisor.is_over():
                time.sleep(POLL_S)
            verdict = self._supervisor.conclude()
            if verdict.next is not Next.REQUEUE or _is_on_slurm():
                self.allocation().leave(_code_of(verdict))
                sys.exit(_code_of(verdict))
        if _is_on_slurm():
            sys.exit(int(ExitCode.STOPPED))  # before the first line of ours: the job's script requeues
        return DelayedSubmission(self)

    def allocation(self) -> Allocation:
        return allocation_of()

    def _supervisor_on(self, node: Node) -> Lead:
        run, allocation = RunDir(Path(self.run_dir)), self.allocation()
        if node.number > 0:
            return Follower(run, self.worker_command, self.ranks_of, node, allocation.identity())
        return Supervisor(run, self.worker_command, self.retry_of, allocation, ranks_of=self.ranks_of, nodes=node.count)

    def worker_command(self, attempt: AttemptDir) -> list[str]:
        return [sys.executable, "-m", "hpc_yolo", "run", self.run_dir, "--attempt", str(attempt.number)]

    def ranks_of(self, attempt: AttemptDir) -> int:
        return load_launch(attempt.launch_yaml).cluster.ranks_per_node

    def retry_of(self, attempt: AttemptDir) -> RetryConfig:
        return load_launch(attempt.launch_yaml).retry


def train_group(run: RunDir) -> int:
    """Train a run of several ranks on this machine, in the foreground and without a scheduler; returns the exit code.

    Raises:
        ConfigError: it needs several nodes, which a scheduler must give.
    """
    cluster = load_launch(run.launch_yaml).cluster
    if (cluster.nodes or 1) > 1:
        raise ConfigError(
            f"{run.path} is trained by {cluster.world_size} ranks on {cluster.nodes} nodes, which takes a scheduler: "
            f"hpc-yolo resume {run.path}"
        )
    where = f"their output goes to {run.path}/attempts (`hpc-yolo logs -f {run.path}`)"
    print(f"hpc-yolo: training with {cluster.world_size} ranks; {where}", file=sys.stderr, flush=True)
    try:
        TrainTask(str(run.path))()
    except SystemExit as left:
        return int(left.code or 0)
    return ExitCode.DONE


def _take_signals(supervisor: Lead, *, is_called: bool) -> None:
    """Submitit only logs SIGTERM. Here it means stop, and under Slurm whatever Slurm says that it meant.

    Args:
        is_called: submitit's own handler of SIGUSR1 stands, and calls `checkpoint`.
    """

    def warn(signum: int, _frame: FrameType | None) -> None:
        supervisor.warn(signal.Signals(signum))

    signal.signal(signal.SIGTERM, warn)
    if not is_called:
        signal.signal(signal.SIGUSR1, warn)
    if not _is_on_slurm():
        signal.signal(signal.SIGINT, warn)


def _is_under_submitit() -> bool:
    return "SUBMITIT_EXECUTOR" in os.environ


def _is_on_slurm() -> bool:
    return os.environ.get("SUBMITIT_EXECUTOR") == "slurm"


def _code_of(verdict: Decision) -> int:
    """What to leave with. On Slurm 75 asks the job's script to requeue: it does what we could not, and nothing else."""
    if not _is_on_slurm() or verdict.exit_code == ExitCode.BUSY:
        return int(verdict.exit_code)
    if verdict.next is Next.REQUEUE:
        return int(ExitCode.STOPPED)
    is_final = verdict.next in (Next.FAIL, Next.HOLD, Next.STOP)
    return int(ExitCode.BUG if is_final and verdict.exit_code == ExitCode.STOPPED else verdict.exit_code)


def _ignore_warnings() -> None:
    """From here on the end is decided. A second warning inside submitit's handler would requeue twice or not at all."""
    for signum in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM):
        signal.signal(signum, signal.SIG_IGN)


def _is_orphaned() -> bool:
    controller = os.environ.get(CONTROLLER_VARIABLE)
    return controller is not None and os.getppid() != int(controller)
