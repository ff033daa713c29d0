"""Owns how a run stands when it is asked for again, and so whether it is trained again. Reads only."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from hpc_yolo.config import Resubmit
from hpc_yolo.errors import ConfigError
from hpc_yolo.events import Events, Kind, read_events
from hpc_yolo.frozen import Launch, is_launch
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.snapshot.reading import entries
from hpc_yolo.submissions import Jobs, Submission, read_jobs
from hpc_yolo.supervise.policy import Next
from hpc_yolo.types import ExitCode, StopReason

#: What a worker leaves with when a person must mend something first. BUSY is not among them: whoever had it may be gone.
_TO_BE_MENDED = (ExitCode.BAD_DATA, ExitCode.BAD_CONFIG)


class Stand(Enum):
    """Of a run that nobody trains and no job stands for."""

    NEW = "new"
    ONWARD = "stopped"
    BROKEN = "broken"
    FAILED = "failed for good"
    DONE = "done"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a run stands, and of one that failed for good the exit code and what was wrong."""

    stand: Stand
    exit_code: int = ExitCode.DONE
    why: str = ""

    def is_to_be_trained(self, resubmit: Resubmit) -> bool:
        if self.stand is Stand.DONE:
            return resubmit is Resubmit.ALL
        return self.stand is not Stand.FAILED or resubmit is not Resubmit.BROKEN

    def advice(self, run: RunDir) -> str:
        """Of one that failed for good: why it is left alone, and what changes that."""
        return (
            f"run {run.path.name} failed for good and is left alone ({self.why}). Once that is mended, add resubmit=failed: "
            f"{run.path}"
        )


def standing_of(run: RunDir, launch: Launch, jobs: Jobs | None = None) -> Standing:
    """How the run stands, by its own ledgers.

    Args:
        launch: what it is to be launched with. Other settings than those that it failed with may be what mends it.
        jobs: what its ledger of jobs says, where that was read before.
    """
    if not run.is_run():
        return Standing(Stand.NEW)
    attempts, told = run.attempts(), []
    for attempt in reversed(attempts):
        told.append(read_events(attempt.events))
        if told[-1].last(Kind.FINISHED) is not None:
            return Standing(Stand.DONE)
    submission = (jobs or read_jobs(run)).submission
    if not attempts:
        has_waited = submission is not None and not submission.withdrawn
        return Standing(Stand.BROKEN if has_waited else Stand.NEW)
    if _never_began(submission, told[0]):
        return Standing(Stand.BROKEN)
    return _after(run, attempts[-1], told[0], launch)


def _after(run: RunDir, newest: AttemptDir, told: Events, launch: Launch) -> Standing:
    ended = told.last(Kind.ATTEMPT_ENDED)
    if ended is None:
        return Standing(_onward(run) if told.last(Kind.STOPPED) is not None else Stand.BROKEN)
    then, code = ended.fields.get("next"), ended.fields.get("exit_code")
    if then == Next.STOP.value or ended.fields.get("outcome") == StopReason.CANCELLATION.value:
        return Standing(_onward(run))
    if then == Next.FAIL.value and code in _TO_BE_MENDED and _is_same_launch(newest, launch):
        failed = told.last(Kind.FAILED)
        why = (failed.fields.get("error") if failed else None) or ended.fields.get("why") or "no reason was told"
        return Standing(Stand.FAILED, int(code), str(why).rstrip("."))
    return Standing(Stand.BROKEN)


def _never_began(submission: Submission | None, told: Events) -> bool:
    """Whether the run was submitted since its newest attempt, and no attempt came of that."""
    if submission is None or submission.withdrawn:
        return False
    started = told.last(Kind.ATTEMPT_STARTED)
    return started is not None and started.fields.get("job_id") != submission.job and started.time < submission.time


def _onward(run: RunDir) -> Stand:
    return Stand.ONWARD if entries(run.snapshots_dir) else Stand.NEW


def _is_same_launch(attempt: AttemptDir, launch: Launch) -> bool:
    try:
        return is_launch(attempt.launch_yaml, launch)
    except ConfigError:  # a copy that is gone says nothing against it
        return True
