"""What the main thread may rely on when the helper cannot answer, and what a requeue's pickle holds."""

from __future__ import annotations

import errno
import os
import pickle
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from hpc_yolo.config import RetryConfig
from hpc_yolo.events import Kind, Ledger, read_events
from hpc_yolo.rundir import RunDir
from hpc_yolo.supervise.allocation import HandBack, LocalAllocation
from hpc_yolo.supervise.policy import Decision, Next, leave_between
from hpc_yolo.supervise.supervisor import Supervisor
from hpc_yolo.supervise.task import TrainTask, _code_of
from hpc_yolo.types import ExitCode, StopReason
from tests.unit.supervised import FINISH, make_run


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(autouse=True)
def own_handlers() -> Iterator[None]:
    """What a supervisor ignores or blocks in the end, the next test's processes would be born to ignore."""
    before = {it: signal.getsignal(it) for it in (signal.SIGUSR1, signal.SIGUSR2, signal.SIGTERM)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for signum, handler in before.items():
        signal.signal(signum, handler)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def mute(tmp_path: Path, clock: Clock) -> Supervisor:
    """Its helper never answers: it was never started."""
    return Supervisor(RunDir(tmp_path), lambda _attempt: [], lambda _attempt: RetryConfig(), clock=clock)


def test_a_log_that_takes_nothing_costs_no_verdict(tmp_path: Path) -> None:
    """The run's storage fails, and the job's log, which lies there as well, with it."""
    (tmp_path / "attempts").write_text("no folder")
    supervise = "import sys; from tests.unit.supervised import FakeTask; FakeTask(sys.argv[1])()"
    with Path("/dev/full").open("w") as full:
        answer = subprocess.run(
            [sys.executable, "-c", supervise, tmp_path],
            cwd=Path(__file__).parents[2],
            stderr=full,
            timeout=30,
            check=False,
        )

    assert answer.returncode == ExitCode.STORAGE


class Patient(LocalAllocation):
    """As a job's."""

    patience_s = 30.0


def test_a_storage_that_fails_for_a_moment_as_the_run_is_claimed_is_waited_for(tmp_path: Path) -> None:
    run = make_run(tmp_path / "3f2a", FINISH)
    run.attempts_dir.write_text("no folder")
    supervisor = Supervisor(run, lambda _attempt: [], lambda _attempt: RetryConfig(), Patient())
    with ThreadPoolExecutor() as pool:
        found = pool.submit(supervisor._claim)
        time.sleep(0.3)
        assert not found.done()
        run.attempts_dir.unlink()

        attempt = found.result(timeout=10)
    assert attempt is not None
    assert attempt.launch_yaml.is_file()


def test_nobody_waits_longer_than_the_grace_period(mute: Supervisor, clock: Clock) -> None:
    mute.warn(signal.SIGUSR1)
    assert not mute.is_over()

    clock.now += RetryConfig().grace_s + 1

    assert mute.is_over()
    assert mute.conclude().next is Next.REQUEUE


class Slow(LocalAllocation):
    """Slurm's controller is away: it takes all the time that it is given, and a moment to notice."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def hand_back(self, within_s: float) -> HandBack:
        self.clock.now += within_s + 0.1
        return HandBack(how="refused", said="no answer")


def test_that_nobody_took_the_job_back_is_told_before_the_grace_period_is_over(tmp_path: Path, clock: Clock) -> None:
    """The main thread leaves then, in the middle of whatever the helper does."""
    told_by = Ledger(tmp_path / "events.jsonl")
    supervisor = Supervisor(
        RunDir(tmp_path), lambda _attempt: [], lambda _attempt: RetryConfig(), Slow(clock), clock=clock
    )
    supervisor.warn(signal.SIGUSR1)
    supervisor._hand_back(leave_between(StopReason.PREEMPTION), told_by)

    assert not supervisor.is_over()
    (told,) = read_events(told_by.path)
    assert (told.kind, told.fields["how"]) == (Kind.HANDED_BACK, "refused")


def test_without_a_stop_request_it_goes_on_for_ever(mute: Supervisor, clock: Clock) -> None:
    clock.now += 1e6

    assert not mute.is_over()


def test_the_first_warning_stands(mute: Supervisor) -> None:
    mute.warn(signal.SIGTERM)
    mute.warn(signal.SIGUSR1)

    assert mute.conclude().next is Next.STOP


def test_the_pickle_holds_a_path_and_nothing_else(mute: Supervisor) -> None:
    task = TrainTask("/runs/a")
    task._supervisor = mute

    assert pickle.loads(pickle.dumps(task)).__dict__ == {"run_dir": "/runs/a", "_supervisor": None}


def test_a_warning_before_the_task_is_called_requeues_it() -> None:
    script = (
        "from hpc_yolo.supervise.task import TrainTask; import os, signal; "
        "requeued = TrainTask('/runs/a').checkpoint(); os.kill(os.getpid(), signal.SIGUSR1); "
        "print(requeued.function.run_dir)"
    )
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    found = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=False)

    assert (found.returncode, found.stdout) == (0, "/runs/a\n"), found.stderr


@pytest.mark.parametrize(
    ("next_", "code", "leaves_with"),
    [
        (Next.REQUEUE, ExitCode.STORAGE, ExitCode.STOPPED),  # the script does what could not be done here
        (Next.REQUEUE, ExitCode.BUSY, ExitCode.BUSY),  # superseded: nothing is to be requeued
        (Next.FAIL, ExitCode.STOPPED, ExitCode.BUG),
        (Next.FAIL, ExitCode.STORAGE, ExitCode.STORAGE),
        (Next.DONE, ExitCode.DONE, ExitCode.DONE),
    ],
)
def test_on_slurm_75_means_requeue_and_nothing_else_does(
    monkeypatch: pytest.MonkeyPatch, next_: Next, code: ExitCode, leaves_with: ExitCode
) -> None:
    monkeypatch.setenv("SUBMITIT_EXECUTOR", "slurm")

    assert _code_of(Decision(next=next_, outcome="x", exit_code=code, why="")) == leaves_with


def test_a_warned_run_is_not_lost_for_a_storage_that_fails(mute: Supervisor, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), "attempts")

    monkeypatch.setattr(mute, "_supervise", fail)
    mute.warn(signal.SIGUSR1)
    mute._work()

    assert mute.verdict is not None
    assert (mute.verdict.next, mute.verdict.exit_code) == (Next.REQUEUE, ExitCode.STOPPED)


def test_the_supervisor_imports_nothing_heavy() -> None:
    heavy = ("torch", "ultralytics", "hydra", "omegaconf", "safetensors")
    script = f"import sys, hpc_yolo.supervise.task, hpc_yolo.submit.controller; print([m for m in {heavy} if m in sys.modules])"
    environ = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}

    found = subprocess.run([sys.executable, "-c", script], env=environ, capture_output=True, text=True, check=True)

    assert found.stdout == "[]\n"
