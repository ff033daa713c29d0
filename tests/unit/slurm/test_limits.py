"""What Slurm says of how much may be submitted."""

from __future__ import annotations

import pytest

from hpc_yolo.slurm.limits import is_too_many, largest_array, parse_largest_array
from tests.unit.stub_commands import Stubs

POLICY = (
    "Batch job submission failed: Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"
)


@pytest.mark.parametrize(
    ("config", "tasks"),
    [
        ("MaxArraySize            = 1001\nMaxJobCount = 10000", 1001),
        ("MaxArraySize=51", 51),
        ("MaxArraySize = 0", 1),
        ("SchedulerParameters     = bf_interval=2,max_array_tasks=20,x\nMaxArraySize = 1001", 20),
        ("SchedulerParameters     = max_array_tasks=5000\nMaxArraySize = 1001", 1001),
        ("MaxArraySize = (null)", 1001),
        ("", 1001),
    ],
)
def test_the_largest_array(config: str, tasks: int) -> None:
    assert parse_largest_array(config) == tasks


def test_a_cluster_that_does_not_tell_it_is_taken_for_a_usual_one(stubs: Stubs) -> None:
    assert largest_array() == 1001
    stubs.add("scontrol", "exit 1")
    assert largest_array() == 1001


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (f"sbatch: error: AssocMaxSubmitJobLimit sbatch: error: {POLICY}", True),
        (f"sbatch: error: QOSMaxSubmitJobPerUserLimit sbatch: error: {POLICY}", True),
        (f"sbatch: error: MaxSubmitJobsPerAccount sbatch: error: {POLICY}", True),
        (POLICY, True),
        ("sbatch: error: Slurm temporarily unable to accept job, sleeping and retrying.", True),
        ("sbatch: error: Batch job submission failed: Resource temporarily unavailable", True),
        (f"sbatch: error: QOSMaxCpuPerUserLimit sbatch: error: {POLICY}", False),
        (f"sbatch: error: AssocMaxWallDurationPerJobLimit sbatch: error: {POLICY}", False),
        ("sbatch: error: Batch job submission failed: Requested time limit is invalid", False),
        ("sbatch: error: Batch job submission failed: Invalid partition name specified", False),
    ],
)
def test_which_refusals_fewer_jobs_or_some_patience_would_mend(said: str, expected: bool) -> None:
    assert is_too_many(said) is expected
