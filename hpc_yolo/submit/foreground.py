"""Owns waiting for one submission in the terminal: progress, Ctrl-C, and the exit code that it comes to."""

from __future__ import annotations

import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TextIO

from hpc_yolo.report.progress import ProgressView
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.controller import EXIT_CODES, tell_end
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.drill import find_target
from hpc_yolo.supervise.policy import Next
from hpc_yolo.types import ExitCode, StopReason

#: What a second Ctrl-C leaves with: 128 + SIGINT, as a shell has it.
KILLED = 130
_POLL_S = 0.2


@dataclass(frozen=True, slots=True)
class Submission:
    """One run handed to a controller, which is a child of ours."""

    run: RunDir
    controller: subprocess.Popen[bytes]
    stderr: Path
    """The supervisor's."""
    attempts_before: int


class Foreground:
    """Stays until the submission has ended. Ctrl-C once stops the run with its state saved, twice kills it."""

    def __init__(self, submission: Submission, view: ProgressView, out: TextIO) -> None:
        self._submission, self._view, self._out = submission, view, out
        self._stops = 0
        self._interrupts = 0

    def wait(self) -> int:
        """Show progress until the end; returns the exit code."""
        before = {signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            code = self._watch()
            self._view.close("killed" if code == KILLED else None)
            self._explain(code)
        except BaseException:  # nobody will be watching any more, as when the terminal is gone: save and stop
            self._submission.controller.send_signal(signal.SIGTERM)
            raise
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
        return code

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self._stops += 1
        self._interrupts += signum == signal.SIGINT

    def _watch(self) -> int:
        controller, has_passed_on = self._submission.controller, False
        while (code := outcome(self._submission)) is None:
            self._view.update()
            if self._stops and not has_passed_on and controller.returncode is None:
                has_passed_on = True
                print("\nsaving; Ctrl-C again kills", file=self._out, flush=True)
                controller.send_signal(signal.SIGTERM)
            if self._interrupts > 1:
                kill(self._submission)
                return KILLED
            time.sleep(_POLL_S)
        return code

    def _explain(self, code: int) -> None:
        if told := explanation(self._submission, code):
            print(told, file=self._out, flush=True)


def outcome(submission: Submission) -> int | None:
    """The exit code, once all has ended: a controller that is gone before its time is outlived by its supervisor.

    That one notices, saves and stops.
    """
    code = submission.controller.poll()
    if code is None or code in EXIT_CODES:
        return code
    if find_target(submission.run) is not None:
        return None
    return int(ExitCode.STOPPED if code < 0 else ExitCode.BUG)


def explanation(submission: Submission, code: int) -> str | None:
    """Why nothing was trained: a failure before the first attempt has no ledger to be told from. Else None."""
    is_failure = code not in (ExitCode.DONE, ExitCode.STOPPED, KILLED)
    if not is_failure or len(submission.run.attempts()) > submission.attempts_before:
        return None
    log = submission.stderr.read_text(errors="replace") if submission.stderr.exists() else ""
    reasons = [line for line in log.splitlines() if line.startswith("hpc-yolo: ")]
    reason = reasons[-1] if reasons else "hpc-yolo: the run did not start."
    return f"{reason} More in {submission.stderr.parent}."


def kill(submission: Submission) -> None:
    """SIGKILL the controller and everything below it; say in the ledger that it was on purpose."""
    controller, target = submission.controller, find_target(submission.run)
    doomed = tree.session_members(target.pid) if target is not None and target.is_supervisor else []
    if controller.poll() is None:  # not reaped, so the pid is still its own
        controller.send_signal(signal.SIGSTOP)  # it would start a supervisor again
        doomed += [controller.pid, *tree.descendants(controller.pid)]
    tree.send(doomed, signal.SIGKILL)
    controller.wait()
    if len(submission.run.attempts()) > submission.attempts_before:
        why = "killed on request, so it goes on from its last snapshot"
        tell_end(submission.run, Next.STOP, StopReason.CANCELLATION, why)
