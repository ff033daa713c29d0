"""Runs that share a job: one end for the job, one for each of them. Real tasks through real submitit; Slurm is a stub."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from submitit.core.utils import DelayedSubmission

from hpc_yolo.attempts import is_done
from hpc_yolo.events import Kind
from hpc_yolo.processes import read_stat
from hpc_yolo.report.history import JobHistory, read_history
from hpc_yolo.report.status import status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.submissions import newest_submission, note_intent, note_submission, note_withdrawal
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.pack import of_all
from hpc_yolo.supervise.policy import Next
from hpc_yolo.supervise.slurm_allocation import SIGNAL_DELAY_VARIABLE
from hpc_yolo.types import JobId, RunState
from tests.unit.stub_commands import Stubs
from tests.unit.supervised import (
    CRASH,
    FINISH,
    TRAIN_ON,
    FakePack,
    endings,
    events,
    make_run,
    processes_of,
    supervisor,
    until,
    until_attempt,
    worker,
)  # fmt: skip

JOB = JobId("7")
REPOSITORY = str(Path(__file__).parents[2])
PREEMPTED = "JobState=RUNNING Reason=None EndTime=Unknown PreemptTime=2026-11-24T08:29:49"
CANCELLED = "JobState=COMPLETING Reason=None EndTime=Unknown PreemptTime=None"
LONG = {"then": "finish", "steps": 100}


@dataclass
class Job:
    """A job as its script starts it, again and again."""

    runs: list[RunDir]
    stubs: Stubs
    starts: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def folder(self) -> Path:
        return self.runs[0].submitit_dir / "array-001"

    def submit(self) -> None:
        self.folder.mkdir(parents=True)
        note_intent(self.folder, self.runs, len(self.runs))
        for run in self.runs:
            note_submission(run, JOB, self.folder, together=self.runs)
        task = DelayedSubmission(FakePack([str(run.path) for run in self.runs]))
        task.set_timeout(10**6, 10**6)
        task.dump(self.folder / f"{JOB}_submitted.pkl")

    def say(self, job: str) -> None:
        """What Slurm says of the job when it is asked."""
        show = f'echo "JobId={JOB} Restarts=${{SLURM_RESTART_COUNT:-0}} {job}"'
        self.stubs.add("scontrol", f'case "$*" in *"show job {JOB}") {show};; "requeue {JOB}") ;; *) exit 99;; esac')

    def start(self) -> subprocess.Popen[bytes]:
        place = {"SLURM_JOB_ID": JOB, "SLURM_RESTART_COUNT": str(len(self.starts)), "SLURM_PROCID": "0"}
        submitit = {"SUBMITIT_EXECUTOR": "slurm", "SUBMITIT_PREEMPT_SIGNAL": "USR1", "PYTHONPATH": REPOSITORY}
        with (self.folder / "log").open("ab") as log, tree.warnings_blocked():
            self.starts.append(
                subprocess.Popen(
                    [sys.executable, "-u", "-m", "submitit.core._submit", str(self.folder)],
                    env={**os.environ, **place, **submitit},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            )
        return self.starts[-1]

    def end(self) -> int:
        """The exit code of the newest start, of which nothing is left."""
        code = self.starts[-1].wait(timeout=60)
        until(lambda: not any(map(processes_of, self.runs)), within_s=10)
        return code

    def warn(self, signum: signal.Signals = signal.SIGUSR1) -> None:
        """As Slurm does: every process of the job step."""
        os.killpg(self.starts[-1].pid, signum)

    def requeues(self) -> int:
        return self.stubs.calls().count(f"scontrol requeue {JOB}")

    def attempts(self) -> list[int]:
        return [len(run.attempts()) for run in self.runs]


@pytest.fixture
def job(tmp_path: Path, stubs: Stubs) -> Iterator[Job]:
    it = Job([], stubs)
    it.say(PREEMPTED)
    yield it
    for process in it.starts:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def begin(job: Job, tmp_path: Path, *parts: list[dict[str, Any]], **retry: Any) -> list[RunDir]:
    job.runs += [make_run(tmp_path / "grid" / f"{n:04d}", *own, **retry) for n, own in enumerate(parts)]
    job.submit()
    job.start()
    return job.runs


def test_a_warning_stops_all_and_hands_the_job_back_once(job: Job, tmp_path: Path) -> None:
    slow = {**TRAIN_ON, "saves_for_s": 1.0}
    runs = begin(job, tmp_path, [slow, FINISH], [TRAIN_ON, FINISH], [TRAIN_ON, FINISH])
    for run in runs:
        until_attempt(run, 1, step=3)
    job.warn()

    assert job.end() == 75
    assert job.requeues() == 1
    assert (job.folder / "7_code_0").read_text() == "75\n"
    job.start()
    assert job.end() == 0
    for run in runs:
        assert endings(run) == [("preemption", "requeue"), ("done", "done")]
        assert events(run, Kind.HANDED_BACK)[0].fields["how"] == "left"
        assert status_of(read_history(run)).steps_redone == 0
    assert job.requeues() == 1


def test_each_run_has_a_supervisor_of_its_own_on_the_same_gpu(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    runs = begin(job, tmp_path, [TRAIN_ON], [TRAIN_ON])
    for run in runs:
        until_attempt(run, 1)
    started = [events(run, Kind.ATTEMPT_STARTED)[0].fields for run in runs]
    seen = [Path(f"/proc/{worker(run)}/environ").read_bytes().split(b"\0") for run in runs]
    job.warn()
    job.end()

    assert len({it["pid"] for it in started} | {job.starts[0].pid}) == 3
    assert [(it["job_id"], it["runs_together"]) for it in started] == [(JOB, 2)] * 2
    assert all(b"CUDA_VISIBLE_DEVICES=3" in it for it in seen)


@pytest.mark.parametrize("signum", [signal.SIGUSR1, signal.SIGTERM])
def test_the_task_alone_is_warned_and_passes_it_on(job: Job, tmp_path: Path, signum: signal.Signals) -> None:
    runs = begin(job, tmp_path, [TRAIN_ON], [TRAIN_ON])
    for run in runs:
        until_attempt(run, 1)
    os.kill(job.starts[0].pid, signum)

    assert job.end() == 75
    assert [endings(run) for run in runs] == [[("preemption", "requeue")]] * 2
    assert job.requeues() == 1


def test_a_time_limit_that_slurm_has_not_warned_of_stops_all_of_them_once(
    job: Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SIGNAL_DELAY_VARIABLE, "20")
    end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 26))
    job.say(f"JobState=RUNNING Reason=None EndTime={end} PreemptTime=None")
    runs = begin(job, tmp_path, [TRAIN_ON], [TRAIN_ON])

    assert job.end() == 75
    assert [endings(run) for run in runs] == [[("timeout", "requeue")]] * 2
    assert job.requeues() == 1


def test_a_warning_before_anything_is_ready_is_not_lost(job: Job, tmp_path: Path) -> None:
    runs = begin(job, tmp_path, [TRAIN_ON, FINISH], [TRAIN_ON, FINISH])
    until(lambda: tree.descendants(job.starts[0].pid))
    job.warn()

    assert job.end() == 75
    assert job.requeues() == 1
    assert all(then == "requeue" for run in runs for _, then in endings(run))


def test_a_run_that_is_done_leaves_the_others_going_and_does_not_come_again(job: Job, tmp_path: Path) -> None:
    done, other = begin(job, tmp_path, [FINISH], [TRAIN_ON, FINISH])
    until(lambda: is_done(done))
    until(lambda: (it := newest_submission(done)) is not None and it.withdrawn)
    zombies = [pid for pid in children_of(job.starts[0].pid) if (read_stat(pid) or ["Z"])[0] == "Z"]
    until_attempt(other, 1)
    job.warn()

    assert zombies == []
    assert job.end() == 75
    job.start()
    assert job.end() == 0
    assert job.attempts() == [1, 2]
    assert endings(other) == [("preemption", "requeue"), ("done", "done")]


def children_of(pid: int) -> list[int]:
    """Zombies among them."""
    return [int(it) for it in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_run_that_fails_is_failed_ends_no_other_and_the_job_tells_it(job: Job, tmp_path: Path) -> None:
    bad, other = begin(job, tmp_path, [{"then": "fail", "code": 65}, FINISH], [LONG])

    assert job.end() == 65
    assert endings(bad) == [("failure", "fail")]
    assert endings(other) == [("done", "done")]
    assert job.requeues() == 0
    assert (job.folder / "7_code_0").read_text() == "65\n"


def test_what_has_failed_does_not_come_again_with_the_others_and_is_free(job: Job, tmp_path: Path) -> None:
    bad, other = begin(job, tmp_path, [CRASH, FINISH], [TRAIN_ON, FINISH], max_restarts=0)
    until_attempt(other, 1)
    until(lambda: (it := newest_submission(bad)) is not None and it.withdrawn)
    job.warn()

    assert job.end() == 75
    submission = newest_submission(bad)
    assert submission is not None
    assert submission.exit_code == 70
    told = status_of(replace(read_history(bad), job=JobHistory(submission, None)))
    assert (told.state, told.exit_code) == (RunState.FAILED, 70)
    job.start()
    assert job.end() == 70  # it still is not done
    assert job.attempts() == [1, 2]


def test_a_run_that_is_cancelled_alone_saves_and_stays_stopped(job: Job, tmp_path: Path) -> None:
    gone, other = begin(job, tmp_path, [TRAIN_ON], [TRAIN_ON, FINISH])
    for run in (gone, other):
        until_attempt(run, 1)
    note_withdrawal(gone, JOB, "taken out of job 7 on request")
    until(lambda: endings(gone))

    assert endings(gone) == [("cancellation", "stop")]
    assert events(gone, Kind.STOPPED)
    assert endings(other) == []
    job.warn()
    assert job.end() == 75
    job.start()
    assert job.end() == 70  # not all of its runs are done
    assert job.attempts() == [1, 2]
    assert is_done(other)


def test_a_run_that_was_taken_out_before_its_job_began_does_not_begin(job: Job, tmp_path: Path) -> None:
    job.runs += [make_run(tmp_path / "grid" / name, FINISH) for name in ("a", "b")]
    job.submit()
    note_withdrawal(job.runs[0], JOB, "taken out of job 7 on request")
    job.start()

    assert job.end() == 70
    assert job.attempts() == [0, 1]


def test_a_run_that_was_submitted_anew_since_is_not_this_jobs_any_more(job: Job, tmp_path: Path) -> None:
    job.runs += [make_run(tmp_path / "grid" / name, FINISH) for name in ("a", "b")]
    job.submit()
    note_withdrawal(job.runs[0], JOB, "taken out of job 7 on request")
    note_submission(job.runs[0], JobId("8"), job.folder)
    job.start()
    job.end()

    assert job.attempts() == [0, 1]


def test_a_supervisor_that_is_killed_is_started_again_and_the_others_do_not_notice(job: Job, tmp_path: Path) -> None:
    struck, other = begin(job, tmp_path, [TRAIN_ON, FINISH], [LONG])
    until_attempt(struck, 1)
    os.kill(supervisor(struck), signal.SIGKILL)

    assert job.end() == 0
    assert [e.fields["why"] for e in events(struck, Kind.ATTEMPT_ENDED)] == [
        "the supervisor was killed by SIGKILL; restart 1 of 3",
        "the run is complete",
    ]
    assert endings(other) == [("done", "done")]
    assert job.requeues() == 0


def test_a_cancelled_job_stops_all_and_is_not_brought_back(job: Job, tmp_path: Path) -> None:
    runs = begin(job, tmp_path, [TRAIN_ON], [TRAIN_ON])
    for run in runs:
        until_attempt(run, 1)
    job.say(CANCELLED)
    job.warn(signal.SIGTERM)

    assert job.end() == 70
    assert [endings(run) for run in runs] == [[("cancellation", "stop")]] * 2
    assert job.requeues() == 0


def test_no_supervisor_outlives_the_task(job: Job, tmp_path: Path) -> None:
    runs = begin(job, tmp_path, [TRAIN_ON], [TRAIN_ON])
    for run in runs:
        until_attempt(run, 1)
    job.starts[0].kill()

    assert job.end() == -signal.SIGKILL
    assert all(events(run, Kind.STOPPED) for run in runs)


@pytest.mark.parametrize(
    ("codes", "then", "code"),
    [
        ([0, 0], Next.DONE, 0),
        ([0, 75, 65], Next.REQUEUE, 75),
        ([0, 65, 70], Next.FAIL, 65),
        ([0, 73], Next.FAIL, 73),
    ],
)
def test_the_job_is_done_when_all_of_its_runs_are(codes: list[int], then: Next, code: int) -> None:
    decision = of_all(codes)

    assert (decision.next, decision.exit_code) == (then, code)
