"""Owns the stop request: that somebody asked this worker to stop, and the exception with which it leaves the loop."""

from __future__ import annotations

import ctypes
import os
import signal
from types import FrameType

_PR_SET_PDEATHSIG = 1


class StopTraining(Exception):  # noqa: N818 (not an error)
    """Leaves the training loop at a safe point, with the state saved."""


class StopRequest:
    """Remembers that we were asked to stop; acts only where the trainer says it is safe."""

    def __init__(self) -> None:
        self.signum = 0

    @property
    def is_set(self) -> bool:
        return self.signum != 0

    def note(self, signum: int, _frame: FrameType | None = None) -> None:
        self.signum = self.signum or signum  # anything more is unsafe in the middle of a kernel

    def arm(self, signums: tuple[signal.Signals, ...] = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)) -> None:
        """Take the warnings from now on; the supervisor started us with them blocked, so none was lost meanwhile."""
        for signum in signums:
            signal.signal(signum, self.note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signums)

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name if self.signum else ""


def die_with_parent(parent: int) -> None:
    """Ask the kernel for a SIGTERM when the supervisor dies: the worker saves and ends, and nothing is orphaned.

    Linux only (prctl(2), PR_SET_PDEATHSIG).
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), signal.SIGTERM)
