"""A sweep on this machine: so many runs at a time, one view of all, and a Ctrl-C that is meant for all."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from hpc_yolo.report.block import Block
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.crew import Crew
from hpc_yolo.types import RunState
from tests.unit.runs_on_disk import begin
from tests.unit.supervised import (
    CRASH,
    FINISH,
    HANG,
    TRAIN_ON,
    endings,
    events,
    make_run,
    processes_of,
    status,
    task_of,
    until,
    until_attempt,
)  # fmt: skip


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))


@pytest.fixture
def started() -> Iterator[list[subprocess.Popen[str]]]:
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()


def in_a_process(runs: list[RunDir], parallel: int, started: list[subprocess.Popen[str]]) -> subprocess.Popen[str]:
    script = (
        "import sys; from hpc_yolo.submit.crew import Crew; from tests.unit.supervised import *; "
        "print(Crew([RunDir(Path(it)) for it in sys.argv[2:]], int(sys.argv[1]), task_of=task_of).train())"
    )
    words = [sys.executable, "-c", script, str(parallel), *[str(run.path) for run in runs]]
    started.append(subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True, text=True))
    return started[-1]


def most_at_once(runs: list[RunDir]) -> int:
    moments = [(e.time, 1) for run in runs for e in events(run, Kind.ATTEMPT_STARTED)]
    moments += [(e.time, -1) for run in runs for e in events(run, Kind.ATTEMPT_ENDED)]
    now = most = 0
    for _, change in sorted(moments):
        now += change
        most = max(most, now)
    return most


def test_a_run_that_fails_stops_no_other_and_each_is_told(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "grid" / f"run{i}", CRASH if i == 1 else FINISH, max_restarts=0) for i in range(4)]
    out = io.StringIO()

    assert Crew(runs, 2, out, task_of).train() == [0, 70, 0, 0]

    lines = out.getvalue().splitlines()
    assert most_at_once(runs) <= 2
    assert [line.split(":")[0] for line in lines if line.endswith(tuple(str(run.path) for run in runs))].count(
        "run1  failed"
    ) == 1
    assert sum("  done: epoch" in line for line in lines) == 3
    assert lines[-1] == "4 runs: 3 done, 1 failed"
    assert "\x1b" not in out.getvalue()


def test_one_that_somebody_else_trains_is_told_and_passed_over(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / "grid" / f"run{i}", FINISH) for i in range(2)]
    begin(runs[0]).start().beat(3, alive=True)  # by this very process
    out = io.StringIO()

    assert Crew(runs, 1, out, task_of).train() == [73, 0]
    assert "run0  hpc-yolo: " in out.getvalue()
    assert "run1  done" in out.getvalue()


def test_ctrl_c_saves_and_stops_all_and_begins_no_other(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    runs = [make_run(tmp_path / "grid" / f"run{i}", TRAIN_ON) for i in range(3)]
    process = in_a_process(runs, 2, started)
    for run in runs[:2]:
        until_attempt(run, 1)

    process.send_signal(signal.SIGINT)

    told, _ = process.communicate(timeout=60)
    assert "saving 2 runs; Ctrl-C again kills" in told
    assert told.splitlines()[-2:] == ["3 runs: 2 stopped, 1 not begun", "[75, 75, 75]"]
    assert [endings(run) for run in runs] == [[("cancellation", "stop")], [("cancellation", "stop")], []]
    assert not any(map(processes_of, runs[:1]))


def test_a_second_ctrl_c_kills_all(tmp_path: Path, started: list[subprocess.Popen[str]]) -> None:
    runs = [make_run(tmp_path / "grid" / f"run{i}", HANG) for i in range(2)]
    process = in_a_process(runs, 2, started)
    for run in runs:
        until_attempt(run, 1)

    process.send_signal(signal.SIGINT)
    for run in runs:
        until(lambda run=run: events(run, Kind.STOP_REQUESTED))
    at = time.monotonic()
    process.send_signal(signal.SIGINT)

    told, _ = process.communicate(timeout=60)
    assert time.monotonic() - at < 30  # the grace period is 60 s
    assert told.splitlines()[-2:] == ["2 runs: 2 killed", "[130, 130]"]
    assert {status(run).state for run in runs} == {RunState.CANCELLED}


def test_when_the_terminal_dies_all_stop_with_their_state_saved(
    tmp_path: Path, started: list[subprocess.Popen[str]]
) -> None:
    runs = [make_run(tmp_path / "grid" / f"run{i}", TRAIN_ON) for i in range(2)]
    process = in_a_process(runs, 2, started)
    for run in runs:
        until_attempt(run, 1)

    os.kill(process.pid, signal.SIGKILL)

    until(lambda: not processes_of(runs[0]))
    assert [endings(run) for run in runs] == [[("cancellation", "stop")]] * 2


def test_on_a_terminal_the_block_stays_below_what_goes_by(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    block = Block(out)
    block.show(["a  epoch 1/3", "b  starts"], "2 runs: 2 training")
    block.show(["a  epoch 1/3", "b  starts"], "2 runs: 2 training")  # nothing new: nothing is written
    block.say(["a  done"])
    block.show(["b  " + "x" * 200], "2 runs: 1 done, 1 training")
    block.close()

    assert out.getvalue().split("\n") == [
        "a  epoch 1/3",
        "b  starts",
        "2 runs: 2 training",
        "\x1b[3A\r\x1b[Ja  done",
        ("b  " + "x" * 200)[:79],
        "2 runs: 1 done, 1 training",
        "\x1b[2A\r\x1b[J",
    ]


def test_more_runs_than_the_terminal_has_rows_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    Block(out).show([f"run{i}" for i in range(100)], "100 runs")

    assert out.getvalue().splitlines()[-3:] == ["run20", "... and 79 more", "100 runs"]
