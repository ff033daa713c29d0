"""Owns keeping one submitit task going on this machine: starts it, starts it again when it asks for that, stops it.

In place of submitit's own local controller, which ends in silence after six starts, hides the GPUs, and kills one
second after a Ctrl-C. Runs as a process of its own: `python -m hpc_yolo.submit.controller`.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from submitit.core.utils import JobPaths
from submitit.local.local import LOCAL_REQUEUE_RETURN_CODE

from hpc_yolo.events import Kind, Ledger
from hpc_yolo.rundir import RunDir
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.past import is_awaited, last_event
from hpc_yolo.supervise.policy import Next
from hpc_yolo.supervise.task import CONTROLLER_VARIABLE
from hpc_yolo.types import ExitCode, StopReason

_SIGNALS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_POLL_S = 0.1
_PICKLE_WITHIN_S = 60.0
#: How often a supervisor that was killed is started again.
MAX_DEATHS = 3
#: What we leave with. Anything else (1 is Python's own) means that we broke.
EXIT_CODES = frozenset(ExitCode) - {ExitCode.NOT_EQUAL, ExitCode.USAGE}
_LEFTOVER = ".save_tmp"


@dataclass(frozen=True, slots=True)
class Job:
    """One submission: where submitit keeps it, and the run that it trains."""

    folder: Path
    run: RunDir
    parent: int | None
    """The process that waits for us; when it dies, we stop the run. None: nobody waits."""
    grace_s: float

    @property
    def paths(self) -> JobPaths:
        return JobPaths(self.folder, job_id=str(os.getpid()))


class Controller:
    """The loop. Its signal handlers only take notes."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._is_stopping = False
        self._is_warned = False

    def run(self) -> int:
        """Start the task until it is done with; returns the supervisor's exit code."""
        self._take_signals()
        tree.adopt_orphans()  # a worker whose supervisor is killed stays below us
        if not self._await_pickle():
            return ExitCode.STOPPED
        deaths = 0
        while True:
            code = self._run_task()
            if code >= 0 and code != LOCAL_REQUEUE_RETURN_CODE:
                return code if code in EXIT_CODES else ExitCode.BUG
            if self._is_stopping:
                tell_end(self._job.run, Next.STOP, StopReason.CANCELLATION, "stopped on request between two attempts")
                return ExitCode.STOPPED
            deaths += code < 0
            if deaths > MAX_DEATHS:
                tell_end(self._job.run, Next.FAIL, StopReason.FAILURE, f"its supervisor was killed {deaths} times")
                return ExitCode.BUG

    def _take_signals(self) -> None:
        def stop(_signum: int, _frame: FrameType | None) -> None:
            self._is_stopping = True

        def warn(_signum: int, _frame: FrameType | None) -> None:
            self._is_warned = True

        for signum in _SIGNALS:
            signal.signal(signum, warn if signum == signal.SIGUSR1 else stop)
        tree.unblock_warnings()

    def _await_pickle(self) -> bool:
        """Submitit writes the pickle's final name after it has started us. False if nobody wants it any more."""
        deadline = time.monotonic() + _PICKLE_WITHIN_S
        while not self._job.paths.submitted_pickle.exists():
            if self._is_asked_to_stop() or time.monotonic() > deadline:
                return False
            time.sleep(_POLL_S)
        return True

    def _run_task(self) -> int:
        mend_pickle(self._job.paths.submitted_pickle)
        task = self._start()
        has_told = False
        while (code := task.poll()) is None:
            if self._is_asked_to_stop() and not has_told:
                has_told = True
                task.send_signal(signal.SIGTERM)
            if self._is_warned:
                self._is_warned = False
                task.send_signal(signal.SIGUSR1)
            time.sleep(_POLL_S)
        # A killed supervisor's worker gets SIGTERM from the kernel, saves, and ends: only then may another one start.
        tree.end_all(lambda: tree.session_members(task.pid), self._job.grace_s)
        return code

    def _start(self) -> subprocess.Popen[bytes]:
        """Submitit's own task command, in a session of its own: a terminal's Ctrl-C does not reach it."""
        paths = self._job.paths
        environ = {
            **os.environ,
            "SUBMITIT_LOCAL_JOB_ID": str(os.getpid()),
            "SUBMITIT_LOCAL_LOCALID": "0",
            "SUBMITIT_LOCAL_GLOBALID": "0",
            CONTROLLER_VARIABLE: str(os.getpid()),
        }
        command = [sys.executable, "-u", "-m", "submitit.core._submit", str(self._job.folder)]
        with paths.stdout.open("ab") as out, paths.stderr.open("ab") as err, tree.warnings_blocked():
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environ, start_new_session=True
            )

    def _is_asked_to_stop(self) -> bool:
        if self._job.parent is not None and os.getppid() != self._job.parent:
            self._is_stopping = True
        return self._is_stopping


def tell_end(run: RunDir, then: Next, outcome: StopReason, why: str) -> None:
    """Say for a supervisor that could not, or that promised another attempt, that none will follow the newest."""
    attempts = run.attempts()
    ended = last_event(attempts[-1], Kind.ATTEMPT_ENDED) if attempts else None
    if attempts and (ended is None or is_awaited(run)):
        Ledger(attempts[-1].events).append(
            Kind.ATTEMPT_ENDED, outcome=outcome.value, exit_code=None, next=then.value, why=why
        )


def mend_pickle(pickle: Path) -> None:
    """Clear away what a kill in the middle of submitit's requeue left.

    It writes `*.save_tmp`, removes the old pickle and renames: a leftover makes its next requeue fail an assertion.
    """
    leftover = pickle.with_name(pickle.name + _LEFTOVER)
    if not leftover.exists():
        return
    if pickle.exists():
        leftover.unlink()  # perhaps half written
    else:
        leftover.rename(pickle)  # whole, else the old one would still be there


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hpc_yolo.submit.controller")
    parser.add_argument("folder", type=Path)
    parser.add_argument("run", type=Path)
    parser.add_argument("--parent", type=int)
    parser.add_argument("--grace-s", type=float, required=True)
    args = parser.parse_args(argv)
    code = Controller(Job(args.folder, RunDir(args.run), args.parent, args.grace_s)).run()
    for signum in _SIGNALS:  # Python puts the default actions back while it shuts down: the code would be lost
        signal.signal(signum, signal.SIG_IGN)
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
