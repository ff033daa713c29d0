"""Owns telling where every thread of this process stands, when it is asked by a signal: into the log, past all threads.

A process that hangs runs no line of Python any more, so the interpreter's own handler in C writes, and to a file of its own:
what Python prints goes through a thread (output.py).
"""

from __future__ import annotations

import faulthandler
from pathlib import Path
from typing import IO

from hpc_yolo.processes import STACKS_SIGNAL

_logs: list[IO[bytes]] = []  # open for as long as the process lives: a signal handler writes there


def tell_on_request(log: Path) -> None:
    """From now on STACKS_SIGNAL ends nobody, and brings the stacks to the end of `log`."""
    file = log.open("ab", buffering=0)
    _logs.append(file)
    faulthandler.register(STACKS_SIGNAL, file=file, all_threads=True, chain=False)
