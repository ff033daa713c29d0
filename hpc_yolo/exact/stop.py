"""Owns the stop request: that somebody asked this worker to stop, and the exception with which it leaves the loop."""

from __future__ import annotations

import signal
from types import FrameType

_WARNINGS = (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT)


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

    def arm(self) -> None:
        """Take the warnings from now on; the supervisor started us with them blocked, so none was lost meanwhile."""
        for signum in _WARNINGS:
            signal.signal(signum, self.note)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _WARNINGS)

    def disarm(self) -> None:
        """Be deaf from now on: the outcome stands, and Python's own way down would let a late warning change it."""
        for signum in _WARNINGS:
            signal.signal(signum, signal.SIG_IGN)

    @property
    def name(self) -> str:
        return signal.Signals(self.signum).name if self.signum else ""
