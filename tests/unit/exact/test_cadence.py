"""The number of optimizer steps, computed ahead, is what ultralytics' rule gives."""

from __future__ import annotations

import numpy as np
import pytest

from hpc_yolo.exact.cadence import steps_in


def steps_by_the_loop(batches: int, warmup: int, nominal: int) -> int:
    """The rule as the trainer's loop has it, batch by batch."""
    steps, last, accumulate = 0, -1, nominal
    for ni in range(batches):
        if warmup and ni <= warmup:
            accumulate = max(1, int(np.interp(ni, [0, warmup], [1, nominal]).round()))
        if ni - last >= accumulate:
            steps, last = steps + 1, ni
    return steps


@pytest.mark.parametrize("nominal", [1, 2, 4, 16])
@pytest.mark.parametrize("warmup", [0, 1, 7, 100, 1000])
@pytest.mark.parametrize("batches", [1, 5, 99, 100, 101, 640])
def test_steps_are_those_of_the_loop(batches: int, warmup: int, nominal: int) -> None:
    assert steps_in(batches, warmup, nominal) == steps_by_the_loop(batches, warmup, nominal)
