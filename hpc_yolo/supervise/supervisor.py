"""Owns the attempts of one run on this node: claims, starts workers, relays stops, tells the end.

Two threads that share no lock. The helper does all the work. The main thread sleeps, takes signals, and only ever sets
`asked` and reads `verdict`: a lock or a wait that a signal handler interrupted would never be let go.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

from hpc_yolo.attempts import claim, occupant
from hpc_yolo.config import RetryConfig
from hpc_yolo.errors import HpcYoloError, StorageError
from hpc_yolo.events import Kind, Ledger
from hpc_yolo.processes import boot_id, process_start
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.past import is_awaited, last_step, meant_exit_code, past_of
from hpc_yolo.supervise.policy import Decision, Ending, Next, decide, leave_between
from hpc_yolo.types import SUPERVISOR_VARIABLE, ExitCode, StopReason

POLL_S = 0.1
#: A warning that reaches a whole job may reach the worker, and end it, a moment before it reaches us.
_SETTLE_S = 0.5
#: Kept back from the grace period, for the kill and for the requeue after it.
_MARGIN_S = 5.0

WorkerCommand = Callable[[AttemptDir], list[str]]


class Supervisor:
    """Trains one run with as many attempts as it takes, until `verdict` says that there is nothing more to do here."""

    def __init__(
        self,
        run: RunDir,
        worker_command: WorkerCommand,
        retry_of: Callable[[AttemptDir], RetryConfig],
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.asked: StopReason | None = None  # written by the main thread only
        self.verdict: Decision | None = None  # written by the helper only, once, as the last thing it does
        self._run = run
        self._worker_command = worker_command
        self._retry_of = retry_of
        self._environ = environ
        self._clock = clock
        self._asked_at = 0.0
        self._grace_s = RetryConfig().grace_s
        self._worker_pid: int | None = None

    def start(self) -> None:
        """Begin. The helper is a daemon: a worker that cannot even be killed must not keep us from leaving."""
        threading.Thread(target=self._work, name="supervisor", daemon=True).start()

    def ask(self, reason: StopReason) -> None:
        """Ask for a stop. Safe in a signal handler; the first reason stands."""
        if self.asked is None:
            self._asked_at = self._clock()
            self.asked = reason

    def is_over(self) -> bool:
        """Whether there is a verdict, or no hope of one within the grace period. Safe in a signal handler."""
        is_late = self.asked is not None and self._clock() > self._asked_at + self._grace_s
        return self.verdict is not None or is_late

    def conclude(self) -> Decision:
        """The verdict; where the helper could not tell in time (the file system hangs), the worker is killed for it."""
        if self.verdict is None and self._worker_pid is not None:
            tree.send([self._worker_pid], signal.SIGKILL)
        return self.verdict or leave_between(self.asked or StopReason.PREEMPTION)

    def _work(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, tree.WARNINGS)  # theirs is the main thread; and workers inherit it
        try:
            verdict = self._supervise()
        except HpcYoloError as error:
            verdict = _given_up(str(error), error.exit_code)
        except OSError as error:
            verdict = _given_up(f"{error.filename or self._run.path}: {error.strerror}", ExitCode.STORAGE)
        except BaseException as error:  # the thread's boundary: without a verdict the main thread would sleep for ever
            traceback.print_exc()
            self.verdict = _given_up(f"this is a bug: {type(error).__name__}: {error}", ExitCode.BUG)
            raise
        self.verdict = verdict

    def _supervise(self) -> Decision:
        tree.adopt_orphans()
        while self.asked is None:
            decision = self._train_once(self._claim())
            if decision.next is not Next.RESTART:
                return decision
            self._pause(decision.delay_s)
        return self._leave_between(self.asked)

    def _claim(self) -> AttemptDir:
        """The next attempt. One of our own whose worker died before its first heartbeat does not keep us out."""
        taken = occupant(self._run)
        is_ours = taken is not None and (taken.pid, taken.host) == (os.getpid(), socket.gethostname())
        return claim(self._run, supersede=is_ours)

    def _train_once(self, attempt: AttemptDir) -> Decision:
        ledger = Ledger(attempt.events)
        ledger.append(Kind.ATTEMPT_STARTED, attempt=attempt.number, **self._identity())
        try:
            retry = self._retry_of(attempt)
            self._grace_s = retry.grace_s
            worker = self._spawn(attempt)
        except (HpcYoloError, OSError) as error:
            return _not_started(ledger, error)
        code, is_overdue = self._watch(worker, ledger, stop_within_s(retry.grace_s))
        self._worker_pid = None
        tree.kill_children()
        if code != ExitCode.DONE:
            self._pause(_SETTLE_S)
        meant = meant_exit_code(attempt, code)
        ending = Ending(exit_code=meant, step=last_step(attempt), asked=self.asked, is_overdue=is_overdue)
        decision = decide(past_of(self._run, attempt), ending, retry)
        _tell_end(ledger, decision, code)
        return decision

    def _identity(self) -> dict[str, Any]:
        """Who we are, so that a fire drill can be sure whom it warns."""
        pid, on_slurm = os.getpid(), self._environ.get("SLURM_JOB_ID")
        return {
            "role": "supervisor",
            "pid": pid,
            "pgid": os.getpgid(pid),
            "started": process_start(pid),
            "boot": boot_id(),
            "host": socket.gethostname(),
            "job_id": on_slurm,
            "restart_count": int(self._environ.get("SLURM_RESTART_COUNT") or 0) if on_slurm else None,
        }

    def _spawn(self, attempt: AttemptDir) -> subprocess.Popen[bytes]:
        with ExitStack() as files:
            out, err = (files.enter_context(path.open("ab")) for path in (attempt.stdout, attempt.stderr))
            worker = subprocess.Popen(
                self._worker_command(attempt),
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                env={**self._environ, SUPERVISOR_VARIABLE: str(os.getpid())},
            )
        self._worker_pid = worker.pid
        return worker

    def _watch(self, worker: subprocess.Popen[bytes], ledger: Ledger, patience_s: float) -> tuple[int, bool]:
        """Wait for the worker's end; pass a stop request on, once, and kill the worker when it takes too long."""
        has_told, is_overdue = False, False
        while (code := worker.poll()) is None:
            if self.asked is not None and not has_told:
                has_told = True
                signum = signal.SIGTERM if self.asked is StopReason.CANCELLATION else signal.SIGUSR1
                worker.send_signal(signum)
                _tell(ledger, Kind.STOP_REQUESTED, signal=signum.name, by="supervisor")
            if has_told and not is_overdue and self._clock() > self._asked_at + patience_s:
                is_overdue = True
                worker.kill()
            time.sleep(POLL_S)
        return code, is_overdue

    def _pause(self, seconds: float) -> None:
        """Let time pass, but no stop request."""
        until = self._clock() + seconds
        while self.asked is None and self._clock() < until:
            time.sleep(POLL_S)

    def _leave_between(self, asked: StopReason) -> Decision:
        decision = leave_between(asked)
        if decision.next is Next.STOP and is_awaited(self._run):  # its ledger would promise another attempt for ever
            _tell_end(Ledger(self._run.attempts()[-1].events), decision, decision.exit_code)
        return decision


