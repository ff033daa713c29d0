"""Owns training a sweep on this machine: so many runs at a time, one view of all, and a Ctrl-C that is meant for all."""

from __future__ import annotations

import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import TextIO

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.report.block import Block
from hpc_yolo.report.progress import ProgressView
from hpc_yolo.report.tables import counted
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.foreground import KILLED, Submission, explanation, kill, outcome
from hpc_yolo.submit.local import submit
from hpc_yolo.supervise.task import TrainTask
from hpc_yolo.types import ExitCode

_POLL_S = 0.2
_WORDS = {int(ExitCode.DONE): "done", int(ExitCode.STOPPED): "stopped", KILLED: "killed"}


@dataclass(slots=True)
class _Member:
    """One run that is being trained."""

    number: int
    submission: Submission
    view: ProgressView
    line: str = "starts"


class Crew:
    """Each run has a controller of its own, which stops it when we die. A run that fails stops no other.

    Ctrl-C once stops all that are trained with their state saved, and begins no other; twice kills.

    Args:
        runs: made, and in the order in which they begin.
        parallel: how many at a time.
        task_of: what is submitted for a run; a TrainTask.
    """

    def __init__(
        self,
        runs: Sequence[RunDir],
        parallel: int,
        out: TextIO | None = None,
        task_of: Callable[[RunDir], TrainTask] | None = None,
    ) -> None:
        self._runs, self._parallel, self._task_of = list(runs), parallel, task_of
        self._out = sys.stdout if out is None else out
        self._block = Block(self._out)
        self._waiting = list(range(len(runs)))
        self._members: list[_Member] = []
        self._codes: dict[int, int] = {}
        self._stops = self._interrupts = 0
        self._has_passed_on = False

    def train(self) -> list[int]:
        """Train them all; returns an exit code a run. One that was not begun has that of a stopped one."""
        before = {signum: signal.signal(signum, self._note) for signum in (signal.SIGINT, signal.SIGTERM)}
        try:
            while self._members or (self._waiting and not self._stops):
                self._begin()
                self._look()
                self._pass_on()
                time.sleep(_POLL_S)
        except BaseException:  # nobody will be watching any more, as when the terminal is gone: save and stop
            self._tell_to_stop()
            raise
        finally:
            for signum, handler in before.items():
                signal.signal(signum, handler)
        self._block.close()
        self._block.say([self._summary()])
        return [self._codes.get(number, int(ExitCode.STOPPED)) for number in range(len(self._runs))]

    def _note(self, signum: int, _frame: FrameType | None) -> None:
        self._stops += 1
        self._interrupts += signum == signal.SIGINT

    def _begin(self) -> None:
        while self._waiting and len(self._members) < self._parallel and not self._stops:
            number = self._waiting.pop(0)
            run = self._runs[number]
            view = ProgressView(run, self._out)
            try:
                submission = submit(run, True, self._task_of(run) if self._task_of else None)
            except HpcYoloError as error:
                self._codes[number] = int(error.exit_code)
                self._say(number, [f"hpc-yolo: {' '.join(str(error).split())}"])
            else:
                self._members.append(_Member(number, submission, view))

    def _look(self) -> None:
        for member in list(self._members):
            told, line = member.view.look()
            member.line = line or member.line
            self._say(member.number, told)
            if (code := outcome(member.submission)) is not None:
                self._conclude(member, code)
        lines = [f"{self._name(it.number)}  {it.line}" for it in self._members]
        self._block.show(lines, self._summary())

    def _conclude(self, member: _Member, code: int) -> None:
        self._members.remove(member)
        self._codes[member.number] = code
        told, _ = member.view.look()
        why = explanation(member.submission, code)
        word = "killed" if code == KILLED else None
        self._say(member.number, [*told, *([why] if why else []), member.view.outcome(word)])

    def _pass_on(self) -> None:
        if self._stops and not self._has_passed_on:
            self._block.say([f"saving {counted(len(self._members), 'run')}; Ctrl-C again kills"])
            self._tell_to_stop()
        if self._interrupts > 1:
            for member in list(self._members):
                kill(member.submission)
                self._conclude(member, KILLED)

    def _tell_to_stop(self) -> None:
        self._has_passed_on = True
        for member in self._members:
            member.submission.controller.send_signal(signal.SIGTERM)

    def _say(self, number: int, lines: Sequence[str]) -> None:
        self._block.say([f"{self._name(number)}  {line}" for line in lines])

    def _name(self, number: int) -> str:
        return self._runs[number].path.name

    def _summary(self) -> str:
        counts = Counter(_WORDS.get(code, "failed") for code in self._codes.values())
        counts["training"] = len(self._members)
        counts["not begun" if self._stops else "waiting"] = len(self._waiting)
        told = ", ".join(f"{count} {word}" for word, count in counts.items() if count)
        return f"{counted(len(self._runs), 'run')}: {told}"
