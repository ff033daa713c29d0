"""Owns when the optimizer steps: ultralytics' accumulation rule, computed ahead. Pure."""

from __future__ import annotations

import numpy as np


def accumulation(ni: int, warmup: int, nominal: int) -> int:
    """How many batches make a step at batch `ni` of the run; it grows from 1 to `nominal` while warming up."""
    if warmup and ni <= warmup:
        return max(1, int(np.interp(ni, [0, warmup], [1, nominal]).round()))
    return nominal


def steps_in(batches: int, warmup: int, nominal: int) -> int:
    """Optimizer steps in the first `batches` batches of a run that nothing ends early."""
    steps, last = 0, -1
    head = min(batches, warmup + 1 if warmup else 0)
    for ni in range(head):
        if ni - last >= accumulation(ni, warmup, nominal):
            steps, last = steps + 1, ni
    return steps + (batches - 1 - last) // nominal if batches > head else steps
