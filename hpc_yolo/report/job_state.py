"""Owns how what Slurm says of a run's job changes what its ledger says. Pure."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from hpc_yolo.report.history import JobHistory
from hpc_yolo.slurm.queue import Entry
from hpc_yolo.submissions import Submission
from hpc_yolo.types import ExitCode, RunState

_SETTLED = frozenset({RunState.DONE, RunState.FAILED, RunState.CANCELLED})
#: What stands in place of a signal where slurmstepd could not open the job's log.
NO_LOG = "53"
_SIGNALS = {NO_LOG: "Slurm could not open its log there"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """State and reason of a run, and the exit code of its job where that ended for good."""

    state: RunState
    reason: str | None
    exit_code: int | None = None
    is_told: bool = True
    """Whether somebody has said so; else it is told from a worker that is gone."""


def judge(ledger: Verdict, job: JobHistory, *, is_local: bool, has_begun: bool, path: str) -> Verdict:
    """The run's state, from the ledger's view and the job that stands for it.

    Args:
        is_local: the newest attempt was made without Slurm, after that job was submitted.
        has_begun: an attempt of this very job is in the ledger.
    """
    if ledger.state is RunState.DONE:
        return ledger
    if job.submission.withdrawn:
        if ledger.state in (RunState.RUNNING, RunState.STOPPING) and not is_local:
            return Verdict(RunState.STOPPING, job.submission.withdrawn)
        return _withdrawn(ledger, job.submission, is_local, path)
    entry = job.entry
    if entry is None and job.trouble is not None:
        if is_local or (ledger.state in _SETTLED and ledger.is_told and has_begun):
            return ledger
        reason = _both(ledger.reason, f"job {job.submission.job}: {job.trouble}")
        unsettled = RunState.REQUEUED if has_begun else RunState.PENDING  # one squeue without an answer settles nothing
        return Verdict(unsettled if ledger.state in _SETTLED else ledger.state, reason, is_told=False)
    if entry is None or entry.has_ended:
        return ledger if is_local else _ended(ledger, job, entry, has_begun, path)
    if entry.state == "PENDING":
        state = RunState.REQUEUED if has_begun else RunState.PENDING
        return Verdict(state, _both(ledger.reason if has_begun else None, waiting(entry, job.submission.job)))
    return _on_a_node(ledger, job, entry, has_begun)


def _withdrawn(ledger: Verdict, submission: Submission, is_local: bool, path: str) -> Verdict:
    """By a person; or by a job that others share, which goes on for them: for this run it is over."""
    if is_local:
        return ledger
    if ledger.state in _SETTLED and (ledger.is_told or submission.exit_code is None):
        return replace(ledger, exit_code=submission.exit_code)
    if submission.exit_code is None:
        return Verdict(RunState.CANCELLED, submission.withdrawn)
    onward = f"{submission.withdrawn}; `hpc-yolo resume {path}` submits it again"
    return Verdict(RunState.FAILED, onward, submission.exit_code)


def waiting(entry: Entry, job: str) -> str:
    """Why a job waits, when it is expected to start, and what frees a held one."""
    if entry.is_held:
        frees = (
            "`hpc-yolo status --heal` frees it"
            if entry.is_held_for_launch
            else f"free it with `scontrol release {job}`"
        )
        return f"job {job} is held ({entry.reason}); {frees}"
    start = (
        "" if entry.starts_at is None else time.strftime(", starts about %a %H:%M:%S", time.localtime(entry.starts_at))
    )
    hint = "; a shorter cluster.time_min may fit in before that" if "reserved" in entry.reason.lower() else ""
    return f"job {job} waits ({entry.reason or 'no reason told yet'}{start}){hint}"


def _on_a_node(ledger: Verdict, job: JobHistory, entry: Entry, has_begun: bool) -> Verdict:
    where = f"job {job.submission.job} is {entry.state.lower()} on {entry.nodes or 'a node'}"
    if not has_begun:
        return Verdict(RunState.PENDING if entry.state == "CONFIGURING" else RunState.RUNNING, f"{where}; it starts up")
    if ledger.state in (RunState.RUNNING, RunState.STOPPING):
        return ledger
    if entry.state == "COMPLETING":
        return ledger if ledger.is_told else Verdict(RunState.STOPPING, f"{where}; then it comes back, or has ended")
    return Verdict(RunState.REQUEUED, _both(ledger.reason, f"{where}; its next attempt starts up"))


def _ended(ledger: Verdict, job: JobHistory, entry: Entry | None, has_begun: bool, path: str) -> Verdict:
    """The job is over. What the run's own supervisor said of its end counts, unless it promised another attempt."""
    code = _exit_code(entry)
    if has_begun and is_preempted_for_good(ledger, entry):
        where = f"job {job.submission.job} was preempted and Slurm did not queue it again"
        return Verdict(RunState.FAILED, f"{where}; `hpc-yolo status --heal` submits it again", code)
    if ledger.state is RunState.CANCELLED or (ledger.state is RunState.FAILED and has_begun and ledger.is_told):
        return Verdict(ledger.state, ledger.reason, code)
    onward = f"`hpc-yolo resume {path}` submits it again"
    if entry is None:
        return Verdict(RunState.FAILED, f"job {job.submission.job} is no longer in the queue; {onward}", code)
    if entry.state == "CANCELLED":
        return Verdict(RunState.CANCELLED, f"job {job.submission.job} was cancelled; {onward}", code)
    how = f"job {job.submission.job} ended: {entry.state}{_told(entry)}"
    said = "" if has_begun else job.last_words
    return Verdict(RunState.FAILED, f"{how}{f' ({said})' if said else ''}; {onward}", code)


def is_preempted_for_good(ledger: Verdict, entry: Entry | None) -> bool:
    """Without a grace period PreemptMode=CANCEL looks like scancel to the supervisor; Slurm tells once the job is over."""
    return entry is not None and entry.state == "PREEMPTED" and ledger.state in (RunState.CANCELLED, RunState.REQUEUED)


def _told(entry: Entry) -> str:
    code, _, signum = entry.exit_code.partition(":")
    place = f" on {entry.nodes}" if entry.nodes not in ("", "None assigned") else ""
    if signum in _SIGNALS:
        return f"{place}, exit code {entry.exit_code}: {_SIGNALS[signum]}; is runs_dir on storage that this node sees?"
    return f"{place}, exit code {code}" if code not in ("", "0") else place


def _exit_code(entry: Entry | None) -> int | None:
    code = (entry.exit_code if entry else "").partition(":")[0]
    return int(code) if code.isdigit() and int(code) in set(ExitCode) else None


def _both(*reasons: str | None) -> str | None:
    return "; ".join(reason for reason in reasons if reason) or None
