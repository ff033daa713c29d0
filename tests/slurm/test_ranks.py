"""Two nodes of a real Slurm train one run: preempted, killed or lost, all ranks go on together to the same bits."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from tests.chaos.conftest import assert_same_bits, hpc_yolo, wait_until
from tests.slurm.conftest import Cluster, SlurmRun, User, job_pids, run_command

TOGETHER = ("cluster.nodes=2", "cluster.gpus_per_node=null", "cluster.ranks=1", "cluster.cpus_per_task=1")


@pytest.fixture(scope="session")
def together(user: User, slurm: Cluster) -> SlurmRun:
    """What all of two ranks must equal: trained by two ranks of this machine, without Slurm."""
    options = [*user.options, "cluster.ranks=2", "name=together", f"runs_dir={user.root}"]
    answer = hpc_yolo("train", *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return user.runs("together")[0]


def pids_of_rank(run: SlurmRun, rank: int) -> list[int]:
    mark = f"RANK={rank}".encode()
    return [pid for pid in job_pids(run) if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")]


def assert_done_as_together(run: SlurmRun, together: SlurmRun, **told: object) -> None:
    status = run.wait_for_state("done")
    assert {key: status[key] for key in told} == told
    assert_same_bits(run, together)


def test_preempted_on_one_of_its_nodes_all_ranks_come_back(cluster: Cluster, user: User, together: SlurmRun) -> None:
    run = user.submit("group preempted", *TOGETHER)
    run.wait_for_attempt(1, step=20)
    cluster.take("node2")  # where rank 0 is not
    wait_until(lambda: run.events(Kind.HANDED_BACK), "the hand-back")
    cluster.give_back()
    run.wait_for_attempt(2)

    assert_done_as_together(run, together, attempts=2, preemptions=1, steps_redone=0)
    assert "rank 1 goes on from None" in run.dir.attempt(1).rank_log(1).read_text()


@pytest.mark.matrix
def test_one_rank_is_killed_on_the_other_node(cluster: Cluster, user: User, together: SlurmRun) -> None:
    """Restarted in place: the allocation is kept."""
    run = user.submit("group killed", *TOGETHER)
    run.wait_for_attempt(1, step=20)
    os.kill(pids_of_rank(run, 1)[0], signal.SIGKILL)
    run.wait_for_attempt(2)

    assert_done_as_together(run, together, attempts=2, interruptions={"failure": 1})
    (lost,) = run.events(Kind.RANK_LOST)
    assert lost.fields == {"rank": 1, "exit_code": -9}
    assert run.endings[0][1] == "restart"


@pytest.mark.matrix
def test_preempted_with_sigterm_only(sigterm_only: Cluster, user: User, together: SlurmRun) -> None:
    run = user.submit("group sigterm", *TOGETHER)
    run.wait_for_attempt(1, step=20)
    sigterm_only.take("node1")
    wait_until(lambda: run.events(Kind.HANDED_BACK), "the hand-back")
    sigterm_only.give_back()

    assert_done_as_together(run, together, attempts=2, preemptions=1, steps_redone=0)


@pytest.mark.matrix
def test_preempted_before_the_ranks_have_met_and_twice_in_a_row(
    cluster: Cluster, user: User, together: SlurmRun
) -> None:
    run = user.submit("group early", *TOGETHER)
    wait_until(lambda: run.events(Kind.WORKER_STARTED), "the worker's start")
    for attempt in (1, 2):
        wait_until(lambda attempt=attempt: len(run.dir.attempts()) >= attempt, f"attempt {attempt}")
        if attempt == 2:
            run.wait_for_attempt(2)
        cluster.take("node1")
        wait_until(lambda attempt=attempt: len(run.events(Kind.HANDED_BACK)) >= attempt, "the hand-back")
        cluster.give_back()

    assert_done_as_together(run, together, attempts=3, preemptions=2, steps_redone=0)


@pytest.mark.matrix
def test_two_ranks_on_each_of_two_nodes(cluster: Cluster, user: User) -> None:
    options = [*user.options, "train.epochs=4", "cluster.ranks=4", "name=four", f"runs_dir={user.root}"]
    answer = hpc_yolo("train", *options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    run = user.submit("group of four", *TOGETHER, "cluster.ranks=2", "train.epochs=4")
    run.wait_for_attempt(1, step=5)
    cluster.take("node2")
    wait_until(lambda: run.events(Kind.HANDED_BACK), "the hand-back")
    cluster.give_back()

    assert_done_as_together(run, user.runs("four")[0], steps_redone=0)


@pytest.mark.matrix
def test_the_other_node_s_supervisor_is_killed(cluster: Cluster, user: User, together: SlurmRun) -> None:
    run = user.submit("group orphaned", *TOGETHER)
    run.wait_for_attempt(1, step=20)
    (rank,) = pids_of_rank(run, 1)[:1]
    parent = int(Path(f"/proc/{rank}/stat").read_text().rsplit(")", 1)[1].split()[1])
    os.kill(parent, signal.SIGKILL)

    assert_done_as_together(run, together)


@pytest.mark.matrix
def test_the_nodes_come_back_in_the_other_order(cluster: Cluster, user: User, together: SlurmRun) -> None:
    """Slurm sorts them by name, but for what a user asks of srun."""
    turned = (
        "if [ 0$SLURM_RESTART_COUNT = 01 ]; then export SLURM_HOSTFILE=$(mktemp) SLURM_DISTRIBUTION=arbitrary; "
        "(echo node2; echo node1) > $SLURM_HOSTFILE; fi"
    )
    run = user.submit("group turned", *TOGETHER, f"cluster.setup=[{json.dumps(turned)}]")
    for attempt in (1, 2):
        run.wait_for_attempt(attempt, step=20 * attempt)
        cluster.take("node2")
        wait_until(lambda attempt=attempt: len(run.events(Kind.HANDED_BACK)) >= attempt, "the hand-back")
        cluster.give_back()

    assert_done_as_together(run, together, attempts=3, preemptions=2, steps_redone=0)
    assert [e.fields["hosts"] for e in run.events(Kind.RANKS_MET)] == [
        ["node1", "node2"],
        ["node2", "node1"],
        ["node1", "node2"],
    ]


@pytest.mark.matrix
@pytest.mark.parametrize("node", ["node1", "node2"])
def test_one_of_its_nodes_is_set_down(cluster: Cluster, user: User, together: SlurmRun, node: str) -> None:
    run = user.submit(f"group without {node}", *TOGETHER)
    run.wait_for_attempt(1, step=20)
    run_command("scontrol", "update", f"nodename={node}", "state=down", "reason=drill")
    wait_until(lambda: run.status()["state"] == "requeued", "the end of the first attempt", pause_s=0.5)
    cluster.make_well()

    status = run.wait_for_state("done")
    assert status["interruptions"] == {"node_failure": 1}
    assert_same_bits(run, together)


@pytest.mark.matrix
def test_the_time_limit_is_reached(cluster: Cluster, user: User) -> None:
    options = ("train.epochs=70",)
    answer = hpc_yolo(
        "train", *user.options, *options, "cluster.ranks=2", "name=long-together", f"runs_dir={user.root}"
    )
    assert answer.returncode == 0, answer.stdout + answer.stderr
    run = user.submit("group limited", *TOGETHER, *options, "cluster.time_min=1", "cluster.signal_delay_s=20")
    status = run.wait_for_state("done")

    assert status["interruptions"].keys() == {"timeout"}
    assert (status["preemptions"], status["steps_redone"]) == (0, 0)
    assert_same_bits(run, user.runs("long-together")[0])


@pytest.mark.matrix
def test_two_groups_on_the_same_nodes_at_once(cluster: Cluster, user: User, together: SlurmRun) -> None:
    both = [user.submit(f"group {name}", *TOGETHER) for name in ("left", "right")]
    for run in both:
        run.wait_for_attempt(1, step=10)
    cluster.take("node1")
    wait_until(lambda: all(run.events(Kind.HANDED_BACK) for run in both), "both hand-backs")
    cluster.give_back()

    for run in both:
        assert_done_as_together(run, together, attempts=2, preemptions=1, steps_redone=0)
