"""Owns which snapshots stay: the newest few, the best, and a permanent series of epochs. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Series:
    """The epochs (counted from 1) whose snapshots are never removed: every Nth, or N, 2N, 4N, 8N ..."""

    rule: str
    first: int

    @classmethod
    def parse(cls, text: str) -> Series:
        """From `every:10` or `doubling:10`, which the config has checked."""
        rule, _, first = text.partition(":")
        return cls(rule, int(first))

    def __contains__(self, epoch: int) -> bool:
        if epoch < self.first or epoch % self.first:
            return False
        multiple = epoch // self.first
        return self.rule == "every" or multiple & (multiple - 1) == 0


@dataclass(slots=True)
class Kept:
    """The steps whose snapshots are kept beyond the newest few. It travels inside the snapshots."""

    best: int | None = None
    series: list[int] = field(default_factory=list)

    def steps(self) -> set[int]:
        return {*self.series, *([] if self.best is None else [self.best])}


def superfluous(steps: Sequence[int], keep: int, kept: Iterable[int]) -> list[int]:
    """Indices of the snapshots to remove, given all their steps from old to new."""
    stay = set(kept)
    return [index for index, step in enumerate(steps[:-keep]) if step not in stay]
