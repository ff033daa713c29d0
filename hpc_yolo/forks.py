"""Owns sharing the work about very many things among the CPUs of this machine: processes, each with a part of them."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from itertools import chain
from typing import Any, TypeVar

#: Below that many the processes would cost more than they save; a login node has others to serve.
_FROM, _MOST_PROCESSES = 1000, 4
_PARTS_EACH = 4
_Found = TypeVar("_Found")
#: What the processes, which are forks of this one, are to do.
_work: Callable[[range], list[Any]] | None = None


def in_forks(work: Callable[[range], list[_Found]], count: int) -> list[_Found]:
    """What `work` gives of the things with the numbers 0 to `count`, in their order.

    Args:
        work: called with a part of the numbers; in a fork of this process where there are very many.
    """
    processes = min(_MOST_PROCESSES, len(os.sched_getaffinity(0)))
    if count < _FROM or processes < 2:
        return work(range(count))
    global _work  # noqa: PLW0603 (the forks find it there: a closure cannot be sent to them)
    size = -(-count // (processes * _PARTS_EACH))
    parts = [range(begin, min(begin + size, count)) for begin in range(0, count, size)]
    _work = work
    try:
        with ProcessPoolExecutor(processes, multiprocessing.get_context("fork")) as pool:
            return list(chain.from_iterable(pool.map(_do, parts)))
    except (OSError, BrokenProcessPool):  # no more processes are allowed here, or one was killed
        return work(range(count))
    finally:
        _work = None


def _do(part: range) -> list[Any]:
    assert _work is not None
    return _work(part)
