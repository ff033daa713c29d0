"""Preempted by Slurm itself, at every kind of moment: the run ends with the bits of an undisturbed one, no step redone."""

from __future__ import annotations

from hpc_yolo.events import Kind
from tests.chaos.conftest import assert_same_bits, hpc_yolo, wait_until
from tests.slurm.conftest import Cluster, SlurmRun, User, held_up, job_field


def assert_done_as_undisturbed(run: SlurmRun, undisturbed: SlurmRun, **told: object) -> None:
    status = run.wait_for_state("done")
    assert {key: status[key] for key in told} == told
    assert_same_bits(run, undisturbed)


def test_preempted_it_comes_back_on_the_other_node(cluster: Cluster, user: User, undisturbed: SlurmRun) -> None:
    run = user.submit("preempted")
    run.wait_for_attempt(1, step=20)
    cluster.take(run.nodes[0])
    run.wait_for_attempt(2)

    assert_done_as_undisturbed(
        run, undisturbed, attempts=2, preemptions=1, steps_redone=0, interruptions={"preemption": 1}
    )
    assert len(set(run.nodes)) == 2
    assert run.events(Kind.STOP_REQUESTED)[0].fields["signal"] == "SIGUSR1"
    assert run.events(Kind.STOP_EXPLAINED)[0].fields["reason"] == "preemption"
    assert run.events(Kind.HANDED_BACK)[0].fields["how"] == "requeued"


def test_preempted_with_sigterm_only(sigterm_only: Cluster, user: User, undisturbed: SlurmRun) -> None:
    run = user.submit("sigterm", "train.workers=1")
    run.wait_for_attempt(1, step=20)
    sigterm_only.take(run.nodes[0])
    run.wait_for_attempt(2)

    assert_done_as_undisturbed(run, undisturbed, attempts=2, preemptions=1, steps_redone=0)
    assert run.events(Kind.STOP_REQUESTED)[0].fields["signal"] == "SIGTERM"
    assert run.events(Kind.HANDED_BACK)[0].fields["how"] == "requeued"


def test_preempted_where_there_is_no_grace_period(cluster: Cluster, user: User, undisturbed: SlurmRun) -> None:
    """Slurm's default: the job is requeued first, then warned, and has KillWait to end."""
    cluster.set_grace(0)
    try:
        run = user.submit("no grace")
        run.wait_for_attempt(1, step=20)
        cluster.take(run.nodes[0])
        wait_until(lambda: run.events(Kind.HANDED_BACK), "the hand-back")
    finally:
        cluster.set_grace(10)

    assert_done_as_undisturbed(run, undisturbed, attempts=2, steps_redone=0, interruptions={"preemption": 1})
    assert run.events(Kind.HANDED_BACK)[0].fields["how"] == "gone"


def test_warned_while_it_imports_and_twice_more_while_it_saves(
    cluster: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    run = user.submit("early")
    wait_until(lambda: run.events(Kind.WORKER_STARTED), "the worker's start")
    cluster.take(run.nodes[0])  # torch is being imported
    wait_until(lambda: run.events(Kind.STOP_REQUESTED), "the warning")
    for _ in range(2):
        hpc_yolo("preempt", run.path)
    run.wait_for_attempt(2)

    assert_done_as_undisturbed(run, undisturbed, attempts=2, preemptions=1, steps_redone=0)


def test_warned_before_python_listens(cluster: Cluster, user: User, undisturbed: SlurmRun) -> None:
    run = user.submit("at once")
    run.wait_for_slurm("RUNNING")
    wait_until(lambda: hpc_yolo("preempt", run.path).returncode == 0, "a running job")
    run.wait_for_attempt(1)

    assert_done_as_undisturbed(run, undisturbed, steps_redone=0)
    assert job_restarts(run) == "1"


def test_warned_after_the_last_step(cluster: Cluster, user: User, undisturbed: SlurmRun) -> None:
    run = user.submit("late")
    run.wait_for_attempt(1, step=300)
    wait_until(lambda: run.beat().phase in ("final", "done"), "final evaluation")
    with held_up([run.pid_of(Kind.WORKER_STARTED)]):  # it would be done before our command has started
        answer = hpc_yolo("preempt", run.path)

    assert answer.returncode == 0, answer.stderr
    assert_done_as_undisturbed(run, undisturbed, steps_redone=0)
    run.wait_for_slurm("COMPLETED")


def test_a_save_that_the_grace_period_does_not_leave_time_for(
    cluster: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    cluster.set_grace(3)
    try:
        run = user.submit("short")
        run.wait_for_attempt(1, step=40)
        with held_up([run.pid_of(Kind.WORKER_STARTED)]):
            cluster.take(run.nodes[0])
            wait_until(lambda: len(run.dir.attempts()) > 1, "the next attempt")
    finally:
        cluster.set_grace(10)

    status = run.wait_for_state("done")
    assert status["interruptions"] == {"preemption": 1}
    assert 0 < status["steps_redone"] < 60  # back to the last snapshot, which is a second old
    assert_same_bits(run, undisturbed)


def job_restarts(run: SlurmRun) -> str:
    return job_field(run.job, "Restarts")
