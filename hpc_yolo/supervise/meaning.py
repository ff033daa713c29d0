"""Owns what a warning under Slurm meant, told from what Slurm says of the job. Pure.

Measured on 22.05: a preemption leaves JobState=RUNNING, sets PreemptTime, and moves EndTime to the end of the grace period;
scancel and the end of a time limit make it COMPLETING; a requeue by anybody makes Restarts greater than this start's own,
with COMPLETING on a node that is well and PENDING on one that was taken down. Where one of several was, the job completes on
the others, and its NodeList lacks that one.
"""

from __future__ import annotations

import signal

from hpc_yolo.slurm.job import ALIVE, Job
from hpc_yolo.supervise.allocation import Meaning
from hpc_yolo.types import StopReason

#: By how much Slurm may send the user signal too early (sbatch's manual, --signal), and a margin for its clock's ticks.
EARLY_S = 60.0
_TICK_S = 5.0
#: What Slurm leaves after the SIGTERM of a time limit (KillWait), where the site has not changed it.
KILL_WAIT_S = 30.0


def meaning_of(
    job: Job | None, signum: signal.Signals, restarts: int, signal_delay_s: float, now: float, nodes: str = ""
) -> Meaning:
    """What `signum` meant to the start of a job that has been restarted `restarts` times.

    Args:
        job: what Slurm says of it right after the signal; None where it does not know the job any more.
        signal_delay_s: what the job asked for: how long before its time limit it is warned.
        now: seconds since the epoch.
        nodes: those of this start, as Slurm writes them; empty where it is one, which is told without.
    """
    if job is None:
        return Meaning(reason=StopReason.CANCELLATION, said="Slurm no longer knows the job")
    said = f"JobState={job.state} Reason={job.reason or 'None'} Restarts={job.restarts}"
    if job.restarts > restarts:
        return _requeued_by_slurm(job, restarts, nodes, said)
    if job.state in ALIVE:
        return _while_running(job, signum, signal_delay_s, now, said)
    if job.state == "TIMEOUT" or job.reason == "TimeLimit":
        return Meaning(reason=StopReason.TIMEOUT, grace_s=KILL_WAIT_S, said=said)
    if job.state in ("PREEMPTED", "NODE_FAIL", "PENDING"):
        is_node = job.state != "PREEMPTED"
        return Meaning(reason=StopReason.NODE_FAILURE if is_node else StopReason.PREEMPTION, said=said)
    return Meaning(
        reason=StopReason.CANCELLATION, said=f"{said}: scancel, or PreemptMode=CANCEL without a grace period"
    )


def _requeued_by_slurm(job: Job, restarts: int, nodes: str, said: str) -> Meaning:
    """Without a grace period a preempted job is requeued first and warned then; it completes on nodes that are well.

    A node that was given up on has nothing to complete, so the job waits, or runs elsewhere, already. (Or it completes a
    start after this one, which failed on the node that came back.)
    """
    if nodes and job.nodes and job.nodes != nodes:
        return Meaning(reason=StopReason.NODE_FAILURE, said=f"{said}: of {nodes} there is {job.nodes} left")
    is_at_its_end = job.state == "COMPLETING" and job.restarts == restarts + 1 and "launch" not in (job.reason or "")
    reason = StopReason.PREEMPTION if is_at_its_end else StopReason.NODE_FAILURE
    return Meaning(reason=reason, said=f"{said}: Slurm has queued the job again already")


def _while_running(job: Job, signum: signal.Signals, signal_delay_s: float, now: float, said: str) -> Meaning:
    """Grace periods are told by slurmctld's clock alone where that is possible: a node's may differ."""
    if job.preempted_at is not None:
        grace_s = None if job.end is None else max(0.0, job.end - job.preempted_at)
        return Meaning(reason=StopReason.PREEMPTION, grace_s=grace_s, said=f"{said} PreemptTime is set")
    left = None if job.end is None else job.end - now
    if signum == signal.SIGUSR1 and left is not None and left <= signal_delay_s + EARLY_S + _TICK_S:
        grace_s = max(left, signal_delay_s)
        return Meaning(reason=StopReason.TIMEOUT, grace_s=grace_s, said=f"{said}: its time limit is {left:.0f} s away")
    return Meaning(reason=StopReason.PREEMPTION, said=f"{said}: somebody sent {signum.name}")
