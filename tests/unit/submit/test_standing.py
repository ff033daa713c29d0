"""Which runs are trained again when the same thing is asked for again."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpc_yolo.config import Resubmit, RetryConfig
from hpc_yolo.events import Kind
from hpc_yolo.frozen import write_launch
from hpc_yolo.rundir import find_runs
from hpc_yolo.submissions import newest_submission, note_submission, note_withdrawal
from hpc_yolo.submit.freeze import Plan, materialise
from hpc_yolo.submit.queue_up import submit_all
from hpc_yolo.submit.standing import Stand, standing_of
from hpc_yolo.types import JobId
from tests.unit.runs_on_disk import AttemptOnDisk, begin, write_snapshot
from tests.unit.submit.fake_slurm import FakeSlurm
from tests.unit.submit.plans import make_plans


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    (made,) = make_plans(tmp_path / "runs" / "grid", 1)
    materialise(made)
    return made


def stand(plan: Plan) -> Stand:
    return standing_of(plan.run, plan.launch).stand


def attempt(plan: Plan, number: int = 1, **started: object) -> AttemptOnDisk:
    made = begin(plan.run, number)
    made.dir.launch_yaml.write_text(plan.run.launch_yaml.read_text())
    return made.start(**started).beat(5)  # type: ignore[arg-type]


def fail(plan: Plan, code: int, number: int = 1) -> None:
    attempt(plan, number).tell(Kind.FAILED, error="labels/7.txt is damaged.", exit_code=code).tell(
        Kind.ATTEMPT_ENDED, outcome="failure", exit_code=code, next="fail", why="it would again"
    )


def test_one_that_was_never_made_or_never_asked_for_is_new(plan: Plan) -> None:
    assert stand(plan) is Stand.NEW
    assert stand(make_plans(plan.run.path.parent, 1, first=9)[0]) is Stand.NEW


def test_one_whose_job_never_began_is_broken_and_one_that_was_taken_back_is_not(plan: Plan) -> None:
    note_submission(plan.run, JobId("7"), plan.run.path)
    assert stand(plan) is Stand.BROKEN
    note_withdrawal(plan.run, JobId("7"), "cancelled")
    assert stand(plan) is Stand.NEW


def test_one_that_was_stopped_goes_on_from_its_snapshot(plan: Plan) -> None:
    attempt(plan).tell(Kind.STOPPED, step=5).end("cancellation", "stop")
    assert stand(plan) is Stand.NEW  # nothing is left of it
    write_snapshot(plan.run)
    assert stand(plan) is Stand.ONWARD


@pytest.mark.parametrize(
    ("outcome", "then"),
    [
        ("failure", "fail"),
        ("timeout", "fail"),
        ("node_failure", "fail"),
        ("preemption", "requeue"),
        ("failure", "restart"),
    ],
)
def test_one_that_broke_off_is_broken(plan: Plan, outcome: str, then: str) -> None:
    attempt(plan).tell(Kind.ATTEMPT_ENDED, outcome=outcome, exit_code=70, next=then, why="")
    assert stand(plan) is Stand.BROKEN


def test_one_whose_worker_vanished_is_broken(plan: Plan) -> None:
    attempt(plan)
    assert stand(plan) is Stand.BROKEN


@pytest.mark.parametrize("code", [65, 78])
def test_one_that_needs_mending_failed_for_good(plan: Plan, code: int) -> None:
    fail(plan, code)
    found = standing_of(plan.run, plan.launch)

    assert (found.stand, found.exit_code, found.why) == (Stand.FAILED, code, "labels/7.txt is damaged")
    assert [found.is_to_be_trained(it) for it in Resubmit] == [False, True, True]
    assert "resubmit=failed" in found.advice(plan.run)


@pytest.mark.parametrize("code", [69, 70, 73, 74, -9])
def test_other_failures_may_not_come_back(plan: Plan, code: int) -> None:
    fail(plan, code)
    assert stand(plan) is Stand.BROKEN


def test_other_settings_may_be_what_mends_it(plan: Plan) -> None:
    fail(plan, 78)
    other = replace(plan, launch=replace(plan.launch, retry=RetryConfig(max_restarts=9)))
    write_launch(plan.run, other.launch)

    assert stand(plan) is Stand.FAILED
    assert stand(other) is Stand.BROKEN


def test_one_that_was_submitted_since_it_failed_has_been_asked_for_already(plan: Plan) -> None:
    fail(plan, 65)
    note_submission(plan.run, JobId("7"), plan.run.path)

    assert stand(plan) is Stand.BROKEN
    attempt(plan, 2, job_id="7").tell(
        Kind.ATTEMPT_ENDED, outcome="failure", exit_code=65, next="fail", why="still damaged"
    )
    assert standing_of(plan.run, plan.launch).why == "still damaged"


def test_a_failed_one_is_left_alone_until_that_is_asked_for(
    slurm: FakeSlurm, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    fail(plan, 65)
    others = make_plans(plan.run.path.parent, 2, first=1)

    assert submit_all([plan, *others]) == [65, 0, 0]
    told = capsys.readouterr()
    assert (
        "failed for good and is left alone (labels/7.txt is damaged). Once that is mended, add resubmit=failed"
        in told.err
    )
    assert "2 submitted, 1 failed for good and left alone" in told.out
    assert newest_submission(plan.run) is None

    assert submit_all([plan, *others], Resubmit.FAILED) == [0, 0, 0]
    assert "1 failed for good and submitted again, 2 queued already" in capsys.readouterr().out


def test_a_done_one_is_trained_anew_beside_what_it_was(
    slurm: FakeSlurm, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt(plan).tell(Kind.FINISHED, step=9, metrics={})

    assert submit_all([plan]) == submit_all([plan], Resubmit.FAILED) == [0]
    assert slurm.jobs == {}
    assert submit_all([plan], Resubmit.ALL) == [0]
    assert list(slurm.jobs) == ["100"]
    assert "done and trained anew" in capsys.readouterr().out
    assert [run.path for run in find_runs(plan.run.path.parent)] == [plan.run.path]
    (aside,) = plan.run.path.parent.glob("*.before-*")
    assert (aside / "attempts" / "001" / "events.jsonl").exists()
    assert [run.path for run in find_runs(aside)] == [aside]

    assert submit_all([plan], Resubmit.ALL) == [0]  # it waits now: nothing more is put aside
    assert len(list(plan.run.path.parent.glob("*.before-*"))) == 1
    assert len(slurm.jobs) == 1


def test_the_summary_tells_each_kind(slurm: FakeSlurm, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    plans = [plan, *make_plans(plan.run.path.parent, 4, first=1)]
    for it in plans[1:4]:
        materialise(it)
    attempt(plan).tell(Kind.FINISHED, step=9, metrics={})
    attempt(plans[1]).tell(Kind.STOPPED, step=5).end("cancellation", "stop")
    write_snapshot(plans[1].run)
    attempt(plans[2])
    submit_all([plans[3]])
    capsys.readouterr()

    assert submit_all(plans) == [0] * 5
    assert capsys.readouterr().out.splitlines()[-1] == (
        "5 runs: 1 submitted, 1 stopped before and submitted to go on from a snapshot, 1 broken and submitted again, "
        "1 queued already, 1 done already"
    )
