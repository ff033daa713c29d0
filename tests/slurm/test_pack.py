"""Runs that share a job, on a real Slurm: preempted together they come back together, and each ends as if it were alone."""

from __future__ import annotations

from collections import Counter

import pytest

from hpc_yolo.events import Kind
from tests.chaos.conftest import assert_same_bits, hpc_yolo, wait_until
from tests.slurm.conftest import Cluster, SlurmRun, User, job_field, job_pids

SEEDS = "train.seed=0,1,2,3"
PACKED = ("-m", SEEDS, "cluster.runs_per_gpu=2")


@pytest.fixture(scope="module")
def twins(user: User, slurm: Cluster) -> dict[str, SlurmRun]:
    """What the packed runs must equal, by id; trained here, without Slurm."""
    answer = hpc_yolo("train", "-m", *user.options, SEEDS, "cluster.parallel=2", "name=twins", f"runs_dir={user.root}")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return {run.dir.path.name: run for run in user.runs("twins")}


def submit(user: User, name: str) -> list[list[SlurmRun]]:
    """Two jobs of two runs each."""
    answer = user.train(name, *PACKED)
    assert answer.returncode == 0, answer.stderr
    runs = sorted(user.runs(name), key=lambda run: run.job)
    assert list(Counter(run.job for run in runs).values()) == [2, 2]
    return [runs[:2], runs[2:]]


def test_preempted_together_they_all_end_as_their_undisturbed_twins(
    cluster: Cluster, user: User, twins: dict[str, SlurmRun]
) -> None:
    struck, spared = submit(user, "packed")
    for run in struck:
        run.wait_for_attempt(1, step=20)
    cluster.take(struck[0].nodes[0])
    for run in struck:
        run.wait_for_attempt(2)

    for run in (*struck, *spared):
        run.wait_for_state("done")
        assert_same_bits(run, twins[run.dir.path.name])
    for run in struck:
        status = run.status()
        assert (status["preemptions"], status["steps_redone"]) == (1, 0)
        assert run.events(Kind.HANDED_BACK)[0].fields["how"] == "left"
    assert job_field(struck[0].job, "Restarts") == "1"
    for runs in (struck, spared):
        runs[0].wait_for_slurm("COMPLETED")
        assert job_pids(runs[0]) == []
    again = user.train("packed", *PACKED)
    assert "4 done already" in again.stdout


@pytest.mark.matrix
def test_one_is_cancelled_and_one_is_resumed_while_the_others_go_on(
    cluster: Cluster, user: User, twins: dict[str, SlurmRun]
) -> None:
    (gone, stays), _ = submit(user, "taken out")
    for run in (gone, stays):
        run.wait_for_attempt(1, step=20)
    job = gone.job
    answer = hpc_yolo("cancel", gone.path)
    assert answer.returncode == 0, answer.stderr
    assert f"took {gone.path} out of job {job}" in answer.stdout
    gone.wait_for_state("cancelled")
    assert gone.endings == [("cancellation", "stop")]

    answer = hpc_yolo("resume", gone.path)
    assert answer.returncode == 0, answer.stderr
    assert gone.job != job
    for run in (gone, stays):
        run.wait_for_state("done")
        assert_same_bits(run, twins[run.dir.path.name])
    assert stays.endings == [("done", "done")]
    wait_until(
        lambda: job_field(job, "JobState") == "FAILED", "the job's end: not all of its runs are done", pause_s=0.3
    )
