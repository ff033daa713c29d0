"""`launch` in the foreground, in a process of its own as the command line is: progress, Ctrl-C, a terminal that dies."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.events import Kind
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.local import launch
from hpc_yolo.supervise.drill import preempt
from hpc_yolo.types import RunState
from tests.unit.supervised import (
    FINISH,
    HANG,
    TRAIN_ON,
    endings,
    events,
    make_run,
    processes_of,
    status,
    supervisor,
    task_of,
    until,
    until_attempt,
)  # fmt: skip


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


class Terminal:
    def __init__(self, run: RunDir) -> None:
        script = (
            "import sys; from hpc_yolo.submit.local import launch; from tests.unit.supervised import *; "
            "run = RunDir(Path(sys.argv[1])); sys.exit(launch(run, True, task=task_of(run)))"
        )
        self.process = subprocess.Popen(
            [sys.executable, "-c", script, str(run.path)], stdout=subprocess.PIPE, start_new_session=True, text=True
        )

    def close(self) -> tuple[int, str]:
        told, _ = self.process.communicate(timeout=30)
        return self.process.returncode, told


@pytest.fixture
def foreground(tmp_path: Path) -> Iterator[Callable[..., tuple[RunDir, Terminal]]]:
    opened: list[tuple[RunDir, Terminal]] = []

    def _open(*parts: dict[str, Any], **retry: Any) -> tuple[RunDir, Terminal]:
        run = make_run(tmp_path / "experiment" / "run", *parts, **retry)
        opened.append((run, Terminal(run)))
        return opened[-1]

    yield _open
    for run, terminal in opened:
        terminal.process.kill()
        until(partial(is_gone, run))


Foreground = Callable[..., tuple[RunDir, Terminal]]


def test_in_the_foreground_the_outcome_is_the_exit_code(foreground: Foreground) -> None:
    run, terminal = foreground(TRAIN_ON, FINISH)
    until_attempt(run, 1)
    preempt(run)

    code, told = terminal.close()

    assert code == 0
    assert "attempt 1 ended (preemption; its state is saved): it is queued again" in told.splitlines()


def test_ctrl_c_saves_and_stops(foreground: Foreground) -> None:
    run, terminal = foreground(TRAIN_ON)
    until_attempt(run, 1)

    terminal.process.send_signal(signal.SIGINT)

    code, told = terminal.close()
    assert code == 75
    assert "saving; Ctrl-C again kills" in told
    assert endings(run) == [("cancellation", "stop")]
    assert not processes_of(run)


def test_a_second_ctrl_c_kills_at_once(foreground: Foreground) -> None:
    run, terminal = foreground(HANG)
    until_attempt(run, 1)

    terminal.process.send_signal(signal.SIGINT)
    until(lambda: events(run, Kind.STOP_REQUESTED))
    at = time.monotonic()
    terminal.process.send_signal(signal.SIGINT)

    assert terminal.close()[0] == 130
    assert time.monotonic() - at < 30  # the grace period is 60 s
    until(lambda: not processes_of(run), within_s=2)
    assert status(run).state is RunState.CANCELLED


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGHUP])
def test_when_the_terminal_dies_the_run_stops_with_its_state_saved(
    foreground: Foreground, signum: signal.Signals
) -> None:
    run, terminal = foreground(TRAIN_ON)
    until_attempt(run, 1)

    terminal.process.send_signal(signum)

    assert terminal.close()[0] == -signum
    until(lambda: not processes_of(run))
    assert endings(run) == [("cancellation", "stop")]
    assert events(run, Kind.STOPPED)


def test_a_killed_controller_is_outlived_by_the_terminal(foreground: Foreground) -> None:
    run, terminal = foreground(TRAIN_ON)
    until_attempt(run, 1)

    os.kill(parent_of(supervisor(run)), signal.SIGKILL)

    assert terminal.close()[0] == 75
    assert endings(run) == [("cancellation", "stop")]


def test_in_the_background_it_says_how_to_follow(tmp_path: Path) -> None:
    run, out = make_run(tmp_path / "experiment" / "run", FINISH), io.StringIO()

    assert launch(run, wait=False, task=task_of(run), stream=out) == 0

    assert f"hpc-yolo logs -f {run.path}" in out.getvalue()
    until(lambda: endings(run) and not processes_of(run))


def is_gone(run: RunDir) -> bool:
    return not processes_of(run)


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
