"""A run on this machine: however it is warned, killed or stopped, it ends once, with its state saved, and tells the truth."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.errors import BusyError, ConfigError
from hpc_yolo.events import Kind
from hpc_yolo.frozen import write_launch
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.controller import mend_pickle
from hpc_yolo.submit.foreground import Submission, kill
from hpc_yolo.submit.local import launch, submit
from hpc_yolo.supervise.drill import preempt, stop
from hpc_yolo.supervise.tree import descendants, send
from hpc_yolo.types import RunState
from tests.unit.runs_on_disk import make_done_run
from tests.unit.supervised import (
    CRASH,
    FINISH,
    HANG,
    TRAIN_ON,
    endings,
    events,
    launch_of,
    make_run,
    processes_of,
    status,
    supervisor,
    task_of,
    until,
    until_attempt,
    warn,
    worker,
)  # fmt: skip

REPOSITORY = str(Path(__file__).parents[2])
Begin = Callable[..., tuple[RunDir, Submission]]


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", REPOSITORY)


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Submits a run in the background; whatever the test leaves running is killed."""
    begun: list[Submission] = []

    def _begin(*parts: dict[str, Any], **retry: Any) -> tuple[RunDir, Submission]:
        run = make_run(tmp_path / "experiment" / f"run{len(begun)}", *parts, **retry)
        begun.append(submit(run, False, task_of(run)))
        return run, begun[-1]

    yield _begin
    left = [line for submission in begun for line in processes_of(submission.run)]
    for submission in begun:
        if submission.controller.poll() is None:
            kill(submission)
    assert not left


def outcome(submission: Submission) -> int:
    code = submission.controller.wait(timeout=30)
    until(lambda: not processes_of(submission.run), within_s=5)
    return code


def test_a_run_that_ends_removes_what_has_expired_beside_it(begin: Begin, tmp_path: Path) -> None:
    old = make_done_run(tmp_path / "experiment" / "done")
    write_launch(old, launch_of(ttl_h=1))

    _, submission = begin(FINISH)

    assert outcome(submission) == 0
    assert list(old.snapshots_dir.iterdir()) == []


def test_a_run_that_finishes_leaves_with_0(begin: Begin) -> None:
    run, submission = begin(FINISH)

    assert outcome(submission) == 0
    assert endings(run) == [("done", "done")]
    assert status(run).state is RunState.DONE
    assert "begins at 0" in run.attempt(1).stdout.read_text()


def test_a_warned_run_saves_is_requeued_and_finishes_without_redoing_a_step(begin: Begin) -> None:
    run, submission = begin(TRAIN_ON, FINISH)
    until_attempt(run, 1, step=5)

    warn(run)

    assert outcome(submission) == 0
    assert endings(run) == [("preemption", "requeue"), ("done", "done")]
    assert (status(run).preemptions, status(run).steps_redone) == (1, 0)
    first, second = (event.fields["pid"] for event in events(run, Kind.ATTEMPT_STARTED))
    assert first != second


def test_the_supervisor_alone_is_warned_and_passes_it_on(begin: Begin) -> None:
    run, submission = begin(TRAIN_ON, FINISH)
    until_attempt(run, 1)

    os.kill(supervisor(run), signal.SIGUSR1)

    assert outcome(submission) == 0
    assert endings(run) == [("preemption", "requeue"), ("done", "done")]


def test_warnings_that_follow_each_other_make_one_stop_and_one_requeue(begin: Begin) -> None:
    run, submission = begin({**TRAIN_ON, "saves_for_s": 1.0}, FINISH)
    until_attempt(run, 1)

    warn(run)
    warn(run)
    until(lambda: events(run, Kind.STOP_REQUESTED))
    warn(run)
    os.killpg(supervisor(run), signal.SIGTERM)

    assert outcome(submission) == 0
    assert endings(run) == [("preemption", "requeue"), ("done", "done")]
    assert len(events(run, Kind.STOPPED)) == 1


def test_a_warning_while_the_worker_starts_is_not_lost(begin: Begin) -> None:
    run, submission = begin({**TRAIN_ON, "arms_after_s": 1.0}, FINISH)
    until(lambda: events(run, Kind.ATTEMPT_STARTED))

    warn(run)

    assert outcome(submission) == 0
    assert endings(run) == [("preemption", "requeue"), ("done", "done")]


