"""Owns when a snapshot is due inside an epoch: every so many seconds, every so many steps, or as measurements advise.

The advice is Young's and Daly's (CACM 17(9), 1974; FGCS 22(3), 2006): the interval that loses least is
sqrt(2 * cost of a snapshot * mean time between interruptions).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

#: A writer that is busy for a larger share of the time than this would be a burden on a storage that others use, too.
_MOST_DUTY = 0.1
_LEAST_S = 5.0


@dataclass(frozen=True, slots=True)
class Advice:
    """An interval in seconds, and why."""

    seconds: float
    why: str


class Interval(Protocol):
    """Counted from the last snapshot of whatever cause."""

    def is_due(self, step: int) -> bool: ...

    def restart(self, step: int) -> None: ...

    def learn(self, stall_s: float, write_s: float) -> None:
        """A snapshot kept the training waiting for `stall_s`, and was durable after `write_s` (seconds)."""


class EverySeconds:
    """Due every `seconds` of wall-clock, or as often as snapshots can be written.

    Args:
        told: called when that turns out to be less often.
    """

    def __init__(
        self,
        seconds: float,
        told: Callable[[Advice], None] = lambda _advice: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.seconds = seconds
        self._told = told
        self._clock = clock
        self._last = clock()

    def is_due(self, step: int) -> bool:  # noqa: ARG002
        return self._clock() - self._last >= self.seconds

    def restart(self, step: int) -> None:  # noqa: ARG002
        self._last = self._clock()

    def learn(self, stall_s: float, write_s: float) -> None:  # noqa: ARG002
        if write_s > self.seconds:
            why = f"snapshot.every_s={self.seconds:g} is shorter than a write takes here ({write_s:.1f} s). Leave it at auto"
            self.seconds = write_s
            self._told(Advice(round(write_s, 1), f"{why}, or set {math.ceil(write_s / _MOST_DUTY)} or more"))


class EverySteps:
    """Due every `steps` optimizer steps."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._last = 0

    def is_due(self, step: int) -> bool:
        return step - self._last >= self._steps

    def restart(self, step: int) -> None:
        self._last = step

    def learn(self, stall_s: float, write_s: float) -> None:
        pass


@dataclass(frozen=True, slots=True)
class Past:
    """What the run has lived through: `hours` of training, and how often it was interrupted in them."""

    hours: float = 0.0
    interruptions: int = 0


def mean_time_between(expected_h: float, past: Past) -> float:
    """Seconds between interruptions: what is expected of the cluster counts as one interruption seen there."""
    return 3600 * (expected_h + past.hours) / (1 + past.interruptions)


def advise(stall_s: float, write_s: float, between_s: float) -> Advice:
    """From the measured stall and write of a snapshot and the time between interruptions, all in seconds."""
    daly = math.sqrt(2 * stall_s * between_s)
    least = max(write_s / _MOST_DUTY, _LEAST_S)
    told = f"sqrt(2 x {stall_s * 1e3:.1f} ms stall x {between_s / 3600:.2f} h between interruptions) = {daly:.1f} s"
    if daly >= least:
        return Advice(round(daly, 1), told)
    return Advice(round(least, 1), f"{told}; a write takes {write_s:.2f} s, so {least:.1f} s")


class Advised(EverySeconds):
    """Due as `advise` says after each write; until the first one, every `first_s` seconds.

    Args:
        told: called with each advice that differs from the last one by more than a quarter.
    """

    def __init__(
        self,
        expected_h: float,
        past: Past,
        told: Callable[[Advice], None],
        first_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(first_s, told, clock)
        self._between_s = mean_time_between(expected_h, past)
        self._last_told: float | None = None

    def learn(self, stall_s: float, write_s: float) -> None:
        advice = advise(stall_s, write_s, self._between_s)
        self.seconds = advice.seconds
        if self._last_told is None or not 0.8 <= advice.seconds / self._last_told <= 1.25:
            self._last_told = advice.seconds
            self._told(advice)
