"""Owns how values become places on an axis, and which ticks it shows. Pure; knows no SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

#: A positive parameter whose values are further apart than this is drawn on a logarithmic axis.
_DECADES = 30.0


@dataclass(frozen=True, slots=True)
class Scale:
    """From `low`..`high` to `start`..`end` (pixels)."""

    low: float
    high: float
    start: float
    end: float
    is_log: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = self.low, self.high, value
        if self.is_log:
            low, high, at = math.log10(low), math.log10(high), math.log10(value)
        return self.start + (at - low) / (high - low) * (self.end - self.start)


def fit(values: Sequence[float], start: float, end: float, *, may_be_log: bool = False, room: float = 0.0) -> Scale:
    """A scale that has all values on it.

    Args:
        room: kept free at both ends, as a share of what the values span.
    """
    low, high = min(values, default=0.0), max(values, default=1.0)
    if may_be_log and low > 0 and high / low >= _DECADES:
        wide = (high / low) ** room
        return Scale(low / wide, high * wide, start, end, is_log=True)
    if low == high:
        around = abs(low) * 0.1 or 0.5
        return Scale(low - around, high + around, start, end)
    wide = (high - low) * room
    return Scale(low - wide, high + wide, start, end)


def ticks(scale: Scale, most: int = 5) -> list[float]:
    """Round values on the scale, at most about `most` of them."""
    return _log_ticks(scale, most) if scale.is_log else _linear_ticks(scale, most)


def tick_text(value: float) -> str:
    """0.001, 12, 3e+06."""
    return f"{value:.4g}".replace("e-0", "e-").replace("e+0", "e") if value else "0"


def _linear_ticks(scale: Scale, most: int) -> list[float]:
    rough = (scale.high - scale.low) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(power * times for times in (1, 2, 2.5, 5, 10) if power * times >= rough * 0.999)
    first = math.ceil(scale.low / step - 1e-9)
    last = math.floor(scale.high / step + 1e-9)
    return [round(n * step, 12) for n in range(first, last + 1)]


def _log_ticks(scale: Scale, most: int) -> list[float]:
    lowest, highest = math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high))
    every = max(1, math.ceil((highest - lowest + 1) / (most + 1)))
    return [10.0**n for n in range(lowest, highest + 1, every) if scale.low <= 10.0**n <= scale.high]
