"""`status`: what is said of a run in each situation that its events and heartbeats can tell."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from hpc_yolo.events import Kind
from hpc_yolo.processes import boot_id, process_start
from hpc_yolo.report.goodput import goodput_of
from hpc_yolo.report.history import read_history
from hpc_yolo.report.status import RunStatus, status_of
from hpc_yolo.report.timeline import moments_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.types import RunState
from tests.unit.runs_on_disk import begin, make_run
from tests.unit.sample_runs import make_interrupted_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / "runs" / "digits" / "3f2a90c1")


def status(run: RunDir) -> RunStatus:
    return status_of(read_history(run))


def test_a_run_without_attempts_is_pending(run: RunDir) -> None:
    found = status(run)

    assert found.state is RunState.PENDING
    assert (found.id, found.name, found.epoch, found.epochs, found.step) == ("3f2a90c1", "digits", 0, 10, 0)
    assert (found.attempts, found.worker_pid, found.reason) == (0, None, None)


def test_a_living_worker_is_running_and_named(run: RunDir) -> None:
    begin(run).start(job_id="4711").beat(23, epoch=2, alive=True)

    found = status(run)

    assert found.state is RunState.RUNNING
    assert (found.step, found.steps_total, found.epoch) == (23, 100, 3)
    assert (found.worker_pid, found.node, found.job_id) == (os.getpid(), "node7", "4711")


def test_several_ranks_are_one_row_with_their_nodes(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    attempt = begin(run).start(host="node1", ranks=4).beat(3, alive=True, host="node1")
    assert status(run).nodes == ["node1"]  # until they have met
    attempt.tell(Kind.RANKS_MET, hosts=["node1", "node1", "node2", "node2"])

    found = status(run)
    main(["status", str(run.path)])

    assert (found.ranks, found.nodes, found.node) == (4, ["node1", "node2"], "node1")
    assert "node1 +1 (4 ranks)" in capsys.readouterr().out
    begin(run, 2).start(host="node3").beat(4, alive=True, host="node3")
    assert (status(run).ranks, status(run).nodes) == (1, ["node3"])


def test_the_claimers_heartbeat_is_not_taken_for_the_workers(run: RunDir) -> None:
    attempt = begin(run)
    attempt.tell(Kind.ATTEMPT_STARTED, attempt=1, role="supervisor", pid=os.getpid(), host="node7")
    attempt.beat(0, alive=True)

    assert status(run).state is RunState.RUNNING
    assert status(run).worker_pid is None


def test_an_attempt_claimed_this_moment_is_running(run: RunDir) -> None:
    begin(run)

    assert status(run).state is RunState.RUNNING


def test_a_worker_asked_to_stop_is_stopping(run: RunDir) -> None:
    begin(run).start().beat(5, alive=True).tell(Kind.STOP_REQUESTED, signal="SIGUSR1", by="worker")

    assert status(run).state is RunState.STOPPING


@pytest.mark.parametrize("then", ["restart", "requeue"])
def test_a_preempted_attempt_is_requeued_until_the_next_begins(run: RunDir, then: str) -> None:
    begin(run).start().beat(50, epoch=4).tell(Kind.STOPPED, step=50).end("preemption", then)
    assert status(run).state is RunState.REQUEUED

    begin(run, 2).start(resumed_at=50, epoch=4).beat(50, epoch=4, alive=True)
    found = status(run)

    assert (found.state, found.step, found.epoch) == (RunState.RUNNING, 50, 5)
    assert (found.attempts, found.preemptions, found.steps_redone) == (2, 1, 0)


def test_a_bare_worker_that_stopped_is_requeued_and_counts_as_preempted(run: RunDir) -> None:
    begin(run).start().beat(50).tell(Kind.STOPPED, step=50)

    assert (status(run).state, status(run).preemptions) == (RunState.REQUEUED, 1)


def test_a_stop_whose_supervisor_still_lives_is_undecided(run: RunDir) -> None:
    us = {"pid": os.getpid(), "started": process_start(os.getpid()), "boot": boot_id()}
    attempt = begin(run).tell(Kind.ATTEMPT_STARTED, attempt=1, role="supervisor", host="node7", **us)
    attempt.beat(50).tell(Kind.STOPPED, step=50)

    assert status(run).state is RunState.STOPPING


def test_a_cancelled_run_says_so_and_is_not_preempted(run: RunDir) -> None:
    begin(run).start().beat(50).tell(Kind.STOPPED, step=50).end("cancellation", "stop", why="Ctrl-C")

    found = status(run)

    assert (found.state, found.preemptions, found.reason) == (RunState.CANCELLED, 0, "Ctrl-C")


def test_a_failed_run_tells_the_error(run: RunDir) -> None:
    attempt = begin(run).start().beat(7).tell(Kind.FAILED, error="no such file: images/7.png", exit_code=65)
    assert status(run).state is RunState.FAILED

    attempt.end("failure", "fail", why="exit code 65 cannot be mended by a restart")
    assert status(run).state is RunState.FAILED
    assert status(run).reason == "no such file: images/7.png"


def test_a_vanished_worker_says_from_where_the_run_goes_on(run: RunDir) -> None:
    begin(run).start().tell(Kind.SNAPSHOT_COMMITTED, file="x", step=40).beat(47, epoch=4)

    found = status(run)

    assert found.state is RunState.FAILED
    assert found.reason == f"the worker vanished at step 47; `hpc-yolo run {run.path}` goes on from step 40"
    assert found.worker_pid is None


def test_killed_attempts_lose_the_steps_since_their_last_snapshot(run: RunDir) -> None:
    begin(run, 1).start().beat(47)
    begin(run, 2).start(resumed_at=None).beat(0)  # killed before it had resumed: loses nothing more
    begin(run, 3).start(resumed_at=40).beat(42)
    begin(run, 4).start(resumed_at=41).beat(60, alive=True)

    assert status(run).steps_redone == 7 + 1


def test_a_finished_run_is_done_with_its_metric(run: RunDir) -> None:
    attempt = begin(run).start()
    attempt.tell(Kind.EPOCH_ENDED, epoch=8, step=90, metrics={"metrics/mAP50-95(B)": 0.3}, fitness=0.3)
    attempt.beat(100, epoch=9)
    attempt.tell(Kind.FINISHED, step=100, metrics={"train/loss": 1.0, "metrics/mAP50-95(B)": 0.41, "fitness": 0.41})

    found = status(run)

    assert (found.state, found.epoch, found.step, found.reason) == (RunState.DONE, 10, 100, None)
    assert (found.metric, found.metric_name) == (0.41, "metrics/mAP50-95(B)")
    assert found.metrics["train/loss"] == 1.0


def test_a_done_run_stays_done_when_it_is_started_again(run: RunDir) -> None:
    begin(run).start().beat(100, epoch=9).tell(Kind.FINISHED, step=100, metrics={}).end("done", "done")
    begin(run, 2).start(resumed_at=100, epoch=9).beat(0)

    assert (status(run).state, status(run).step, status(run).steps_redone) == (RunState.DONE, 100, 0)


def test_an_inexact_run_says_from_where_on(run: RunDir) -> None:
    begin(run).start().beat(60, alive=True).tell(Kind.INEXACT, from_step=50, differences=["torch: 2.14 -> 2.15"])

    assert status(run).reason == "not exact from step 50 on (torch: 2.14 -> 2.15)"


def test_a_broken_run_yaml_is_one_row_among_the_others(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    other = make_run(run.path.parent / "77d0")
    other.run_yaml.write_text("id: [unclosed")

    assert main(["status", str(run.path.parent)]) == 0
    shown = capsys.readouterr().out

    assert "3f2a90c1 digits" in shown
    assert "77d0" in shown
    assert "run.yaml cannot be parsed" in shown


def test_json_has_a_list_with_the_promised_fields(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    begin(run).start().beat(23, epoch=2, alive=True)

    assert main(["status", "--json", "--runs-dir", str(run.path.parent.parent)]) == 0
    (row,) = json.loads(capsys.readouterr().out)

    assert row.items() >= {"id": "3f2a90c1", "dir": str(run.path), "state": "running", "step": 23, "epoch": 3}.items()
    assert row.keys() >= {
        *("id", "dir", "name", "state", "epoch", "epochs", "step", "steps_total", "attempts", "preemptions"),
        *("steps_redone", "metric", "worker_pid", "node", "job_id", "reason"),
    }  # fmt: skip


def test_an_empty_runs_dir_is_no_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["status", "--runs-dir", str(tmp_path)]) == 0
    assert "no runs in" in capsys.readouterr().err


def test_a_storage_that_takes_nothing_is_told_from_the_heartbeat(run: RunDir) -> None:
    begin(run).start().beat(23, alive=True, trouble="snapshots: No space left on device", trouble_since=1_700_000_000.0)
    reason = status(run).reason

    assert reason is not None
    assert reason.endswith(": snapshots: No space left on device")


def test_a_heartbeat_that_stays_away_is_told_since_when(run: RunDir) -> None:
    begin(run).start().beat(23, alive=True)

    found = status_of(read_history(run, now=time.time() + 30))

    assert found.state is RunState.RUNNING
    assert "no heartbeat since" in (found.reason or "")
    assert "its storage does not answer" in (found.reason or "")


def test_the_time_left_is_told_at_the_pace_of_the_newest_attempt_that_has_one(run: RunDir) -> None:
    attempt = begin(run).start()
    attempt.beat(50).tell(Kind.STOPPED, step=50).end("preemption", "requeue")
    history = read_history(run)
    beat, resumed = history.attempts[0].beat, history.attempts[0].first(Kind.RESUMED)
    assert beat is not None
    assert resumed is not None
    beat.time = resumed.time + 100  # two seconds a step, 50 steps to go

    found = status_of(history)

    assert (found.eta_s, found.sweep) == (100.0, "digits")
    attempt.tell(Kind.FINISHED, step=100, metrics={})
    assert status(run).eta_s is None


def test_snapshots_that_are_gone_say_nothing_of_where_an_attempt_stands(run: RunDir) -> None:
    begin(run).start().beat(100).tell(Kind.STOPPED, step=100)
    begin(run, 2).start(resumed_at=0).beat(30).tell(Kind.SNAPSHOTS_GONE, step=100)
    begin(run, 3).start(resumed_at=20).beat(31, alive=True)

    found = status(run)

    assert (found.step, found.steps_redone) == (31, 100 + 10)


@pytest.mark.parametrize(("grace_s", "is_told"), [(31.0, False), (10.0, True)])
def test_a_grace_period_must_leave_time_for_a_save(run: RunDir, grace_s: float, is_told: bool) -> None:
    attempt = begin(run).start().tell(Kind.SNAPSHOT_COMMITTED, step=10, seconds=30.0)
    attempt.tell(Kind.STOP_EXPLAINED, reason="preemption", grace_s=grace_s, said="").end(
        "preemption", "requeue", "late"
    )
    begin(run, 2).start(resumed_at=10).beat(12, alive=True)
    reason = str(status(run).reason)

    assert ("a save took 30.0 s, but a preemption leaves only 10 s" in reason) is is_told


@pytest.mark.parametrize(
    ("delay", "runs", "told"),
    [
        (31, None, None),
        (
            30,
            None,
            "a save took 30.0 s, but Slurm warns only 30 s before the time limit: set cluster.signal_delay_s=120",
        ),
        (91, 3, None),
        (90, 3, "a save took 30.0 s and 3 runs of its job save at once, but .*: set cluster.signal_delay_s=360"),
    ],
)
def test_a_warning_must_leave_time_for_what_all_runs_of_a_job_save(
    run: RunDir, delay: int, runs: int | None, told: str | None
) -> None:
    attempt = begin(run).start(signal_delay_s=delay, runs_together=runs)
    attempt.tell(Kind.SNAPSHOT_COMMITTED, step=10, seconds=30.0).beat(12, alive=True)
    reason = status(run).reason

    assert reason is None if told is None else re.match(told, str(reason)), reason


def test_a_row_tells_the_goodput_that_the_report_tells(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = make_interrupted_run(tmp_path / "night" / "3f2a90c1")
    ratio = goodput_of(moments_of(read_history(run).attempts)).ratio
    assert ratio is not None
    assert 0.5 < ratio < 1

    assert main(["status", str(run.path)]) == 0
    header, row = capsys.readouterr().out.splitlines()
    assert main(["status", str(run.path), "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)

    assert told["goodput"] == pytest.approx(ratio)
    assert row[header.index("GOODPUT") :].split()[0] == f"{100 * ratio:.0f}%"
