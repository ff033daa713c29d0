"""Owns one start of a Slurm job, as its supervisor sees it: asks slurmctld without waiting for it, hands the job back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hpc_yolo.causes import Found, Symptoms, known_rules, recognise
from hpc_yolo.events import Event, Kind
from hpc_yolo.rundir import AttemptDir
from hpc_yolo.slurm import commands
from hpc_yolo.slurm.job import ALIVE, Job, parse_job, show
from hpc_yolo.submissions import code_file, ends_file
from hpc_yolo.supervise.allocation import HandBack, Meaning
from hpc_yolo.supervise.endings import Silence
from hpc_yolo.supervise.meaning import meaning_of
from hpc_yolo.supervise.past import last_step
from hpc_yolo.supervise.policy import told
from hpc_yolo.supervise.question import CALL_S, RETRY_S, Question, TimeLimit, skew_s
from hpc_yolo.types import JobId, StopReason

#: Says to the supervisor how long before its time limit the job is warned; set by the job's script.
SIGNAL_DELAY_VARIABLE = "HPC_YOLO_SIGNAL_DELAY_S"


#: What srun leaves with where the kernel killed any process of the step for its memory, whatever the others left with.
OUT_OF_MEMORY = 253


class SlurmAllocation:
    """Asks about the job that this process runs in.

    A task of an array is named ARRAY_INDEX: the plain number of one of them is the whole
    array's as well, and a requeue of that would start all of it again.
    """

    patience_s = 150.0
    has_other_nodes = True

    def __init__(
        self,
        job: JobId,
        restarts: int,
        signal_delay_s: float,
        folder: Path,
        clock: Callable[[], float] = time.time,
        nodes: str = "",
    ) -> None:
        self.job, self.restarts = job, restarts
        self.signal_delay_s, self.folder, self._clock = signal_delay_s, folder, clock
        self._nodes = nodes
        self._signum, self._began = signal.SIGUSR1, clock()
        self._question: Question | None = None
        self._meaning: Meaning | None = None
        self._limit = TimeLimit(lambda: Question(job), signal_delay_s, clock)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> SlurmAllocation:
        job, array = environ["SLURM_JOB_ID"], environ.get("SLURM_ARRAY_JOB_ID")
        return cls(
            job=JobId(f"{array}_{environ['SLURM_ARRAY_TASK_ID']}" if array else job),
            restarts=int(environ.get("SLURM_RESTART_COUNT") or 0),
            signal_delay_s=float(environ.get(SIGNAL_DELAY_VARIABLE) or 0),
            folder=Path(environ.get("SUBMITIT_FOLDER", ".")),
            nodes=environ.get("SLURM_JOB_NODELIST", "") if environ.get("SLURM_JOB_NUM_NODES", "1") != "1" else "",
        )

    def identity(self) -> dict[str, Any]:
        return {"job_id": self.job, "restart_count": self.restarts, "signal_delay_s": self.signal_delay_s}

    def inquire(self, signum: signal.Signals) -> None:
        self._signum, self._question = signum, Question(self.job)

    def meaning(self) -> Meaning | None:
        answer = self._question.answer() if self._meaning is None and self._question is not None else None
        if answer is not None:
            ahead_s = 0.0 if answer.job is None else skew_s(answer.job, self._began)
            asked_for, now = self.signal_delay_s, self._clock() - ahead_s
            self._meaning = meaning_of(answer.job, self._signum, self.restarts, asked_for, now, self._nodes)
        return self._meaning

    def is_near_its_limit(self) -> bool:
        return self._limit.is_near()

    def guess(self, signum: signal.Signals) -> Meaning:
        """A preemption. Whoever requeues asks Slurm once more, so that a cancelled job stays cancelled."""
        return Meaning(reason=StopReason.PREEMPTION, said=f"Slurm did not say what {signum.name} meant")

    def leave(self, code: int) -> None:
        """For the job's script, which sees srun's exit code only."""
        with suppress(OSError):
            code_file(self.folder, self.job, self.restarts).write_text(f"{code}\n", encoding="utf-8")

    def withdraw(self) -> None:
        """The run has failed for good: where Slurm was first to queue the job again, take it out."""
        with suppress(commands.SlurmError):
            job = show(self.job)
            if job is not None and job.restarts > self.restarts:
                commands.cancel([self.job])

    def hand_back(self, within_s: float) -> HandBack:
        """Requeue the job unless Slurm has done so, or has ended it; tries until the time is over.

        What could not be done here is left to the job's script, which runs outside of any container and may outlive us.
        """
        until = time.monotonic() + within_s
        said = "there was no time left to ask Slurm"
        while (left := until - time.monotonic()) > 0:
            try:
                return self._requeue(min(left, CALL_S))
            except commands.NoSlurmError as error:
                return HandBack(how="refused", said=str(error))
            except commands.SlurmError as error:
                said = str(error)
            time.sleep(min(RETRY_S, max(0.0, until - time.monotonic())))
        return HandBack(how="refused", said=said)

    def may_supersede(self, started: Mapping[str, Any]) -> bool:
        """The same job, started again: whoever still works for the earlier start is on a node that Slurm gave up on."""
        other = started.get("job_id")
        if other is None:
            return False  # trained on some machine without Slurm: only its heartbeat tells
        if other == self.job:
            return int(started.get("restart_count") or 0) < self.restarts
        try:
            job = show(JobId(str(other)))
        except commands.SlurmError:
            return False
        return job is None or job.has_ended

    def silence(self, attempt: AttemptDir, started: Mapping[str, Any], events: list[Event]) -> Silence:
        step = last_step(attempt, events)
        explained = next((e for e in reversed(events) if e.kind is Kind.STOP_EXPLAINED), None)
        if explained is not None and explained.fields.get("reason") != StopReason.CANCELLATION.value:
            reason = StopReason(explained.fields["reason"])
            why = f"{reason.value.replace('_', ' ')}; the grace period was over before its state was saved"
            return Silence(reason=reason, why=why, step=step)
        if started.get("job_id") != self.job:
            return Silence(
                reason=StopReason.NODE_FAILURE, why=f"job {started.get('job_id')} ended without a word", step=step
            )
        code = self._code_that_was_seen(int(started.get("restart_count") or 0))
        if code is None:
            found, why = _found(state="NODE_FAIL"), "its node was lost without a warning"
            return Silence(reason=StopReason.NODE_FAILURE, why=why, step=step, found=found)
        if code == OUT_OF_MEMORY:
            found, why = _found(state="OUT_OF_MEMORY"), "the supervisor was killed: out of memory"
            return Silence(reason=StopReason.FAILURE, why=why, step=step, found=found)
        how = told(128 - code if code > 128 else code).replace("the worker", "the supervisor")
        return Silence(reason=StopReason.FAILURE, why=how, step=step)

    def _requeue(self, timeout_s: float) -> HandBack:
        job = parse_job(commands.run(commands.show_words(self.job), timeout_s))
        if job is None or not is_still_ours(job, self.restarts):
            said = f"JobState={job.state} Restarts={job.restarts}" if job else "Slurm no longer knows the job"
            return HandBack(how="gone", said=said)
        if not job.may_requeue:  # a site's job_submit plugin may say so, whatever the job's script asks for
            commands.run(commands.allow_requeue_words(self.job), timeout_s)
        commands.run(commands.requeue_words(self.job), timeout_s)
        return HandBack(how="requeued")

    def _code_that_was_seen(self, restarts: int) -> int | None:
        """By the job's script."""
        return code_seen(ends_file(self.folder, self.job), restarts)


def _found(state: str) -> Found | None:
    return recognise(Symptoms(state=state), known_rules())


def code_seen(ends: Path, restarts: int) -> int | None:
    """The exit code that a start of the job left with, where somebody outlived it to note that."""
    try:
        lines = ends.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    codes = [line.split()[1] for line in lines if line.split()[:1] == [str(restarts)] and len(line.split()) == 2]
    return int(codes[-1]) if codes and codes[-1].isdigit() else None


def is_still_ours(job: Job | None, restarts: int) -> bool:
    """Whether this start of the job is the one that Slurm takes for running. A cancelled job must never be requeued.

    Slurm lets a job be requeued that it is just ending at its time limit: a last chance where the warning came too late.
    """
    if job is None or job.restarts != restarts:
        return False
    return job.state in ALIVE or (job.state == "COMPLETING" and job.reason == "TimeLimit")
