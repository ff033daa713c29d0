"""Owns the tree of processes below us: sessions, descendants, orphans, blocked signals. Linux only; no policy."""

from __future__ import annotations

import ctypes
import os
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from hpc_yolo.processes import read_stat

#: What a scheduler warns with. A process starts with them blocked and unblocks them when its handlers stand.
WARNINGS = (signal.SIGUSR1, signal.SIGTERM)
_PR_SET_CHILD_SUBREAPER = 36
_SLICE_S = 0.05


@dataclass(frozen=True, slots=True)
class Process:
    """One living process; zombies do not count."""

    pid: int
    parent: int
    session: int


def living() -> Iterator[Process]:
    """Every process that we can see."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            stat = read_stat(int(name))
            if stat is not None and stat[0] not in ("Z", "X"):
                yield Process(int(name), parent=int(stat[1]), session=int(stat[3]))


def session_members(session: int) -> list[int]:
    return [process.pid for process in living() if process.session == session]


def descendants(pid: int) -> list[int]:
    """Children and their children, without `pid` itself."""
    children: dict[int, list[int]] = {}
    for process in living():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[int] = []
    waiting = list(children.get(pid, ()))
    while waiting:
        found.append(waiting.pop())
        waiting += children.get(found[-1], ())
    return found


def adopt_orphans() -> None:
    """From now on a process whose parent dies becomes a child of ours, if it descends from us: prctl(2), subreaper."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def kill_children(within_s: float = 2.0) -> None:
    """Kill and reap all descendants: what a dead worker left behind, such as its dataloader workers."""
    deadline = time.monotonic() + within_s
    while (left := descendants(os.getpid())) and time.monotonic() < deadline:
        send(left, signal.SIGKILL)
        for pid in left:
            with suppress(ChildProcessError):  # a grandchild: its parent dies first, then it is ours
                os.waitpid(pid, os.WNOHANG)
        time.sleep(_SLICE_S)


def end_all(members: Callable[[], list[int]], patience_s: float) -> None:
    """Wait until `members` is empty; kill what is left of it when `patience_s` are over."""
    deadline = time.monotonic() + patience_s
    while left := members():
        if time.monotonic() >= deadline:
            send(left, signal.SIGKILL)
        time.sleep(_SLICE_S)


def send(pids: Iterable[int], signum: signal.Signals) -> None:
    """Signal each; one that has ended meanwhile is passed over."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signum)


@contextmanager
def warnings_blocked() -> Iterator[None]:
    """What is spawned in here inherits the mask over exec: a warning that comes too early waits for its handlers."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, WARNINGS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def unblock_warnings() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, WARNINGS)
