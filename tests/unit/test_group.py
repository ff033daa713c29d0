"""Several processes behave as one: the first speaks for all, the first to die ends all."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hpc_yolo.rundir import AttemptDir
from hpc_yolo.supervise import group
from hpc_yolo.supervise.group import Part, RankGroup, environment_of, start_ranks

Begin = Callable[..., RankGroup]
WAIT = "time.sleep(100)"


@pytest.fixture
def begin() -> Iterator[Begin]:
    """Starts one process for each line of Python."""
    started: list[subprocess.Popen[bytes]] = []

    def _begin(*lines: str) -> RankGroup:
        words = [[sys.executable, "-c", f"import os, signal, sys, time; {line}"] for line in lines]
        processes = [subprocess.Popen(it) for it in words]
        started.extend(processes)
        return RankGroup(processes)

    yield _begin
    left = [process for process in started if process.poll() is None]
    for process in left:
        process.kill()
        process.wait()
    assert not left


def end(it: RankGroup, within_s: float = 20.0) -> int:
    until = time.monotonic() + within_s
    while (code := it.poll()) is None:
        assert time.monotonic() < until, "the group has not ended"
        time.sleep(0.02)
    return code


@pytest.mark.parametrize("code", [0, 75])
def test_it_ends_as_its_first_process_does(begin: Begin, code: int) -> None:
    it = begin(f"sys.exit({code})", "sys.exit(75)", "sys.exit(0)")

    assert end(it) == code
    assert it.lost is None


def test_one_that_is_killed_ends_the_others(begin: Begin) -> None:
    it = begin(WAIT, "os.kill(os.getpid(), signal.SIGKILL)", WAIT)

    assert end(it) == -signal.SIGKILL
    assert it.lost == (1, -signal.SIGKILL)


def test_the_cause_counts_and_not_what_it_did_to_the_others(begin: Begin) -> None:
    it = begin("sys.exit(69)", "sys.exit(70)", "sys.exit(69)")
    for process in it._processes:
        process.wait()

    assert end(it) == 70
    assert it.lost == (1, 70)


@pytest.mark.parametrize("others", [(WAIT,), ()], ids=["beside-others", "alone-on-its-node"])
def test_a_cause_on_another_node_is_awaited(
    begin: Begin, monkeypatch: pytest.MonkeyPatch, others: tuple[str, ...]
) -> None:
    told: list[tuple[int, int]] = []
    monkeypatch.setattr(group, "_LOOK_S", 0.0)
    it = begin("sys.exit(69)", *others)
    it._lost_elsewhere = lambda: told
    it._processes[0].wait()

    assert it.poll() is None  # it says no more than that it has lost another
    assert it.lost is None
    told.append((3, -signal.SIGKILL))
    assert end(it) == -signal.SIGKILL
    assert it.lost == (3, -signal.SIGKILL)


def test_a_cause_that_nobody_tells_is_not_awaited_for_long(begin: Begin, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(group, "_CAUSE_S", 0.2)
    it = begin("sys.exit(69)", WAIT)

    assert end(it) == 69
    assert it.lost == (0, 69)


def test_once_the_first_has_left_the_ends_of_the_others_say_nothing(
    begin: Begin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(group, "_LEAVE_S", 0.2)
    it = begin("sys.exit(75)", "sys.exit(69)", WAIT)

    assert end(it) == 75


def test_a_warning_reaches_all(begin: Begin, tmp_path: Path) -> None:
    line = "signal.signal(signal.SIGUSR1, lambda *_: sys.exit(75)); open({0!r}, 'w').close(); time.sleep(100)"
    files = [tmp_path / name for name in "ab"]
    it = begin(*(line.format(str(file)) for file in files))
    until = time.monotonic() + 20
    while not all(file.exists() for file in files):
        assert time.monotonic() < until
        time.sleep(0.02)

    it.send_signal(signal.SIGUSR1)

    assert end(it) == 75


@pytest.mark.parametrize(
    ("given", "seen"),
    [
        ({}, ["0", "1"]),
        ({"CUDA_VISIBLE_DEVICES": "4,7"}, ["4", "7"]),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a,GPU-b,GPU-c"}, ["GPU-a", "GPU-b"]),
        ({"CUDA_VISIBLE_DEVICES": ""}, ["", ""]),
    ],
)
def test_each_sees_a_gpu_of_its_own(given: dict[str, str], seen: list[str]) -> None:
    assert [environment_of(rank, Part(2, 0, 2), given)["CUDA_VISIBLE_DEVICES"] for rank in (0, 1)] == seen


def test_a_lone_process_is_not_told_that_it_is_one_of_several() -> None:
    left_over = {
        "RANK": "3",
        "WORLD_SIZE": "8",
        "LOCAL_RANK": "3",
        "MASTER_ADDR": "elsewhere",
        "CUDA_VISIBLE_DEVICES": "1",
    }

    assert environment_of(0, Part(), left_over) == {"CUDA_VISIBLE_DEVICES": "1"}


def test_each_process_has_its_place_and_its_log(tmp_path: Path) -> None:
    attempt = AttemptDir(tmp_path)
    code = "import os; print(os.environ['RANK'], os.environ['WORLD_SIZE'])"

    assert end(start_ranks([sys.executable, "-c", code], attempt, Part(2, 0, 2), {})) == 0
    assert (attempt.stdout.read_text(), attempt.rank_log(1).read_text()) == ("0 2\n", "1 2\n")
