"""Time limits, lost nodes, zombies, kills and cancellations on a real Slurm: each told from the others, each exact."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import pytest

from hpc_yolo.events import Kind, read_events
from hpc_yolo.processes import process_start
from tests.chaos.conftest import assert_same_bits, hpc_yolo, wait_until
from tests.slurm.conftest import (
    Cluster,
    SlurmRun,
    User,
    held_up,
    is_ours,
    job_field,
    job_pids,
    options_for,
    run_command,
    step_pids,
)  # fmt: skip


def has_limit(run: SlurmRun, minutes: int) -> bool:
    """Refused while Slurm is just ending a start of the job."""
    with suppress(AssertionError):
        run_command("scontrol", "update", f"jobid={run.job}", f"timelimit={minutes}")
    return job_field(run.job, "TimeLimit") == f"00:{minutes}:00"


def test_the_time_limit_is_reached_twice(
    cluster: Cluster, user: User, undisturbed: SlurmRun, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Slurm looks at time limits twice a minute, so it warns after 10 to 40 s of the minute that it grants.

    A third run, beside them, is not warned before the limit (and held up until then): SIGTERM with it is its last chance.
    Once the first has reached it twice it may go on, unless it is done: how far it comes in a minute is this machine's affair.
    """
    root = tmp_path_factory.mktemp("long")
    longer = User(root / "runs", options_for(root, epochs=100))
    reference = longer.submit("undisturbed", "cluster.nodelist=node2")
    run = longer.submit("limited", "cluster.nodelist=node1", "cluster.time_min=1", "cluster.signal_delay_s=20")
    late = user.submit("not warned", "cluster.nodelist=node2", "cluster.time_min=1", "cluster.signal_delay_s=null")
    late.wait_for_attempt(1, step=20)
    with held_up(step_pids(late)):
        late.wait_for_slurm("COMPLETING")
    late_status = late.wait_for_state("done")
    wait_until(lambda: run.endings.count(("timeout", "requeue")) >= 2, "the second time limit", pause_s=0.3)
    wait_until(lambda: has_limit(run, minutes=30) or ("done", "done") in run.endings, "another limit", pause_s=0.3)
    status = run.wait_for_state("done")
    reference.wait_for_state("done")

    assert status["interruptions"].keys() == {"timeout"}
    assert status["interruptions"]["timeout"] >= 2
    assert (status["preemptions"], status["steps_redone"]) == (0, 0)
    assert_same_bits(run, reference)
    assert (late_status["interruptions"], late_status["steps_redone"]) == ({"timeout": 1}, 0)
    assert_same_bits(late, undisturbed)


def test_a_node_that_is_lost_without_a_warning(cluster: Cluster, user: User, undisturbed: SlurmRun) -> None:
    run = user.submit("lost")
    run.wait_for_attempt(1, step=40)
    node = run.nodes[0]
    lose(cluster, run, node)
    try:
        status = run.wait_for_state("done")
    finally:
        cluster.launch("node-start", node)

    assert status["interruptions"] == {"node_failure": 1}
    assert len(set(run.nodes)) == 2
    assert_same_bits(run, undisturbed)
    assert status["steps_redone"] == lost_steps(run)


def test_a_node_set_down_with_its_processes_alive(cluster: Cluster, user: User, undisturbed: SlurmRun) -> None:
    """Slurm warns, and queues the job again at once."""
    run = user.submit("down")
    run.wait_for_attempt(1, step=40)
    run_command("scontrol", "update", f"nodename={run.nodes[0]}", "state=down", "reason=drill")
    status = run.wait_for_state("done")

    assert status["interruptions"] == {"node_failure": 1}
    assert status["steps_redone"] == 0
    assert_same_bits(run, undisturbed)


