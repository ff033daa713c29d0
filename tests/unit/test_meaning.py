"""What a warning under Slurm meant: the answers that a real slurmctld gave, and what is made of them."""

from __future__ import annotations

import signal

import pytest

from hpc_yolo.slurm.job import Job
from hpc_yolo.supervise.meaning import meaning_of
from hpc_yolo.types import JobId, StopReason

NOW = 1_000_000.0
USR1, TERM = signal.SIGUSR1, signal.SIGTERM


def job(state: str, **values: object) -> Job:
    return Job(id=JobId("7"), state=state, **values)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("said", "signum", "reason", "grace_s"),
    [
        (job("RUNNING", preempted_at=NOW, end=NOW + 10), USR1, StopReason.PREEMPTION, 10),
        (job("RUNNING", preempted_at=NOW, end=NOW + 10), TERM, StopReason.PREEMPTION, 10),
        (
            job("RUNNING", preempted_at=NOW - 90, end=NOW - 80),
            USR1,
            StopReason.PREEMPTION,
            10,
        ),  # this node's clock is ahead
        (job("RUNNING", end=NOW + 110), USR1, StopReason.TIMEOUT, 120),
        (job("RUNNING", end=NOW + 179), USR1, StopReason.TIMEOUT, 179),  # Slurm may be a minute early
        (job("RUNNING", end=NOW + 7200), USR1, StopReason.PREEMPTION, None),  # a fire drill
        (job("COMPLETING", end=NOW), TERM, StopReason.CANCELLATION, None),
        (job("CANCELLED", end=NOW), TERM, StopReason.CANCELLATION, None),
        (job("COMPLETING", reason="TimeLimit", end=NOW), TERM, StopReason.TIMEOUT, 30),  # KillWait
        (job("SIGNALING", preempted_at=NOW, end=NOW + 10), USR1, StopReason.PREEMPTION, 10),  # for a moment, by SIGCONT
        (job("SIGNALING"), TERM, StopReason.PREEMPTION, None),
        (
            job("COMPLETING", restarts=1, end=NOW),
            TERM,
            StopReason.PREEMPTION,
            None,
        ),  # a partition without a grace period
        (job("PENDING", restarts=1), TERM, StopReason.NODE_FAILURE, None),
        (job("COMPLETING", restarts=2), TERM, StopReason.NODE_FAILURE, None),
        (job("COMPLETING", reason="launch_failed_requeued_held", restarts=1), TERM, StopReason.NODE_FAILURE, None),
        (job("PREEMPTED", end=NOW), TERM, StopReason.PREEMPTION, None),
        (None, TERM, StopReason.CANCELLATION, None),
    ],
)
def test_meaning(said: Job | None, signum: signal.Signals, reason: StopReason, grace_s: float | None) -> None:
    meaning = meaning_of(said, signum, restarts=0, signal_delay_s=120, now=NOW)

    assert (meaning.reason, meaning.grace_s) == (reason, grace_s)
    assert meaning.said


def test_a_start_knows_its_own_number() -> None:
    running = job("RUNNING", restarts=3, preempted_at=NOW, end=NOW + 10)

    assert meaning_of(running, USR1, restarts=3, signal_delay_s=120, now=NOW).reason is StopReason.PREEMPTION
    assert meaning_of(running, USR1, restarts=2, signal_delay_s=120, now=NOW).reason is StopReason.NODE_FAILURE


@pytest.mark.parametrize(
    ("left", "reason"),
    [("node1", StopReason.NODE_FAILURE), ("node2", StopReason.NODE_FAILURE), ("node[1-2]", StopReason.PREEMPTION)],
)
def test_of_several_nodes_one_that_is_given_up_is_told_from_a_preemption(left: str, reason: StopReason) -> None:
    """Either way Slurm has queued the job again, and it completes on the nodes that are well."""
    meaning = meaning_of(job("COMPLETING", restarts=1, nodes=left), TERM, 0, 120, NOW, nodes="node[1-2]")

    assert meaning.reason is reason
