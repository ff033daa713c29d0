"""Owns what slurmctld is asked by a supervisor that cannot wait for an answer: what it says of the job, and its time limit.

The calls of `scontrol` inherit our blocked signals, so a second warning, which Slurm sends to every process of the step, does
not kill one in its middle.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from hpc_yolo.slurm import commands
from hpc_yolo.slurm.job import Job, parse_job
from hpc_yolo.types import JobId

#: One call at most; the grace period may leave less.
CALL_S = 10.0
RETRY_S = 2.0
#: A job's prolog and its script may take so long; a clock that is wrong by less does little harm.
_MOST_LAUNCH_S = 300.0
#: Between two tries, which become rarer: many jobs may miss one controller.
_RAREST_S = 60.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What slurmctld said. `job` is None where it does not know the job (any more)."""

    job: Job | None


class Question:
    """`scontrol show job`, beside us; once more where there was no answer."""

    def __init__(self, job: JobId) -> None:
        self._job = job
        self._answer: Answer | None = None
        self._retry_s = RETRY_S
        self._asked_at = time.monotonic()
        self._call = self._start()

    def answer(self) -> Answer | None:
        """What was answered; None where nothing was, so far."""
        if self._answer is None and self._call is not None:
            self._collect(self._call)
        return self._answer

    def _start(self) -> subprocess.Popen[str] | None:
        """None where there is no scontrol."""
        self._asked_at = time.monotonic()
        try:
            return subprocess.Popen(
                commands.show_words(self._job),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                env=commands.environment(),
            )
        except OSError:
            return None

    def _collect(self, call: subprocess.Popen[str]) -> None:
        if call.poll() is None:
            if time.monotonic() > self._asked_at + CALL_S:
                call.kill()
            return
        assert call.stdout is not None
        said = call.stdout.read() if not call.stdout.closed else ""
        call.stdout.close()
        job = parse_job(said) if call.returncode == 0 else None
        if job is not None or "Invalid job id" in said:
            self._answer = Answer(job)
        elif time.monotonic() > self._asked_at + self._retry_s:
            self._retry_s = min(2 * self._retry_s, _RAREST_S)
            self._call = self._start()


def skew_s(job: Job, began: float) -> float:
    """By how much our clock is ahead of slurmctld's (seconds); 0 where it may as well be the way from there to our start.

    Args:
        began: when we were started, by our clock.
    """
    ahead = 0.0 if job.start is None else began - job.start
    return ahead if abs(ahead) > _MOST_LAUNCH_S else 0.0


class TimeLimit:
    """Whether the job's end is so near that it should have been warned.

    Slurm looks at time limits twice a minute, and loses the warning of a job whose step does not run yet, or whose
    controller was busy or away just then. Asked twice at least: a limit may have been extended meanwhile.
    """

    def __init__(self, ask: Callable[[], Question], signal_delay_s: float, clock: Callable[[], float]) -> None:
        self._ask, self._delay_s, self._clock = ask, signal_delay_s, clock
        self._began = clock()
        self._question: Question | None = None
        self._due: float | None = None
        self._is_sure = False

    def is_near(self) -> bool:
        """Returns at once; False where no warning was asked for, there is no limit, or nobody says."""
        if self._delay_s <= 0 or (self._due is not None and self._clock() < self._due):
            return False
        if self._due is not None and self._is_sure:
            return True
        self._question = self._question or self._ask()
        answer = self._question.answer()
        if answer is not None:
            self._take(answer.job)
        return False

    def _take(self, job: Job | None) -> None:
        self._question = None
        due = float("inf") if job is None or job.end is None else job.end + skew_s(job, self._began) - self._delay_s
        self._is_sure = due == self._due
        self._due = due
