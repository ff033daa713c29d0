"""A warning that Slurm owes: the supervisor knows its time limit, and does not depend on a signal that may be lost."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from hpc_yolo.slurm.job import Job
from hpc_yolo.supervise.allocation import LocalAllocation
from hpc_yolo.supervise.question import Answer, Question, TimeLimit
from hpc_yolo.supervise.slurm_allocation import SlurmAllocation
from hpc_yolo.types import ExitCode, JobId
from tests.unit.stub_commands import Stubs
from tests.unit.supervised import TRAIN_ON, endings, events, make_run

BEGAN = 1_000_000.0


class Slurm:
    """Says each end in turn, the last one for ever; None for a limit that there is not."""

    def __init__(self, *ends: float | None) -> None:
        self.now, self.ends, self.asked = BEGAN, list(ends), 0

    def ask(self) -> Question:
        end = self.ends[min(self.asked, len(self.ends) - 1)]
        self.asked += 1
        question = Question.__new__(Question)
        question._answer = Answer(job_ending(end))
        return question

    def limit(self, delay_s: float = 120) -> TimeLimit:
        return TimeLimit(self.ask, delay_s, lambda: self.now)

    def first_near(self, limit: TimeLimit, until: float) -> float | None:
        while self.now < BEGAN + until:
            if limit.is_near():
                return self.now - BEGAN
            self.now += 1
        return None


@pytest.mark.parametrize("ahead_s", [3600, -3600])
def test_a_node_whose_clock_is_wrong_is_told_by_when_slurm_started_the_job(ahead_s: float) -> None:
    """Ahead by more than the time limit, it would warn itself at each start, for ever."""
    end, now = BEGAN - ahead_s + 600, [BEGAN]
    question = Slurm(None).ask()
    question._answer = Answer(Job(id=JobId("7"), state="RUNNING", start=BEGAN - ahead_s - 3, end=end))
    limit = TimeLimit(lambda: question, 120, lambda: now[0])

    near = []
    for seconds in range(700):
        now[0] = BEGAN + seconds
        near.append(limit.is_near())

    assert not any(near[:477])
    assert any(near[477:600])


def job_ending(end: float | None) -> Job:
    return Job(id=JobId("7"), state="RUNNING", end=None if end is None else BEGAN + end)


def test_the_warning_is_overdue_when_it_should_have_come() -> None:
    slurm = Slurm(3600)
    due = slurm.first_near(slurm.limit(), 3600)

    assert due is not None
    assert 3600 - 120 <= due <= 3600 - 117
    assert slurm.asked == 2  # at first, and once more before it is believed


def test_a_limit_that_was_extended_is_believed() -> None:
    slurm = Slurm(600, 3600)
    due = slurm.first_near(slurm.limit(), 3600)

    assert due is not None
    assert due >= 3600 - 120


@pytest.mark.parametrize(("end", "delay_s"), [(None, 120), (3600, 0)])
def test_nothing_is_due_without_a_limit_or_where_no_warning_was_asked_for(end: float | None, delay_s: float) -> None:
    slurm = Slurm(end)

    assert slurm.first_near(slurm.limit(delay_s), 4000) is None


def test_a_real_call_tells_a_job_that_its_time_is_nearly_up(stubs: Stubs, tmp_path: Path) -> None:
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 60))
    stubs.add("scontrol", f"echo 'JobId=7 Restarts=0 JobState=RUNNING Reason=None EndTime={end}'")
    it = SlurmAllocation(JobId("6_1"), 0, 120, tmp_path)

    until = time.monotonic() + 10
    while not it.is_near_its_limit():
        assert time.monotonic() < until
        time.sleep(0.01)
    assert stubs.calls() == ["scontrol --oneliner show job 6_1"] * 2


def test_a_machine_without_a_scheduler_has_no_limit() -> None:
    assert not LocalAllocation().is_near_its_limit()


#: The job's limit comes near once the worker has done ten steps. Nobody sends a signal.
UNWARNED = """
import sys
from pathlib import Path
from hpc_yolo.heartbeat import read_beat
from hpc_yolo.supervise import task
from hpc_yolo.supervise.allocation import LocalAllocation
from tests.unit.supervised import task_of
from hpc_yolo.rundir import RunDir

run = RunDir(Path(sys.argv[1]))

class NearItsLimit(LocalAllocation):
    def is_near_its_limit(self):
        beat = read_beat(run.attempts()[-1].heartbeat)
        return beat is not None and beat.step >= 10

task.allocation_of = NearItsLimit
task_of(run)()
"""


def test_a_supervisor_whose_job_was_not_warned_warns_itself(tmp_path: Path) -> None:
    run = make_run(tmp_path / "r", TRAIN_ON)
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    left = subprocess.run(
        [sys.executable, "-c", UNWARNED, str(run.path)], env=environ, capture_output=True, text=True, timeout=60, check=False
    )  # fmt: skip

    assert left.returncode == ExitCode.STOPPED, left.stderr
    assert endings(run) == [("preemption", "requeue")]
    (stopped,) = events(run, Kind.STOPPED)
    assert int((run.path / "state.json").read_text()) == stopped.fields["step"] >= 10