def test_a_zombie_on_a_node_that_was_given_up_stops_writing_and_ends(
    cluster: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    """Cut off from Slurm: its script and srun, which on one machine still reach slurmctld, are gone.

    (A srun that lives on would have the step of the same name killed, which by then is the next attempt's.)
    """
    run = user.submit("zombie")
    run.wait_for_attempt(1, step=40)
    node, zombies = run.nodes[0], step_pids(run)
    with held_up(zombies):
        kill_daemons_of(run)  # nobody is left who could tell them to end
        kill(pid for pid in job_pids(run) if pid not in zombies)
        run_command("scontrol", "update", f"nodename={node}", "state=down", "reason=drill")
        run.wait_for_attempt(2, step=60)
    wait_until(lambda: not any(process_start(pid) for pid in zombies), "the zombies' end", pause_s=0.1)
    status = run.wait_for_state("done")

    assert status["interruptions"] == {"node_failure": 1}
    assert_same_bits(run, undisturbed)


def test_a_job_that_came_back_to_its_own_processes_is_held_until_a_sibling_frees_it(
    cluster: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    """Slurm's words: "Duplicate jobid", the node drained, "launch failed requeued held"."""
    run = user.submit("held", "cluster.nodelist=node1")
    run.wait_for_attempt(1, step=40)
    zombies = job_pids(run)
    with held_up(zombies):
        run_command("scontrol", "update", "nodename=node1", "state=down", "reason=drill")
        wait_until(lambda: "held" in job_field(run.job, "Reason"), "a launch that fails", pause_s=0.3)
    wait_until(lambda: not any(process_start(pid) for pid in zombies), "the zombies' end", pause_s=0.1)
    run.wait_for_slurm("PENDING")
    status = run.status()

    assert status["state"] == "requeued"
    assert "(launch failed requeued held); `hpc-yolo status --heal` frees it" in status["reason"]
    run_command("scontrol", "update", "nodename=node1", "state=resume")
    assert user.train("held", "train.seed=7", "cluster.nodelist=node2", "retry.release_every_s=1").returncode == 0
    status = run.wait_for_state("done")
    assert status["interruptions"] == {"node_failure": 1}
    (released,) = (event for event in read_events(run.dir.jobs) if event.kind is Kind.RELEASED)
    assert released.fields["by"] in {it.dir.path.name for it in user.runs("held")} - {run.dir.path.name}
    assert status["steps_redone"] < 60  # none, unless Slurm's KillWait is over before they are let go and have saved
    assert_same_bits(run, undisturbed)


def test_killed_worker_killed_supervisor_killed_in_mid_write(
    cluster: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    """Three runs at once."""
    worker, supervisor, write = (user.submit(f"killed {what}") for what in ("worker", "supervisor", "write"))
    worker.wait_for_attempt(1, step=20)
    os.kill(worker.pid_of(Kind.WORKER_STARTED), signal.SIGKILL)
    supervisor.wait_for_attempt(1, step=20)
    os.kill(supervisor.pid_of(Kind.ATTEMPT_STARTED), signal.SIGKILL)
    write.wait_for_attempt(1, step=20)
    pids = step_pids(write)
    wait_until(lambda: any(write.dir.snapshots_dir.glob(".staged.*/*")), "a snapshot's write", pause_s=0.0002)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)

    for run in (worker, supervisor, write):
        status = run.wait_for_state("done")
        assert status["interruptions"] == {"failure": 1}
        assert_same_bits(run, undisturbed)
    assert worker.endings[0] == ("failure", "restart")
    assert len({e.fields["pid"] for e in worker.events(Kind.ATTEMPT_STARTED)}) == 1  # in place
    for run in (supervisor, write):  # the job's script had it requeued
        assert run.endings[0] == ("failure", "requeue")
        assert "the supervisor was killed by SIGKILL" in run.events(Kind.ATTEMPT_ENDED)[0].fields["why"]
        assert job_field(run.job, "Restarts") == "1"


def test_cancelled_it_stays_so_until_it_is_submitted_again(cluster: Cluster, user: User, undisturbed: SlurmRun) -> None:
    by_scancel, by_us = user.submit("scancel"), user.submit("cancel")
    first = by_scancel.job
    for run in (by_scancel, by_us):
        run.wait_for_attempt(1, step=20)
    run_command("scancel", first)
    assert hpc_yolo("cancel", by_us.path).returncode == 0
    for run in (by_scancel, by_us):
        run.wait_for_slurm("CANCELLED")
        assert run.status()["state"] == "cancelled"
        assert run.endings == [("cancellation", "stop")]
        assert (
            run_command("squeue", "--noheader", f"--name=hpc-yolo-{run.dir.path.parent.name}-{run.dir.path.name}") == ""
        )

    user.submit("scancel")
    assert hpc_yolo("resume", by_us.path).returncode == 0
    for run in (by_scancel, by_us):
        status = run.wait_for_state("done")
        assert (status["attempts"], status["steps_redone"], status["preemptions"]) == (2, 0, 0)
        assert_same_bits(run, undisturbed)
    assert by_scancel.job != first


def test_what_submitit_leaves_behind_does_not_keep_a_run_from_its_requeue(
    cluster: Cluster, user: User, undisturbed: SlurmRun
) -> None:
    run = user.submit("leftovers")
    run.wait_for_attempt(1, step=20)
    (folder,) = (it for it in run.dir.submitit_dir.iterdir() if it.is_dir())
    (folder / f"{run.job}_submitted.pkl.save_tmp").write_bytes(b"half a pick")
    assert hpc_yolo("preempt", run.path).returncode == 0
    run.wait_for_attempt(2)
    status = run.wait_for_state("done")

    assert (status["attempts"], status["steps_redone"]) == (2, 0)
    assert_same_bits(run, undisturbed)


def lose(cluster: Cluster, run: SlurmRun, node: str) -> None:
    """What a power cut does: the daemon, its steps and all processes of the run are gone at once, and Slurm finds out."""
    os.kill(int((cluster.dir / "run" / f"{node}.pid").read_text()), signal.SIGKILL)
    pids = job_pids(run)
    kill_daemons_of(run)
    kill(pids)
    run_command("scontrol", "update", f"nodename={node}", "state=down", "reason=drill")


def kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def kill_daemons_of(run: SlurmRun) -> None:
    """The slurmstepds that watch over the job's script and its step."""
    marks = tuple(f"[{job_field(run.job, 'JobId')}.{step}]" for step in ("batch", "0"))
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            words = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if "slurmstepd" in words and any(mark in words for mark in marks) and is_ours(process):
                os.kill(int(process.name), signal.SIGKILL)


def lost_steps(run: SlurmRun) -> int:
    """Between the last step of the first attempt and the snapshot that the second went on from."""
    from hpc_yolo.heartbeat import read_beat

    first = read_beat(run.dir.attempt(1).heartbeat)
    assert first is not None
    return first.step - int(run.events(Kind.RESUMED)[1].fields["step"])
