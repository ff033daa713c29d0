"""Owns how fast a run goes, and how long its training still takes. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from hpc_yolo.report.history import AttemptHistory


def eta_s(attempt: AttemptHistory) -> float | None:
    """Seconds until the last step, at this attempt's own pace (validation included); None where that is unknown."""
    if attempt.beat is None or attempt.beat.steps_total is None:
        return None
    return time_left_s([attempt], attempt.beat.step, attempt.beat.steps_total)


def time_left_s(attempts: Sequence[AttemptHistory], step: int, steps_total: int | None) -> float | None:
    """Seconds of training that are left after `step`, at the pace of the newest attempt that has one; None: unknown."""
    pace = next((found for it in reversed(attempts) if (found := it.seconds_a_step) is not None), None)
    return None if pace is None or steps_total is None else max(0, steps_total - step) * pace
