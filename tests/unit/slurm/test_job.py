"""What `scontrol show job` prints (lines of 22.05, shortened) becomes values."""

from __future__ import annotations

import time

import pytest

from hpc_yolo.slurm.job import parse_job, parse_time

RUNNING = (
    "JobId=12 ArrayJobId=11 ArrayTaskId=3 JobName=hpc-yolo UserId=me(1000) MCS_label=N/A Requeue=1 Restarts=2 BatchFlag=1 "
    "JobState=RUNNING Reason=None Dependency=(null) ExitCode=0:0 RunTime=00:00:31 TimeLimit=00:10:00 "
    "StartTime=2026-11-24T08:29:46 EndTime=2026-11-24T08:29:59 PreemptEligibleTime=2026-11-24T08:29:46 "
    "PreemptTime=2026-11-24T08:29:49 Partition=low AllocNode:Sid=login:1139 NodeList=node1 CPUs/Task=1 "
    "Comment=/home/me/my runs/JobState=DONE Reason=mine WorkDir=/home/me\n"
)


def test_a_job_that_is_being_preempted() -> None:
    job = parse_job(RUNNING)

    assert job is not None
    assert (job.id, job.state, job.restarts, job.reason, job.nodes) == ("12", "RUNNING", 2, "", "node1")
    assert job.end is not None
    assert job.preempted_at is not None
    assert job.end - job.preempted_at == 10
    assert not job.has_ended


@pytest.mark.parametrize("state", ["CANCELLED", "COMPLETED", "FAILED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY"])
def test_ended_states(state: str) -> None:
    job = parse_job(f"JobId=5 JobState={state} Reason=TimeLimit PreemptTime=None EndTime=Unknown Restarts=0")

    assert job is not None
    assert job.has_ended
    assert (job.reason, job.preempted_at, job.end) == ("TimeLimit", None, None)


@pytest.mark.parametrize("text", ["", "\n", "No jobs in the system\n"])
def test_no_job(text: str) -> None:
    assert parse_job(text) is None


def test_times_are_the_machines_local_ones() -> None:
    assert parse_time("2026-11-24T08:29:59") == time.mktime((2026, 11, 24, 8, 29, 59, 0, 0, -1))
    assert [parse_time(text) for text in ("N/A", "None", "Unknown", "", None)] == [None] * 5
