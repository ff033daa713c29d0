"""Owns the stop request: that somebody asked this worker to stop, and the exception with which it leaves the loop."""

from __future__ import annotations

import signal
from types import FrameType


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
