"""Several runs in one job: how they are submitted, found again, submitted anew, and told from each other by a person."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from hpc_yolo.config import ClusterConfig, Resubmit
from hpc_yolo.errors import ConfigError
from hpc_yolo.report.jobs import read_histories
from hpc_yolo.report.status import status_of
from hpc_yolo.slurm.strays import note_strays
from hpc_yolo.submissions import neighbours, newest_submission, note_withdrawal, read_intents
from hpc_yolo.submit import operate
from hpc_yolo.submit.dry_run import hours_at_most, show
from hpc_yolo.submit.freeze import Plan
from hpc_yolo.submit.queue_up import submit_all
from hpc_yolo.submit.ranks import check_sharing
from hpc_yolo.supervise.pack import PackTask
from hpc_yolo.supervise.task import TrainTask
from tests.unit.submit.fake_slurm import FakeSlurm
from tests.unit.submit.plans import make_plans

Plans = Callable[..., list[Plan]]


@pytest.fixture
def plans(tmp_path: Path) -> Plans:
    return partial(make_plans, tmp_path / "runs" / "grid", runs_per_gpu=2)


def jobs_of(made: list[Plan]) -> list[str | None]:
    """The job that stands for each."""
    found = [newest_submission(plan.run) for plan in made]
    return [it.job if it and not it.withdrawn else None for it in found]


def test_so_many_runs_are_a_job_and_the_last_job_has_the_rest(slurm: FakeSlurm, plans: Plans) -> None:
    made = plans(5, array_parallelism=4)

    assert submit_all(made) == [0] * 5
    assert "#SBATCH --array=0-2%2\n" in slurm.scripts()[0]
    assert jobs_of(made) == ["100_0", "100_0", "100_1", "100_1", "100_2"]
    tasks = [pickle.loads(file.read_bytes()).function for file in sorted(made[0].run.submitit_dir.glob("*/task-*.pkl"))]
    assert [type(it) for it in tasks] == [PackTask, PackTask, TrainTask]
    assert tasks[1].run_dirs == [str(plan.run.path) for plan in made[2:4]]


def test_each_run_knows_whom_it_shares_its_job_with(slurm: FakeSlurm, plans: Plans) -> None:
    made = plans(3)
    submit_all(made)
    first, _, last = (newest_submission(plan.run) for plan in made)

    assert first is not None
    assert last is not None
    assert neighbours(made[0].run, first) == [made[1].run]
    assert neighbours(made[2].run, last) == []
    assert [status_of(it).job_id for it in read_histories([plan.run for plan in made])] == ["100_0", "100_0", "100_1"]


def test_the_largest_array_and_what_the_site_lets_in_count_jobs(slurm: FakeSlurm, plans: Plans) -> None:
    slurm.set(max_array=2, most=3)
    made = plans(10)

    assert submit_all(made) == [0] * 6 + [75] * 4
    assert [it for it in jobs_of(made) if it] == ["100_0"] * 2 + ["100_1"] * 2 + ["101"] * 2
    slurm.set(most=100)
    assert submit_all(made) == [0] * 10
    assert None not in jobs_of(made)
    assert len(set(jobs_of(made))) == 5


def test_the_same_sweep_again_submits_only_what_no_job_stands_for(slurm: FakeSlurm, plans: Plans) -> None:
    made = plans(4)
    submit_all(made)
    slurm.set_state("RUNNING", "100_0")
    note_withdrawal(made[1].run, "100_0", "job 100_0 is done with it (exit code 65)", 65)  # type: ignore[arg-type]

    assert submit_all(made) == [0] * 4
    assert jobs_of(made) == ["100_0", "101", "100_1", "100_1"]
    assert len(slurm.calls("sbatch")) == 2


def test_jobs_that_nobody_noted_are_found_with_all_of_their_runs(slurm: FakeSlurm, plans: Plans) -> None:
    made = plans(3)
    submit_all(made)
    for plan in made:
        plan.run.jobs.unlink()
    (folder,) = [it for it in made[0].run.submitit_dir.iterdir() if it.is_dir()]
    (folder / "settled").unlink()

    assert [intent.per_job for intent in read_intents(made[0].run.path.parent)] == [2]
    assert note_strays([made[0].run.path.parent]) == 3
    assert jobs_of(made) == ["100_0", "100_0", "100_1"]
    found = newest_submission(made[1].run)
    assert found is not None
    assert found.beside == (made[0].run.path.name,)


def test_other_resources_for_one_run_leave_the_job_to_the_others(slurm: FakeSlurm, plans: Plans) -> None:
    made = plans(2)
    submit_all(made)
    (other,) = plans(1, mem_gb=31)

    assert submit_all([other]) == [0]
    assert slurm.jobs["100"]["state"] == "PENDING"
    assert jobs_of(made) == ["101", "100"]


def test_other_resources_for_all_replace_the_job(slurm: FakeSlurm, plans: Plans) -> None:
    submit_all(plans(2))
    made = plans(2, mem_gb=31)

    assert submit_all(made) == [0, 0]
    assert slurm.jobs["100"]["state"] == "CANCELLED"
    assert jobs_of(made) == ["101", "101"]


def test_cancelling_one_takes_it_out_of_its_job(slurm: FakeSlurm, plans: Plans) -> None:
    made = plans(2)
    submit_all(made)
    slurm.set_state("RUNNING")
    (outcome,) = operate.cancel([made[0].run])

    assert outcome.said.startswith(
        f"took {made[0].run.path} out of job 100, which 0001 shares; it saves its state and ends."
    )
    assert slurm.calls("scancel") == []
    assert jobs_of(made) == [None, "100"]
    (outcome,) = operate.cancel([made[1].run])  # nobody is left
    assert outcome.said.startswith(f"cancelled job 100 of {made[1].run.path};")
    assert slurm.calls("scancel") == ["scancel --quiet 100"]


def test_cancelling_all_of_a_job_cancels_it_once(slurm: FakeSlurm, plans: Plans) -> None:
    made = plans(2)
    submit_all(made)

    assert [it.code for it in operate.cancel([plan.run for plan in made])] == [0, 0]
    assert slurm.calls("scancel") == ["scancel --quiet 100"]
    assert jobs_of(made) == [None, None]


@pytest.mark.parametrize("verb", [operate.preempt, operate.requeue])
def test_what_is_of_the_whole_job_is_done_once_and_says_whom_it_meets(
    slurm: FakeSlurm, plans: Plans, verb: Callable[..., list[operate.Outcome]]
) -> None:
    made = plans(3, array_parallelism=None)
    submit_all(made[:2])
    slurm.set_state("RUNNING")
    slurm.stubs.add("scontrol", "")
    slurm.stubs.add("scancel", "")
    outcomes = verb([plan.run for plan in made[:2]])

    told = [call for call in slurm.stubs.calls() if re.search(r"requeue|signal", call) and "sbatch" not in call]
    assert len(told) == 1
    assert told[0].split().count("100") == 1
    assert [re.search(r"which (\d+) shares", it.said)[1] for it in outcomes] == ["0001", "0000"]  # type: ignore[index]


def test_a_dry_run_counts_jobs(slurm: FakeSlurm, plans: Plans, capsys: pytest.CaptureFixture[str]) -> None:
    show(plans(5, time_min=60, gpus_per_node=1, array_parallelism=4), Resubmit.BROKEN)
    told = capsys.readouterr().out

    assert "# as 1 array (3 tasks), 1 shape of resources\n" in told
    assert "# at most, for one start of each: 3.0 GPU-hours\n" in told
    assert "# the script for sbatch (an array of 3, up to 2 runs in each)\n" in told
    assert "#SBATCH --array=0-2%2\n" in told
    assert hours_at_most(plans(2, time_min=60, gpus_per_node=1)) == "1.0 GPU-hours"


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"runs_per_gpu": 0}, "cluster.runs_per_gpu=0 is too small"),
        ({"runs_per_gpu": 2, "gpus_per_node": 2}, "each has 2 ranks"),
        ({"runs_per_gpu": 2, "nodes": 2}, "each has 2 ranks"),
        ({"runs_per_gpu": 2, "ranks": 3}, "each has 3 ranks"),
        ({"kind": "local", "runs_per_gpu": 2}, "On this machine set cluster.parallel"),
    ],
)
def test_what_cannot_be_shared_is_refused(values: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ClusterConfig(**{"kind": "slurm", **values})  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [-1, 0.7])
def test_a_batch_by_free_memory_is_refused(batch: float) -> None:
    with pytest.raises(ConfigError, match=r"Set the number of images, such as train\.batch=16"):
        check_sharing(2, {"batch": batch})
    check_sharing(1, {"batch": batch})
    check_sharing(2, {"batch": 16})
