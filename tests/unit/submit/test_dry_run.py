"""`dry_run=true`: what would be submitted, as what, and what it may cost at most; nothing is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_yolo.config import ClusterConfig, Resubmit
from hpc_yolo.events import Kind
from hpc_yolo.submit.dry_run import gpus_of, hours_at_most, show
from hpc_yolo.submit.freeze import materialise
from hpc_yolo.submit.queue_up import submit_all
from tests.unit.runs_on_disk import begin
from tests.unit.submit.fake_slurm import FakeSlurm
from tests.unit.submit.plans import make_plans


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    return tmp_path / "runs" / "grid"


def told(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().out.splitlines()


def test_a_sweep_is_summed_up_and_its_first_run_shown(
    slurm: FakeSlurm, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.set(max_array=4)
    plans = [
        *make_plans(experiment, 9, time_min=90, gpus_per_node=2, array_parallelism=6),
        *make_plans(experiment, 1, first=9, time_min=60, gpus_per_node=1),
    ]
    show(plans, Resubmit.BROKEN)

    lines = told(capsys)
    assert lines[:4] == [
        "# dry run of 10 runs: nothing was made, nothing was submitted",
        "# would be submitted: 10 of 10 (10 new)",
        "# as 3 arrays (3, 3, 3 tasks) and 1 job, 2 shapes of resources",
        "# at most, for one start of each: 28.0 GPU-hours",
    ]
    assert sum(line.endswith("run.yaml") for line in lines) == 1
    assert "# the first of 10:" in lines
    assert [line for line in lines if "script for sbatch" in line] == [
        "# the script for sbatch (an array of 3, the first of 3 alike)",
        "# the script for sbatch (a job)",
    ]
    assert "#SBATCH --array=0-2%2" in lines
    assert not experiment.exists()
    assert slurm.calls("sbatch") == slurm.calls("squeue") == []


def test_what_would_not_be_submitted_is_told(
    slurm: FakeSlurm, experiment: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plans = make_plans(experiment, 5)
    submit_all(plans[:2])
    slurm.set_state("RUNNING", "100_1")
    for plan in plans[2:4]:
        materialise(plan)
    begin(plans[2].run).start().tell(Kind.FINISHED, step=1, metrics={})
    begin(plans[3].run).start().beat(1)
    capsys.readouterr()

    show(plans, Resubmit.BROKEN)
    assert "# would be submitted: 2 of 5 (1 queued, 1 running, 1 done, 1 broken, 1 new)" in told(capsys)
    show(plans, Resubmit.ALL)
    assert "# would be submitted: 3 of 5 (1 queued, 1 running, 1 done and asked for again, 1 broken, 1 new)" in told(
        capsys
    )
    assert slurm.jobs.keys() == {"100_0", "100_1"}
    assert not list(experiment.glob("*.before-*"))


def test_without_a_time_limit_there_is_no_most(experiment: Path) -> None:
    assert hours_at_most(make_plans(experiment, 2, gpus_per_node=1)).startswith("GPU-hours without a limit")
    assert hours_at_most(make_plans(experiment, 2, time_min=30, cpus_per_task=4)) == "4.0 CPU-hours"


@pytest.mark.parametrize(
    ("values", "gpus"),
    [
        ({"gpus_per_node": 2, "nodes": 3}, 6),
        ({"gres": "gpu"}, 1),
        ({"gres": "gpu:4"}, 4),
        ({"gres": "gpu:a100:2", "nodes": 2}, 4),
        ({"gres": "gpu:a100"}, 1),
        ({"gres": "shard:1"}, 0),
        ({}, 0),
    ],
)
def test_gpus_are_counted_by_either_way_to_ask_for_them(values: dict[str, object], gpus: int) -> None:
    assert gpus_of(ClusterConfig(kind="slurm", **values)) == gpus  # type: ignore[arg-type]
