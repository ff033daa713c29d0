"""Owns what is asked of the kernel about processes: their start times, their parent, this boot. Linux only."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # prctl(2)


def process_start(pid: int) -> int | None:
    """Start time of a living process in clock ticks since boot, which tells a reused pid apart; None if gone or a zombie."""
    fields = read_stat(pid)
    return None if fields is None or fields[0] in ("Z", "X") else int(fields[19])


@cache
def boot_id() -> str:
    """Names this boot of this machine; containers and virtual nodes on one kernel share it, and its processes."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


#: Asks a worker for the stacks of its threads. Slurm sends it to nobody who has not asked for it with --signal.
STACKS_SIGNAL = signal.SIGUSR2


def is_same_process(told: Mapping[str, Any]) -> bool:
    """Whether the process that told `pid`, `started` and `boot` of itself lives, on this machine; a reused pid is another."""
    started = told.get("started")
    return told.get("boot") == boot_id() and started is not None and process_start(int(told.get("pid") or 0)) == started


def node_name() -> str:
    """This machine, as Slurm calls it where we run under it; virtual nodes share a host name."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def signal_when_parent_dies(signum: signal.Signals, parent: int | None = None) -> None:
    """Have the kernel send `signum` to this process when its parent thread ends: nothing is orphaned.

    Args:
        parent: the pid that the parent must still have; if it died before this call, the signal is sent at once.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signum)
    if parent is not None and os.getppid() != parent:
        os.kill(os.getpid(), signum)


def read_stat(pid: int) -> list[str] | None:
    """/proc/PID/stat from the state on: state, ppid, pgrp, ...; the start time is the 20th."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()
