"""A worker that gets no further is told from a slow one, a storage that hangs and a job that was suspended; then restarted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.config import RetryConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.events import Kind
from hpc_yolo.heartbeat import Beat
from hpc_yolo.report.explain import explain
from hpc_yolo.report.history import read_history
from hpc_yolo.supervise.hangs import Hang, HangWatch, Progress, told
from tests.unit.runs_on_disk import begin, make_run
from tests.unit.supervised import FINISH, endings, events, until
from tests.unit.supervised import make_run as make_fake_run

REPOSITORY = Path(__file__).parents[2]


def train(progress: Progress, *seconds: float, start: float = 0.0) -> tuple[float, int]:
    """Steps that take so long; returns when the last one was done, and how many there were."""
    now = start
    progress.look(at(0), now)
    for step, took in enumerate(seconds, 1):
        now += took
        assert progress.look(at(step), now) is None
    return now, len(seconds)


def at(step: int, phase: str = "train", batch: int | None = None, **values: Any) -> Beat:
    return Beat(phase=phase, step=step, batch=step if batch is None else batch, **values)


def wait(progress: Progress, beat: Beat | None, since: float, seconds: float) -> Hang | None:
    """Look every second, as the watch does."""
    found = None
    for second in range(1, int(seconds) + 1):
        found = found or progress.look(beat, since + second)
    return found


def test_a_step_may_take_twenty_times_the_longest_so_far() -> None:
    progress = Progress(None)
    now, step = train(progress, 5.0, *[30.0] * 10)

    assert progress.bound_s == 600.0
    assert wait(progress, at(step), now, 600) is None
    hang = wait(progress, at(step), now + 600, 2)
    assert hang is not None
    assert (hang.step, hang.phase, hang.bound_s) == (step, "train", 600.0)
    assert (
        told(hang) == f"the worker got no further in 601 s, in phase train after step {step} (600 s are allowed there)"
    )


def test_quick_steps_have_ten_minutes_all_the_same() -> None:
    progress = Progress(None)
    train(progress, *[0.1] * 50)

    assert progress.bound_s == 600.0


@pytest.mark.parametrize(
    ("beat", "hours"),
    [
        (None, 6),
        (at(0, "start"), 6),
        (at(0, batch=0), 1),
        (at(30, "validate", batch=30), 1),
        (at(60, "final", batch=30), 1),
    ],
)
def test_what_was_never_seen_has_hours(beat: Beat | None, hours: int) -> None:
    progress = Progress(None)
    progress.look(beat, 0.0)

    assert wait(progress, beat, 0.0, 3600 * hours) is None
    assert wait(progress, beat, 3600.0 * hours, 2) is not None


def test_few_steps_are_no_pace() -> None:
    progress = Progress(None)
    train(progress, *[0.1] * 9)

    assert progress.bound_s == 3600.0


def test_the_first_batch_of_an_epoch_is_no_step() -> None:
    """It starts data loaders, and may compile."""
    progress = Progress(None)
    now, _ = train(progress, *[0.1] * 20)
    progress.look(Beat(phase="train", epoch=1, step=20, batch=0), now + 1)

    assert progress.bound_s > 600.0


def test_a_bound_of_the_users_is_that_of_a_step() -> None:
    progress = Progress(7.0)
    progress.look(at(3, "validate"), 0.0)
    elsewhere = progress.bound_s
    progress.look(at(4), 1.0)

    assert (elsewhere, progress.bound_s) == (70.0, 7.0)


def test_whoever_was_suspended_himself_blames_nobody() -> None:
    """Slurm stops all processes of a job that it suspends, the supervisor too."""
    progress = Progress(60.0)
    progress.look(at(3), 0.0)

    assert progress.look(at(3), 5000.0) is None
    assert wait(progress, at(3), 5000.0, 50) is None
    assert wait(progress, at(3), 5050.0, 20) is not None


def test_a_storage_that_fails_is_no_hang() -> None:
    progress = Progress(10.0)
    progress.look(at(3), 0.0)

    assert wait(progress, at(3, trouble="No space left on device"), 0.0, 100) is None


def test_where_no_heartbeat_comes_the_storage_must_have_answered_before_anybody_is_blamed(tmp_path: Path) -> None:
    """It does not: a pipe that nobody reads stands in for a storage that hangs."""
    attempt = begin(make_run(tmp_path / "3f2a")).beat(5, at=1.0)
    os.mkfifo(attempt.dir.path / ".answers")
    sent: list[int] = []
    is_over = False
    watch = HangWatch(attempt.dir, 0.05, sent.append, lambda: is_over, lambda _hang: None, look_s=0.02)
    watch.start()
    reader = os.open(attempt.dir.path / ".answers", os.O_RDONLY)  # opens once the watch wants to write there

    with suppress(AssertionError):
        until(lambda: watch.found is not None or sent, within_s=0.5)
    is_over = True
    os.close(reader)
    assert (watch.found, sent) == (None, [])


def test_a_worker_that_is_stopped_altogether_hangs(tmp_path: Path) -> None:
    """No thread of it renews the heartbeat, and the storage answers."""
    attempt = begin(make_run(tmp_path / "3f2a")).beat(5, at=1.0)
    sent: list[int] = []
    tell: list[Hang] = []
    watch = HangWatch(attempt.dir, 0.05, sent.append, lambda: False, tell.append, look_s=0.02)
    watch.start()

    until(lambda: len(sent) == 2)
    assert sent == [signal.SIGUSR2, signal.SIGKILL]
    assert tell == [watch.found]


def test_a_worker_that_hangs_tells_its_stacks_and_is_restarted_in_place(tmp_path: Path) -> None:
    run = make_fake_run(tmp_path / "runs" / "3f2a", {"then": "freeze", "steps": 5}, FINISH, hang_s=1)
    supervise = "import sys; from tests.unit.supervised import FakeTask; FakeTask(sys.argv[1])()"
    answer = subprocess.run([sys.executable, "-c", supervise, run.path], cwd=REPOSITORY, timeout=60, check=False)

    (hung,) = events(run, Kind.HUNG)
    ended = events(run, Kind.ATTEMPT_ENDED)[0].fields
    assert answer.returncode == 0
    assert endings(run) == [("failure", "restart"), ("done", "done")]
    assert (hung.fields["step"], hung.fields["phase"], hung.fields["bound_s"]) == (5, "train", 1)
    assert ended["cause"] == "hang"
    assert ended["by"].startswith("the worker got no further in")
    assert "fake_worker.py" in run.attempt(1).stderr.read_text()
    said = explain(read_history(run)).attempts[0].happened
    assert "after step 5, in phase train; the stacks of its threads stand at the end of its log" in said


def test_never_is_never(tmp_path: Path) -> None:
    attempt = begin(make_run(tmp_path / "3f2a")).beat(5, at=1.0)
    watch = HangWatch(attempt.dir, None, lambda _signum: None, lambda: False, lambda _hang: None)
    watch.start()

    assert watch._is_wanted is False


@pytest.mark.parametrize("value", [0, -1, "soon", True])
def test_a_bound_that_is_none_is_refused(value: Any) -> None:
    with pytest.raises(ConfigError, match=r"retry\.hang_s"):
        RetryConfig(hang_s=value)
