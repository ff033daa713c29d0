"""What is gathered of a worker's end: its own words, else the end of its log, and what the kernel says of its memory."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from hpc_yolo.config import RetryConfig
from hpc_yolo.events import Kind
from hpc_yolo.rundir import AttemptDir
from hpc_yolo.supervise.symptoms import cause_of, oom_kills, symptoms_of
from tests.unit.runs_on_disk import AttemptOnDisk, begin, make_run

ABORT = (
    "terminate called after throwing an instance of 'c10::Error'\n  what():  CUDA error: unspecified launch failure\n"
)


@pytest.fixture
def ended(tmp_path: Path) -> AttemptOnDisk:
    """An attempt whose log ends with an abort of native code."""
    attempt = begin(make_run(tmp_path / "3f2a")).start()
    attempt.dir.stderr.write_text(f"{'x' * 100_000}\n{ABORT}")
    return attempt


def cause(attempt: AttemptDir, code: int, **known: object) -> str | None:
    found = cause_of(attempt, code, RetryConfig(), **known)  # type: ignore[arg-type]
    return found and found.rule.cause


def test_what_the_worker_told_comes_before_its_log(ended: AttemptOnDisk) -> None:
    error = "OutOfMemoryError: CUDA out of memory."
    ended.tell(Kind.FAILED, error=error, exit_code=70, exception="torch.OutOfMemoryError")

    told = symptoms_of(ended.dir, 70)

    assert (told.error, told.exception, told.tail) == (error, "torch.OutOfMemoryError", "")
    assert cause(ended.dir, 70) == "cuda_out_of_memory"


def test_of_one_that_died_without_a_word_the_end_of_its_log_counts(ended: AttemptOnDisk) -> None:
    assert cause(ended.dir, -signal.SIGABRT) == "launch_failure"
    assert len(symptoms_of(ended.dir, -signal.SIGABRT).tail) < 10_000


def test_whom_others_kill_has_said_nothing_about_it(ended: AttemptOnDisk) -> None:
    assert cause(ended.dir, -signal.SIGKILL) == "killed"
    assert cause(ended.dir, -signal.SIGKILL, was_oom_killed=True) == "host_out_of_memory"


def test_another_rank_tells_in_its_own_log(ended: AttemptOnDisk) -> None:
    """Rank 0 says no more than that it has lost one."""
    ended.tell(Kind.FAILED, error="another rank is gone", exit_code=69, exception="torch.distributed.DistBackendError")
    ended.dir.rank_log(1).write_text("RuntimeError: CUDA error: uncorrectable ECC error encountered\n")

    assert cause(ended.dir, 70, rank=1) == "gpu_memory_error"
    assert cause(ended.dir, 69) == "lost_rank"


@pytest.mark.parametrize("code", [0, 75])
def test_an_orderly_end_has_no_cause(ended: AttemptOnDisk, code: int) -> None:
    assert cause(ended.dir, code) is None


def test_a_log_that_cannot_be_read_leaves_the_exit_code(tmp_path: Path) -> None:
    attempt = begin(make_run(tmp_path / "3f2a")).start().dir
    attempt.stderr.mkdir()

    assert cause(attempt, 74) == "storage"


@pytest.mark.parametrize(
    ("own", "file", "text"),
    [
        ("0::/job_7/step_0\n", "job_7/step_0/memory.events", "low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\n"),
        (
            "9:memory:/job_7\n0::/x\n",
            "memory/job_7/memory.oom_control",
            "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n",
        ),
        ("9:memory:/job_7\n", "memory/job_7/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n"),
        ("garbage\n", "memory.events", "oom_kill 2\n"),
    ],
)
def test_the_kernel_counts_whom_it_has_killed_for_memory(tmp_path: Path, own: str, file: str, text: str) -> None:
    (tmp_path / "own").write_text(own)
    (tmp_path / "cgroup" / file).parent.mkdir(parents=True)
    (tmp_path / "cgroup" / file).write_text(text)

    expected = 2 if "step" in own or "/x" in own else 0
    assert oom_kills(tmp_path / "own", tmp_path / "cgroup") == expected


def test_where_the_kernel_does_not_tell_nobody_was_killed(tmp_path: Path) -> None:
    assert oom_kills(tmp_path / "none", tmp_path) == 0