def test_more_preemptions_than_submitit_would_bear(begin: Begin) -> None:
    run, submission = begin(*[TRAIN_ON] * 7, FINISH)
    for number in range(1, 8):
        until_attempt(run, number, step=number)
        warn(run)

    assert outcome(submission) == 0
    assert (status(run).attempts, status(run).preemptions) == (8, 7)


def test_the_preemption_budget_ends_the_run_with_its_state_saved(begin: Begin) -> None:
    run, submission = begin(TRAIN_ON, max_preemptions=0)
    until_attempt(run, 1)

    warn(run)

    assert outcome(submission) == 75
    assert endings(run) == [("preemption", "fail")]
    assert status(run).state is RunState.FAILED


def test_a_run_that_is_finished_when_the_warning_comes_is_not_requeued(begin: Begin) -> None:
    run, submission = begin({**TRAIN_ON, "saves_for_s": 0.5, "stops_with": 0})
    until_attempt(run, 1)

    warn(run)

    assert outcome(submission) == 0
    assert endings(run) == [("done", "done")]


def test_a_worker_that_does_not_stop_is_killed_at_the_deadline_and_requeued(begin: Begin) -> None:
    run, submission = begin(HANG, FINISH, grace_s=2)
    until_attempt(run, 1)

    warn(run)

    assert outcome(submission) == 0
    assert endings(run) == [("preemption", "requeue"), ("done", "done")]
    assert events(run, Kind.ATTEMPT_ENDED)[0].fields["exit_code"] == -9


def test_a_worker_that_is_killed_on_its_way_out_has_still_saved_or_finished(begin: Begin) -> None:
    run, submission = begin({**TRAIN_ON, "dies_leaving": True}, {**FINISH, "dies_leaving": True}, max_restarts=0)
    until_attempt(run, 1)

    os.kill(worker(run), signal.SIGUSR1)

    assert outcome(submission) == 0
    assert endings(run) == [("preemption", "restart"), ("done", "done")]


def test_a_worker_that_is_warned_alone_is_restarted_in_place(begin: Begin) -> None:
    run, submission = begin(TRAIN_ON, FINISH, max_restarts=0)
    until_attempt(run, 1)

    os.kill(worker(run), signal.SIGUSR1)

    assert outcome(submission) == 0
    assert endings(run) == [("preemption", "restart"), ("done", "done")]
    assert len({event.fields["pid"] for event in events(run, Kind.ATTEMPT_STARTED)}) == 1


def test_a_killed_worker_is_restarted_in_place(begin: Begin) -> None:
    run, submission = begin({"then": "be killed"}, FINISH)

    assert outcome(submission) == 0
    assert endings(run) == [("failure", "restart"), ("done", "done")]


def test_a_worker_that_dies_before_its_first_heartbeat_is_restarted_too(begin: Begin) -> None:
    run, submission = begin({**TRAIN_ON, "arms_after_s": 60}, FINISH)
    until(lambda: any(str(run.path) in line and "fake_worker" in line for line in processes_of(run)))

    send(descendants(supervisor(run)), signal.SIGKILL)

    assert outcome(submission) == 0
    assert endings(run) == [("failure", "restart"), ("done", "done")]


def test_a_run_that_keeps_failing_without_a_new_step_ends_with_its_workers_code(begin: Begin) -> None:
    run, submission = begin({**CRASH, "code": 74}, max_restarts=1)

    assert outcome(submission) == 74
    assert endings(run) == [("failure", "restart"), ("failure", "fail")]
    assert status(run).state is RunState.FAILED


def test_a_worker_that_needs_a_person_is_not_tried_again(begin: Begin) -> None:
    run, submission = begin({**CRASH, "code": 78})

    assert outcome(submission) == 78
    assert endings(run) == [("failure", "fail")]


def test_a_full_quota_is_tried_once_more_and_then_held_for_a_person(begin: Begin) -> None:
    run, submission = begin({**CRASH, "code": 74, "error": "cannot write x: Disk quota exceeded."})

    assert outcome(submission) == 74
    assert endings(run) == [("failure", "restart"), ("failure", "hold")]
    assert events(run, Kind.ATTEMPT_ENDED)[-1].fields["by"] == '"Disk quota exceeded" in its error'
    assert (status(run).state, status(run).cause) == (RunState.FAILED, "quota")
    assert status(run).reason == "quota: cannot write x: Disk quota exceeded."


