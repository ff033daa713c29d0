"""Owns when a snapshot is due inside an epoch. Pure but for the clock that it is given."""

from __future__ import annotations

import time
from collections.abc import Callable


class Interval:
    """Due every `every_s` seconds of wall-clock, counted from the last snapshot of whatever cause."""

    def __init__(self, every_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock = clock
        self._last = clock()

    def is_due(self) -> bool:
        return self._clock() - self._last >= self._every_s

    def restart(self) -> None:
        self._last = self._clock()
