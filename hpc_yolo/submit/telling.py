"""Owns what a submission says: a line a run while they are few, and at the end one line for all. Knows no Slurm."""

from __future__ import annotations

import sys
from collections import Counter
from enum import Enum

#: With more runs than that, the first few of each outcome are listed.
_FEW = 20
_FIRST = 3


class Outcome(Enum):
    """What became of one run of a submission, in the order and the words of the summary."""

    SUBMITTED = "submitted"
    ONWARD = "stopped before and submitted to go on from a snapshot"
    AGAIN = "broken and submitted again"
    MENDED = "failed for good and submitted again"
    ANEW = "done and trained anew"
    QUEUED = "queued already"
    RUNNING = "running already"
    DONE = "done already"
    BUSY = "being submitted or trained by somebody else"
    LEFT = "failed for good and left alone (resubmit=failed tries them again)"
    REFUSED = "refused"


class Telling:
    """Counts as it tells.

    Args:
        total: how many runs are asked for.
    """

    def __init__(self, total: int) -> None:
        self._total = total
        self._counts: Counter[Outcome] = Counter()

    def tell(self, outcome: Outcome, line: str | None, *, is_error: bool = False) -> None:
        """Count a run, and say its line unless there are many like it."""
        self._counts[outcome] += 1
        count = self._counts[outcome]
        if line is None:
            return
        stream = sys.stderr if is_error else sys.stdout
        if self._total <= _FEW or count <= _FIRST:
            print(line, file=stream, flush=True)
        elif count == _FIRST + 1:
            print(f"... and more that are {outcome.value}; the last line counts them", file=stream, flush=True)

    def summary(self) -> str:
        """All outcomes that there were."""
        return f"{self._total} runs: " + ", ".join(
            f"{self._counts[it]} {it.value}" for it in Outcome if self._counts[it]
        )
