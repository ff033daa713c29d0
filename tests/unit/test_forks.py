"""Work about very many things is done by several processes, and comes back in order."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from hpc_yolo import forks
from hpc_yolo.forks import in_forks


def who_and_what(numbers: range) -> list[tuple[int, int]]:
    return [(os.getpid(), number) for number in numbers]


@pytest.fixture
def two_cpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forks.os, "sched_getaffinity", lambda _pid: {0, 1})


@pytest.mark.usefixtures("two_cpus")
def test_of_very_many_others_do_a_part_each() -> None:
    found = in_forks(who_and_what, 2500)

    assert [number for _, number in found] == list(range(2500))
    assert os.getpid() not in {pid for pid, _ in found}


@pytest.mark.parametrize("count", [0, 1, 999])
def test_few_are_done_here(count: int) -> None:
    assert in_forks(who_and_what, count) == [(os.getpid(), number) for number in range(count)]


@pytest.mark.usefixtures("two_cpus")
@pytest.mark.parametrize("end", [lambda: os._exit(9), lambda: (_ for _ in ()).throw(OSError("no more processes"))])
def test_where_the_processes_fail_it_is_done_here(end: Callable[[], None]) -> None:
    here = os.getpid()

    def work(numbers: range) -> list[int]:
        if os.getpid() != here:
            end()
        return list(numbers)

    assert in_forks(work, 1500) == list(range(1500))


@pytest.mark.usefixtures("two_cpus")
def test_an_error_of_the_work_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        in_forks(lambda numbers: [1 // 0 for _ in numbers], 1500)
