"""Owns `status --heal`: what Slurm holds for a failed launch is released, what was to go on and has lost its job is submitted.

The second is what Slurm did not queue again: PreemptMode=CANCEL, no requeue allowed, a job that nobody could hand back.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stdout

from hpc_yolo.events import Kind
from hpc_yolo.report.history import RunHistory
from hpc_yolo.report.job_state import NO_LOG, is_preempted_for_good
from hpc_yolo.report.jobs import read_histories
from hpc_yolo.report.ledger_state import state_by_ledger
from hpc_yolo.rundir import RunDir
from hpc_yolo.slurm.held import Held, release_held
from hpc_yolo.slurm.queue import Entry
from hpc_yolo.submit.operate import Outcome, resume
from hpc_yolo.types import ExitCode, RunState

#: How a job may end whose run nobody wanted to end.
_UNWANTED = frozenset({"PREEMPTED", "NODE_FAIL", "TIMEOUT", "FAILED", "BOOT_FAIL", "OUT_OF_MEMORY"})


def heal(runs: Sequence[RunDir]) -> list[Outcome]:
    """Tells of each run that it did something about, or could not; what sbatch is told goes to stderr."""
    histories = read_histories(runs)
    released = release_held([it for history in histories if (it := _held(history)) is not None], by="status")
    told = [Outcome(str(it), ExitCode.BAD_CONFIG if it.refusal else ExitCode.DONE) for it in released]
    stranded = [RunDir(history.path) for history in histories if is_stranded(history)]
    with redirect_stdout(sys.stderr):
        return [*told, *(resume(stranded) if stranded else [])]


def is_stranded(history: RunHistory) -> bool:
    """Whether another attempt was promised, or nobody lived to say so, and no job stands for that any more."""
    job = history.job
    if job is None or job.submission.withdrawn or job.trouble is not None:
        return False
    if job.entry is not None and job.entry.state not in _UNWANTED:
        return False
    begun = [attempt.first(Kind.ATTEMPT_STARTED) for attempt in history.attempts]
    if not any(it is not None and it.fields.get("job_id") == job.submission.job for it in begun):
        return _had_no_log(job.entry)  # whatever else kept it from a start would again
    ledger = state_by_ledger(history)
    if is_preempted_for_good(ledger, job.entry):
        return True
    return ledger.state is RunState.REQUEUED or (ledger.state is RunState.FAILED and not ledger.is_told)


def _had_no_log(entry: Entry | None) -> bool:
    """Slurm could not open the job's log: a storage that was away or full just then, or that its node does not see."""
    return entry is not None and entry.exit_code.endswith(f":{NO_LOG}")


def _held(history: RunHistory) -> Held | None:
    job = history.job
    if job is None or job.entry is None or job.submission.withdrawn or not job.entry.is_held_for_launch:
        return None
    return Held(RunDir(history.path), job.submission.job, job.entry.reason)
