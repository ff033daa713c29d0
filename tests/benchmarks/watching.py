"""Owns watching a run that is trained elsewhere: how far an attempt is, and waiting for what it does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from hpc_yolo.heartbeat import read_beat
from hpc_yolo.rundir import AttemptDir

_DEADLINE_S = 300.0
_LOOK_EVERY_S = 0.02


def step_of(attempt: AttemptDir) -> int:
    """Optimizer steps done, by its heartbeat."""
    beat = read_beat(attempt.heartbeat)
    return beat.step if beat else 0


def wait_for(condition: Callable[[], Any], what: str) -> Any:
    """The first value of `condition` that is true.

    Raises:
        SystemExit: there was none within five minutes.
    """
    until = time.monotonic() + _DEADLINE_S
    while not (value := condition()):
        if time.monotonic() > until:
            raise SystemExit(f"waited {_DEADLINE_S:.0f} s for {what}")
        time.sleep(_LOOK_EVERY_S)
    return value