def stop_within_s(grace_s: float) -> float:
    """How long a worker may take to stop (seconds): the grace period less what we need ourselves."""
    return max(grace_s - _MARGIN_S, grace_s / 2)


def _not_started(ledger: Ledger, error: HpcYoloError | OSError) -> Decision:
    """The worker could not even be started: no retry mends that."""
    mapped = error if isinstance(error, HpcYoloError) else StorageError(f"{error.filename}: {error.strerror}")
    _tell(ledger, Kind.FAILED, error=str(mapped), exit_code=int(mapped.exit_code))
    decision = _given_up(str(mapped), mapped.exit_code)
    _tell_end(ledger, decision, int(mapped.exit_code))
    return decision


def _given_up(why: str, code: ExitCode) -> Decision:
    print(f"hpc-yolo: {why}", file=sys.stderr, flush=True)
    return Decision(next=Next.FAIL, outcome=StopReason.FAILURE.value, exit_code=code, why=why)


def _tell_end(ledger: Ledger, decision: Decision, code: int) -> None:
    told = {"outcome": decision.outcome, "exit_code": code, "next": decision.next.value, "why": decision.why}
    _tell(ledger, Kind.ATTEMPT_ENDED, **told)


def _tell(ledger: Ledger, kind: Kind, **fields: Any) -> None:
    """Append an event; a full disk must not cost the worker its orderly stop."""
    try:
        ledger.append(kind, **fields)
    except OSError as error:
        what = f"{kind.value} {fields}"
        print(f"hpc-yolo: {ledger.path}: {error.strerror}; not written: {what}", file=sys.stderr, flush=True)
