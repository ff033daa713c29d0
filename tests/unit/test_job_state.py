"""What `status` says of a run on Slurm, from its ledger and from what Slurm says of its job."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from hpc_yolo.report.history import JobHistory
from hpc_yolo.report.job_state import Verdict, judge
from hpc_yolo.slurm.queue import Entry
from hpc_yolo.submissions import Submission
from hpc_yolo.types import JobId, RunState

PENDING, RUNNING, REQUEUED = (
    Verdict(RunState.PENDING, None),
    Verdict(RunState.RUNNING, None),
    Verdict(RunState.REQUEUED, "preemption"),
)
VANISHED = Verdict(RunState.FAILED, "the worker vanished", is_told=False)


def entry(state: str, **values: object) -> Entry:
    return Entry(id=JobId("7"), state=state, **values)  # type: ignore[arg-type]


def told(
    ledger: Verdict, slurm: Entry | None, *, has_begun: bool = True, is_local: bool = False, trouble: str | None = None,
    withdrawn: str = "", exit_code: int | None = None, folder: Path = Path("/nowhere"),
) -> Verdict:  # fmt: skip
    submission = Submission(
        job=JobId("7"), folder=folder, user="me", time=0.0, withdrawn=withdrawn, exit_code=exit_code
    )
    return judge(ledger, JobHistory(submission, slurm, trouble), is_local=is_local, has_begun=has_begun, path="RUN")


@pytest.mark.parametrize(
    ("ledger", "slurm", "has_begun", "state"),
    [
        (PENDING, entry("PENDING", reason="Priority"), False, RunState.PENDING),
        (PENDING, entry("RUNNING", nodes="n1"), False, RunState.RUNNING),
        (PENDING, entry("CONFIGURING", nodes="n1"), False, RunState.PENDING),
        (RUNNING, entry("RUNNING"), True, RunState.RUNNING),
        (REQUEUED, entry("COMPLETING"), True, RunState.REQUEUED),
        (REQUEUED, entry("PENDING", reason="BeginTime"), True, RunState.REQUEUED),
        (REQUEUED, entry("RUNNING", nodes="n2"), True, RunState.REQUEUED),
        (VANISHED, entry("PENDING", reason="BeginTime"), True, RunState.REQUEUED),
        (VANISHED, entry("COMPLETING"), True, RunState.STOPPING),
        (RUNNING, entry("NODE_FAIL"), True, RunState.FAILED),
        (REQUEUED, entry("COMPLETED"), True, RunState.FAILED),
        (PENDING, entry("CANCELLED"), False, RunState.CANCELLED),
        (RUNNING, entry("CANCELLED"), True, RunState.CANCELLED),
        (VANISHED, None, True, RunState.FAILED),
        (Verdict(RunState.DONE, None), entry("RUNNING"), True, RunState.DONE),
        (Verdict(RunState.CANCELLED, "on request"), entry("CANCELLED"), True, RunState.CANCELLED),
    ],
)
def test_state(ledger: Verdict, slurm: Entry | None, has_begun: bool, state: RunState) -> None:
    assert told(ledger, slurm, has_begun=has_begun).state is state


def test_a_waiting_job_has_slurms_reason_and_expected_start() -> None:
    start = time.mktime((2026, 11, 24, 23, 5, 0, 0, 0, -1))
    verdict = told(PENDING, entry("PENDING", reason="Resources", starts_at=start), has_begun=False)

    assert verdict.reason == "job 7 waits (Resources, starts about Tue 23:05:00)"


def test_a_job_that_does_not_fit_in_before_a_maintenance_says_what_would() -> None:
    reason = "ReqNodeNotAvail, Reserved for maintenance"
    verdict = told(PENDING, entry("PENDING", reason=reason), has_begun=False)

    assert verdict.reason == f"job 7 waits ({reason}); a shorter cluster.time_min may fit in before that"


def test_a_held_job_names_the_command_that_frees_it() -> None:
    verdict = told(REQUEUED, entry("PENDING", reason="launch failed requeued held"))

    assert (
        verdict.reason == "preemption; job 7 is held (launch failed requeued held); `hpc-yolo status --heal` frees it"
    )


def test_what_the_supervisor_said_of_its_end_counts_more_than_what_slurm_says() -> None:
    verdict = told(Verdict(RunState.FAILED, "bad data"), entry("FAILED", exit_code="65:0"))

    assert (verdict.state, verdict.reason, verdict.exit_code) == (RunState.FAILED, "bad data", 65)


def test_a_job_that_was_cancelled_by_a_preemption_was_wanted_by_its_user() -> None:
    verdict = told(Verdict(RunState.CANCELLED, "stopped on request"), entry("PREEMPTED"))

    assert (verdict.state, verdict.reason) == (
        RunState.FAILED,
        "job 7 was preempted and Slurm did not queue it again; `hpc-yolo status --heal` submits it again",
    )


def test_a_job_that_came_to_no_attempt_is_told_by_its_own_log(tmp_path: Path) -> None:
    (tmp_path / "7_0_log.err").write_text("module: command not found\nhpc-yolo: node n1 has no python\nsrun: exit\n")
    verdict = told(PENDING, entry("FAILED", exit_code="78:0", nodes="n1"), has_begun=False, folder=tmp_path)

    assert verdict.reason is not None
    assert verdict.reason.startswith("job 7 ended: FAILED on n1, exit code 78 (node n1 has no python)")


def test_a_log_that_slurm_could_not_open() -> None:
    verdict = told(PENDING, entry("FAILED", exit_code="0:53", nodes="n1"), has_begun=False)

    assert verdict.reason is not None
    assert "is runs_dir on storage that this node sees?" in verdict.reason


def test_where_slurm_does_not_answer_the_ledger_counts_and_the_reason_says_so() -> None:
    verdict = told(RUNNING, None, trouble="Unable to contact slurm controller")

    assert verdict == Verdict(RunState.RUNNING, "job 7: Unable to contact slurm controller", is_told=False)


def test_one_squeue_without_an_answer_settles_nothing() -> None:
    gone = Verdict(RunState.FAILED, "its worker is gone", is_told=False)

    assert told(gone, None, trouble="Socket timed out").state is RunState.REQUEUED
    assert told(Verdict(RunState.FAILED, "an older job"), None, trouble="x", has_begun=False).state is RunState.PENDING
    assert told(Verdict(RunState.FAILED, "failed for good"), None, trouble="x").state is RunState.FAILED


def test_a_run_that_its_job_has_ended_while_others_go_on() -> None:
    """The job stands for others still, so what Slurm says of it is not asked."""
    failed = told(
        Verdict(RunState.FAILED, "the worker left with exit code 65"), None, withdrawn="it is over", exit_code=65
    )
    silent = told(VANISHED, None, withdrawn="job 7 is done with it (exit code 74)", exit_code=74)

    assert failed == Verdict(RunState.FAILED, "the worker left with exit code 65", 65)
    assert (silent.state, silent.exit_code) == (RunState.FAILED, 74)
    assert silent.reason == "job 7 is done with it (exit code 74); `hpc-yolo resume RUN` submits it again"


def test_a_run_that_was_withdrawn_before_it_began() -> None:
    assert told(PENDING, None, has_begun=False, withdrawn="cancelled on request").state is RunState.CANCELLED


def test_a_run_that_went_on_without_slurm_is_told_by_its_ledger() -> None:
    assert told(RUNNING, entry("CANCELLED"), is_local=True) == RUNNING
