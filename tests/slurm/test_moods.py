"""Handing a job back where Slurm does not make that easy: away, out of reach, not allowed, or not meant to happen."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from tests.chaos.conftest import assert_same_bits, hpc_yolo, wait_until
from tests.slurm.conftest import Cluster, SlurmRun, User, held_up, is_answering, is_there, job_field, run_command


def test_the_controller_is_away_until_the_grace_period_is_over(
    cluster: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    """Then nobody of ours can hand the job back, and the job's script does it once there is somebody to ask.

    A controller that has just come back may start it on its old node before that has heard of the end, and hold it then.
    """
    run = user.submit("away", "retry.grace_s=10")  # counts where the controller goes away before it was asked
    run.wait_for_attempt(1, step=20)
    with ExitStack() as away:
        with held_up([run.pid_of(Kind.WORKER_STARTED)]):  # else it has saved before the controller is gone
            cluster.take(run.nodes[0])
            wait_until(lambda: run.events(Kind.STOP_REQUESTED), "the warning", pause_s=0.02)
            away.enter_context(no_controller(cluster))
        handed = wait_until(lambda: run.events(Kind.HANDED_BACK), "a supervisor that has given up", pause_s=0.2)

    def is_done_where_somebody_looks_now_and_then() -> bool:
        return '"state": "done"' in hpc_yolo("status", "--heal", "--json", run.path).stdout

    wait_until(is_done_where_somebody_looks_now_and_then, "the run's end", pause_s=2.0)
    status = run.status()

    assert handed[0].fields["how"] == "refused"
    assert (status["interruptions"], status["steps_redone"]) == ({"preemption": 1}, 0)
    assert int(job_field(run.job, "Restarts")) >= 1
    assert_same_bits(run, undisturbed)


@pytest.mark.matrix
def test_a_node_or_a_container_without_scontrol(
    cluster: Cluster, user: User, undisturbed: SlurmRun, tmp_path: Path
) -> None:
    """srun starts the step with a PATH that has no command of Slurm's; the job's script has its own."""
    links_without_slurm(tmp_path)
    srun = shlex.quote(str(shutil.which("srun")))
    run = user.submit("contained", f"cluster.setup=['srun() {{ PATH={tmp_path} {srun} \"$@\"; }}']")
    run.wait_for_attempt(1, step=20)
    cluster.take(run.nodes[0])
    run.wait_for_attempt(2)
    status = run.wait_for_state("done")

    (handed,) = run.events(Kind.HANDED_BACK)
    assert (handed.fields["how"], "not on PATH" in handed.fields["said"]) == ("refused", True)
    assert (status["interruptions"], status["steps_redone"]) == ({"preemption": 1}, 0)
    assert_same_bits(run, undisturbed)


def test_a_partition_that_cancels_what_it_preempts_and_a_job_that_may_not_be_requeued(
    cancelling: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    """With a grace period both are handed back before Slurm ends them."""
    cancelled, forbidden = user.submit("cancelling"), user.submit("forbidden")
    run_command("scontrol", "update", f"JobId={forbidden.job}", "Requeue=0")  # as a site's job_submit plugin does
    for run in (cancelled, forbidden):
        run.wait_for_attempt(1, step=20)
    for node in sorted({cancelled.nodes[0], forbidden.nodes[0]}):
        cancelling.take(node)
    for run in (cancelled, forbidden):
        wait_until(lambda run=run: run.events(Kind.HANDED_BACK), "the hand-back", pause_s=0.2)
    cancelling.give_back()
    for run in (cancelled, forbidden):
        status = run.wait_for_state("done")
        assert (status["interruptions"], status["steps_redone"]) == ({"preemption": 1}, 0)
        assert run.events(Kind.HANDED_BACK)[0].fields["how"] == "requeued"
        assert_same_bits(run, undisturbed)


@pytest.mark.matrix
def test_a_partition_that_cancels_without_a_grace_period(
    cancelling: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    """Slurm has ended the job before anybody could ask for it: `status --heal` submits it again."""
    cancelling.set_grace(0)
    run = user.submit("ended")
    run.wait_for_attempt(1, step=20)
    first = run.job
    cancelling.take(run.nodes[0])
    run.wait_for_slurm("PREEMPTED", "CANCELLED")
    cancelling.give_back()
    healed = hpc_yolo("status", "--heal", run.path)
    status = run.wait_for_state("done")

    assert f"run {run.dir.path.name}: submitted as job {run.job}" in healed.stderr, healed.stderr
    assert "nothing to heal" not in healed.stderr
    assert run.job != first
    assert status["attempts"] == 2
    assert_same_bits(run, undisturbed)


def test_a_job_that_does_not_fit_in_before_a_maintenance_waits_and_says_so(cluster: Cluster, user: User) -> None:
    words = (
        "starttime=now+5minutes duration=60 users=root flags=maint,ignore_jobs nodes=node1,node2 reservationname=works"
    )
    run_command("scontrol", "create", "reservation", *words.split())
    try:
        run = user.submit("maintenance")
        status = wait_until(
            lambda: "reserved" in str((now := run.status())["reason"]).lower() and now, "Slurm's reason", pause_s=0.5
        )
        assert hpc_yolo("cancel", run.path).returncode == 0
    finally:
        run_command("scontrol", "delete", "reservationname=works")

    assert status["state"] == "pending"
    assert "a shorter cluster.time_min may fit in before that" in status["reason"]


@pytest.fixture
def cancelling(cluster: Cluster) -> Iterator[Cluster]:
    """Partition `low` cancels what is preempted in it, after ten seconds."""
    run_command("scontrol", "update", "PartitionName=low", "PreemptMode=CANCEL")
    yield cluster
    run_command("scontrol", "update", "PartitionName=low", "PreemptMode=REQUEUE")
    cluster.set_grace(10)


@contextmanager
def no_controller(cluster: Cluster) -> Iterator[None]:
    pid = int((cluster.dir / "run" / "slurmctld.pid").read_text())
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: not is_there(pid), "the controller's end", pause_s=0.05)
    try:
        yield
    finally:
        run_command("slurmctld", PATH=f"{os.environ['PATH']}:/usr/sbin")
        wait_until(is_answering, "the controller's answer", pause_s=0.3)


def links_without_slurm(folder: Path) -> None:
    """Every command of /usr/bin and /bin but Slurm's."""
    for directory in ("/bin", "/usr/bin"):
        for command in Path(directory).iterdir():
            link = folder / command.name
            if command.name not in ("scontrol", "squeue", "sacct", "scancel") and not link.exists():
                link.symlink_to(command)
