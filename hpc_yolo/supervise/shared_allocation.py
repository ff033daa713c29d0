"""Owns what a supervisor may do with a Slurm job that others share: ask about it. Who hands it back is the job's task."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

from hpc_yolo.rundir import RunDir
from hpc_yolo.submissions import ends_file, stands_for
from hpc_yolo.supervise.allocation import HandBack, Meaning
from hpc_yolo.supervise.slurm_allocation import SlurmAllocation, code_seen
from hpc_yolo.types import StopReason


class SharedAllocation(SlurmAllocation):
    """One run's part of a job.

    Args:
        whole: the job.
        run: whose part this is.
        runs: how many runs have begun together in this start of the job.
    """

    has_other_nodes = False  # of its own: the others would have to move with it

    def __init__(self, whole: SlurmAllocation, run: RunDir, runs: int) -> None:
        super().__init__(whole.job, whole.restarts, whole.signal_delay_s, whole.folder)
        self._run = run
        self._runs = runs
        self._is_taken_back = False

    def take_back(self) -> bool:
        """Look whether a person has cancelled this run alone; from then on that is what a warning means."""
        self._is_taken_back = self._is_taken_back or not stands_for(self._run, self.job, self.folder)
        return self._is_taken_back

    def inquire(self, signum: signal.Signals) -> None:
        if self._is_taken_back:
            why = f"the run was taken out of job {self.job}, which goes on"
            self._meaning = Meaning(reason=StopReason.CANCELLATION, said=why)
        else:
            super().inquire(signum)

    def identity(self) -> dict[str, Any]:
        return {**super().identity(), "runs_together": self._runs}

    def is_near_its_limit(self) -> bool:
        """The task looks for all: one that stopped by itself would be started again."""
        return False

    def hand_back(self, within_s: float) -> HandBack:  # noqa: ARG002 (the others may still need it)
        return HandBack(how="left", said="to the task of the job, which other runs share")

    def leave(self, code: int) -> None:
        """The task sees it."""

    def withdraw(self) -> None:
        """The task lets no run go on that has failed."""

    def _code_that_was_seen(self, restarts: int) -> int | None:
        """By the task, or by the script where the task itself was killed."""
        own = code_seen(ends_file(self.folder, self.job, self._run.path.name), restarts)
        return super()._code_that_was_seen(restarts) if own is None else own


def note_killed(folder: Path, job: str, run: RunDir, restarts: int, signum: int) -> None:
    """A run's supervisor was killed, and could not tell; the next one reads this."""
    with ends_file(folder, job, run.path.name).open("a", encoding="utf-8") as ends:
        ends.write(f"{restarts} {128 + signum}\n")
