"""Owns runs that share a job: a supervisor for each, in a process of its own, and one end of the job for all of them.

What a run does touches no other: it has its own attempts, budgets and warnings. A run that has ended leaves the others going;
the job goes back to Slurm when none is going any more, once, and then only those come again that have not ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpc_yolo.attempts import is_done
from hpc_yolo.rundir import RunDir
from hpc_yolo.submissions import newest_submission, note_withdrawal, stands_for
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.follower import Node
from hpc_yolo.supervise.log import say
from hpc_yolo.supervise.policy import DONE, Decision, Next, failure_code
from hpc_yolo.supervise.shared_allocation import SharedAllocation, note_killed
from hpc_yolo.supervise.slurm_allocation import SlurmAllocation
from hpc_yolo.supervise.supervisor import POLL_S
from hpc_yolo.supervise.task import CONTROLLER_VARIABLE, TrainTask
from hpc_yolo.types import ExitCode, StopReason

#: How often a run's supervisor looks whether the run was cancelled alone.
_LOOK_S = 5.0
#: How often a supervisor is started that is killed, or warned alone, in one start of the job. Then its run waits for the next.
_MOST_STARTS = 4
#: For how long Slurm is asked to take the job back; what is left of the grace period is little. Then the job's script asks.
_HAND_BACK_S = 10.0


class PackTask(TrainTask):
    """What submitit pickles and calls for several runs."""

    def __init__(self, run_dirs: Sequence[str]) -> None:
        super().__init__(run_dirs[0])
        self.run_dirs = list(run_dirs)

    def __getstate__(self) -> dict[str, Any]:
        return {**super().__getstate__(), "run_dirs": self.run_dirs}

    def member_command(self, run: RunDir, runs: int) -> list[str]:
        return [sys.executable, "-m", "hpc_yolo.supervise.pack", str(run.path), str(runs)]

    def _supervisor_on(self, _node: Node) -> Pack:
        runs = [RunDir(Path(it)) for it in self.run_dirs]
        return Pack(runs, self.member_command, SlurmAllocation.from_environ())


class MemberTask(TrainTask):
    """One of the runs. Submitit knows nothing of its process, so it takes every warning by itself."""

    is_called_by_submitit = False

    def __init__(self, run_dir: str, runs: int) -> None:
        super().__init__(run_dir)
        self._shared = SharedAllocation(SlurmAllocation.from_environ(), RunDir(Path(run_dir)), runs)

    def __call__(self) -> None:
        threading.Thread(target=self._watch, name="cancellation", daemon=True).start()
        super().__call__()

    def allocation(self) -> SharedAllocation:
        return self._shared

    def _watch(self) -> None:
        """In a thread of its own: a storage that hangs must not keep a warning from the worker."""
        while True:
            with suppress(OSError):
                if self._shared.take_back():
                    break
            time.sleep(_LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)


class Pack:
    """Speaks to its task as a Supervisor does."""

    def __init__(
        self,
        runs: Sequence[RunDir],
        member_command: Callable[[RunDir, int], list[str]],
        allocation: SlurmAllocation,
    ) -> None:
        self.warned: signal.Signals | None = None  # written by the main thread only
        self.verdict: Decision | None = None  # written by the helper only, as the last thing it does
        self._runs, self._member_command, self._allocation = list(runs), member_command, allocation
        self._living: dict[RunDir, subprocess.Popen[bytes]] = {}
        self._codes: dict[RunDir, int] = {}
        self._starts: Counter[RunDir] = Counter()
        self._has_passed_on = False

    def start(self) -> None:
        threading.Thread(target=self._work, name="pack", daemon=True).start()

    def warn(self, signum: signal.Signals) -> None:
        """Safe in a signal handler. What it meant, each supervisor finds out for itself."""
        if self.warned is None:
            self.warned = signum

    def is_over(self) -> bool:
        """Every supervisor leaves within its grace period, so there is none of ours to count."""
        return self.verdict is not None

    def conclude(self) -> Decision:
        return self.verdict or of_all([])

    def _work(self) -> None:
        signal.pthread_sigmask(
            signal.SIG_BLOCK, tree.WARNINGS
        )  # the supervisors inherit it, until their handlers stand
        try:
            verdict = self._train()
        except BaseException as error:  # without a verdict the main thread would sleep for ever
            traceback.print_exc()
            code = ExitCode.STORAGE if isinstance(error, OSError) else ExitCode.BUG
            self.verdict = of_all([code])
            raise
        self.verdict = verdict

    def _train(self) -> Decision:
        wanted = [run for run in self._runs if self._is_to_go_on(run)]
        for run in wanted:
            self._start(run, len(wanted))
        while self._living:
            if self.warned is None and self._allocation.is_near_its_limit():
                os.kill(os.getpid(), signal.SIGUSR1)  # in Slurm's place; the main thread takes it
            self._pass_on()
            for run, process in list(self._living.items()):
                if (code := process.poll()) is not None:
                    del self._living[run]
                    self._end(run, code, len(wanted))
            time.sleep(POLL_S)
        decision = of_all([self._codes[run] for run in self._runs])
        self._hand_back(decision)
        return decision

    def _is_to_go_on(self, run: RunDir) -> bool:
        """Whether it has not ended; of one that has, its exit code is noted."""
        is_ours = stands_for(run, self._allocation.job, self._allocation.folder)
        if is_done(run):
            self._codes[run] = ExitCode.DONE
        elif not is_ours:
            newest = newest_submission(run)
            self._codes[run] = ExitCode.BUG if newest is None or newest.exit_code is None else newest.exit_code
        return run not in self._codes

    def _start(self, run: RunDir, runs: int) -> None:
        if self.warned is not None:
            self._codes[run] = ExitCode.STOPPED
            return
        self._starts[run] += 1
        self._living[run] = subprocess.Popen(
            self._member_command(run, runs),
            stdin=subprocess.DEVNULL,
            env={**os.environ, CONTROLLER_VARIABLE: str(os.getpid())},
        )

    def _pass_on(self) -> None:
        """Slurm warns every process of the step; others may warn us alone. A supervisor takes the first warning only."""
        if self.warned is not None and not self._has_passed_on:
            self._has_passed_on = True
            for process in self._living.values():
                process.send_signal(self.warned)

    def _end(self, run: RunDir, code: int, runs: int) -> None:
        job, folder = self._allocation.job, self._allocation.folder
        if code < 0:
            with suppress(OSError):
                note_killed(folder, job, run, self._allocation.restarts, -code)
        is_to_go_on = code < 0 or code == ExitCode.STOPPED
        if is_to_go_on and self.warned is None and self._starts[run] < _MOST_STARTS:
            self._start(run, runs)
            return
        self._codes[run] = final = ExitCode.STOPPED if is_to_go_on else code and failure_code(code)
        if final in (ExitCode.STOPPED, ExitCode.BUSY):  # busy: a later start of this very job may have it
            return
        with suppress(OSError):
            if stands_for(run, job, folder):
                note_withdrawal(run, job, f"job {job} is done with it (exit code {final})", final)

    def _hand_back(self, decision: Decision) -> None:
        """Told in the job's own log: every run's ledger has told its end already."""
        if decision.next is Next.REQUEUE:
            handed = self._allocation.hand_back(_HAND_BACK_S)
            say(f"the job is handed back: {handed.how} {handed.said}".rstrip())
        else:
            self._allocation.withdraw()  # where Slurm was first to queue it again


def of_all(codes: Sequence[int]) -> Decision:
    """What follows for a job whose supervisors left with these codes, in the order of its runs. Pure.

    Whatever waits for the job takes 0 for done, so one run that is not done makes it a failure.
    """
    failed = [code for code in codes if code not in (ExitCode.DONE, ExitCode.STOPPED)]
    if ExitCode.STOPPED in codes:
        outcome, code, why = Next.REQUEUE, int(ExitCode.STOPPED), f"{codes.count(ExitCode.STOPPED)} go on later"
    elif failed:
        outcome, code, why = Next.FAIL, failed[0], f"{len(failed)} of {len(codes)} runs are not done"
    else:
        outcome, code, why = Next.DONE, int(ExitCode.DONE), "all runs are done"
    told = {Next.REQUEUE: StopReason.PREEMPTION.value, Next.FAIL: StopReason.FAILURE.value, Next.DONE: DONE}
    return Decision(next=outcome, outcome=told[outcome], exit_code=code, why=why)


if __name__ == "__main__":
    MemberTask(sys.argv[1], int(sys.argv[2]))()
