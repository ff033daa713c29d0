"""Owns what a supervisor needs of whoever gave it this machine: what a warning meant, and how to hand the job back."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from hpc_yolo.events import Event
from hpc_yolo.rundir import AttemptDir
from hpc_yolo.supervise.endings import Silence
from hpc_yolo.types import StopReason


@dataclass(kw_only=True, frozen=True, slots=True)
class Meaning:
    """What a warning meant."""

    reason: StopReason
    grace_s: float | None = None
    """How long the grace period is, from the warning on (seconds); None where nobody said."""
    said: str = ""


@dataclass(kw_only=True, frozen=True, slots=True)
class HandBack:
    """How the job went back to the scheduler: requeued (by us), gone (it is no longer ours), refused, left (to others)."""

    how: str
    said: str = ""


class Allocation(Protocol):
    """One start of a job. Every method but `hand_back` returns at once; called by the supervisor's helper."""

    def inquire(self, signum: signal.Signals) -> None:
        """Begin to find out what a warning means."""

    def meaning(self) -> Meaning | None:
        """The answer to `inquire`; None while there is none."""

    def guess(self, signum: signal.Signals) -> Meaning:
        """What the warning most likely means, where there is no answer. Also called by the main thread: no waiting."""

    def is_near_its_limit(self) -> bool:
        """Whether the end of its time is so near that a warning of it is overdue."""

    def hand_back(self, within_s: float) -> HandBack | None:
        """Have the job started again. None where there is nothing to do for that."""

    def leave(self, code: int) -> None:
        """The supervisor is about to leave with this exit code."""

    def withdraw(self) -> None:
        """The run has failed for good: let nothing start it again."""

    def identity(self) -> dict[str, Any]:
        """What an attempt's first event says of the job."""

    def may_supersede(self, started: Mapping[str, Any]) -> bool:
        """Whether the living attempt that began with this event has lost the run to us."""

    @property
    def has_other_nodes(self) -> bool:
        """Whether a requeue may start the run elsewhere."""

    @property
    def patience_s(self) -> float:
        """How long to wait for the end of another attempt that keeps us out (seconds)."""

    def silence(self, attempt: AttemptDir, started: Mapping[str, Any], events: list[Event]) -> Silence | None:
        """What became of an earlier attempt whose supervisor did not tell; None where that is not ours to say."""


class LocalAllocation:
    """This machine: SIGUSR1 is a preemption, SIGTERM and Ctrl-C mean stop, and our controller starts us again."""

    patience_s = 0.0
    has_other_nodes = False

    def __init__(self) -> None:
        self._meaning: Meaning | None = None

    def inquire(self, signum: signal.Signals) -> None:
        self._meaning = self.guess(signum)

    def meaning(self) -> Meaning | None:
        return self._meaning

    def guess(self, signum: signal.Signals) -> Meaning:
        is_preemption = signum == signal.SIGUSR1
        return Meaning(reason=StopReason.PREEMPTION if is_preemption else StopReason.CANCELLATION)

    def is_near_its_limit(self) -> bool:
        return False

    def hand_back(self, within_s: float) -> HandBack | None:
        return None

    def leave(self, code: int) -> None:
        pass

    def withdraw(self) -> None:
        pass

    def identity(self) -> dict[str, Any]:
        return {"job_id": None, "restart_count": None}

    def may_supersede(self, started: Mapping[str, Any]) -> bool:
        return False

    def silence(self, attempt: AttemptDir, started: Mapping[str, Any], events: list[Event]) -> Silence | None:
        return None


def allocation_of(environ: Mapping[str, str] = os.environ) -> Allocation:
    """The one that this process runs in."""
    if environ.get("SUBMITIT_EXECUTOR") == "slurm":
        from hpc_yolo.supervise.slurm_allocation import SlurmAllocation

        return SlurmAllocation.from_environ(environ)
    return LocalAllocation()