def test_an_unreadable_launch_config_fails_the_attempt_and_says_so(begin: Begin) -> None:
    run, submission = begin(TRAIN_ON, FINISH)
    until_attempt(run, 1)
    run.launch_yaml.write_text("nothing of use")

    warn(run)

    assert outcome(submission) == 78
    assert status(run).state is RunState.FAILED
    assert "launch.yaml" in str(status(run).reason)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_stop_saves_and_leaves_with_75(begin: Begin, signum: signal.Signals) -> None:
    run, submission = begin(TRAIN_ON)
    until_attempt(run, 1)

    os.kill(supervisor(run), signum)

    assert outcome(submission) == 75
    assert endings(run) == [("cancellation", "stop")]
    assert status(run).state is RunState.CANCELLED


def test_a_stop_after_a_warning_leaves_the_run_stopped(begin: Begin) -> None:
    run, submission = begin({**TRAIN_ON, "saves_for_s": 0.5}, FINISH)
    until_attempt(run, 1)

    warn(run)
    submission.controller.send_signal(signal.SIGTERM)

    assert outcome(submission) == 75
    assert status(run).state is RunState.CANCELLED
    assert status(run).attempts == 1


def test_a_stop_between_two_attempts_leaves_the_run_stopped(begin: Begin) -> None:
    run, submission = begin(CRASH, CRASH, CRASH, FINISH)
    until(lambda: len(endings(run)) == 2)  # two seconds until the third

    stop(run)

    assert outcome(submission) == 75
    assert status(run).state is RunState.CANCELLED


def test_a_killed_supervisor_is_replaced_once_its_worker_has_saved(begin: Begin) -> None:
    run, submission = begin({**TRAIN_ON, "saves_for_s": 0.5}, FINISH)
    until_attempt(run, 1)

    os.kill(supervisor(run), signal.SIGKILL)

    assert outcome(submission) == 0
    assert status(run).steps_redone == 0
    assert events(run, Kind.STOPPED)[0].time <= events(run, Kind.ATTEMPT_STARTED)[1].time


def test_a_supervisor_that_is_always_killed_ends_the_run(begin: Begin) -> None:
    run, submission = begin(TRAIN_ON)
    for number in range(1, 5):
        until_attempt(run, number)
        os.kill(supervisor(run), signal.SIGKILL)

    assert outcome(submission) == 70
    assert status(run).state is RunState.FAILED


def test_a_killed_controller_leaves_no_orphan_and_the_state_saved(begin: Begin) -> None:
    run, submission = begin(TRAIN_ON)
    until_attempt(run, 1)

    submission.controller.kill()

    assert outcome(submission) == -9
    until(lambda: endings(run))
    assert endings(run) == [("cancellation", "stop")]
    assert events(run, Kind.STOPPED)


def test_the_drill_warns_the_whole_run(begin: Begin) -> None:
    run, submission = begin(TRAIN_ON, FINISH)
    until_attempt(run, 1)

    told = preempt(run)

    assert told.startswith(f"warned attempt 1 of {run.path}")
    assert outcome(submission) == 0
    assert status(run).preemptions == 1


def test_the_drill_refuses_a_run_that_is_done(begin: Begin) -> None:
    run, submission = begin(FINISH)
    outcome(submission)

    with pytest.raises(ConfigError, match="is done: there is nothing to warn"):
        preempt(run)


def test_the_drill_refuses_a_run_that_nobody_trains(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not running: there is nothing to stop"):
        stop(make_run(tmp_path / "run", FINISH))


def test_a_run_that_is_being_trained_is_refused(begin: Begin) -> None:
    run, _ = begin(TRAIN_ON)
    until_attempt(run, 1)

    with pytest.raises(BusyError, match="is being trained already"):
        launch(run, wait=False, task=task_of(run))
    stop(run)
    until(lambda: not processes_of(run))


def test_the_gpus_stay_visible(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    run, submission = begin(TRAIN_ON)
    until_attempt(run, 1)

    environ = Path(f"/proc/{worker(run)}/environ").read_bytes().split(b"\0")

    assert b"CUDA_VISIBLE_DEVICES=3" in environ
    stop(run)
    assert outcome(submission) == 75


@pytest.mark.parametrize("is_swapped", [True, False])
def test_a_requeue_that_was_cut_short_is_mended(tmp_path: Path, is_swapped: bool) -> None:
    pickle, leftover = tmp_path / "1_submitted.pkl", tmp_path / "1_submitted.pkl.save_tmp"
    leftover.write_text("new")
    if not is_swapped:
        pickle.write_text("old")

    mend_pickle(pickle)

    assert pickle.read_text() == ("new" if is_swapped else "old")
    assert not leftover.exists()
