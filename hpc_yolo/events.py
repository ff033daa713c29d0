"""Owns the ledger of an attempt: one JSON object a line, appended whole. Knows no policy.

The events of all attempts are the truth that `status` is told from. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any


class Kind(str, Enum):
    """What can happen to an attempt. The fields that go with each kind stand beside it."""

    ATTEMPT_STARTED = "attempt_started"  # attempt, role (supervisor | worker), pid, host, job_id, restart_count
    WORKER_STARTED = "worker_started"  # pid, host
    RESUMED = "resumed"  # step, epoch, batch, phase, snapshot (file name, or null for a start from nothing)
    INEXACT = "inexact"  # from_step, differences: list of "what: before -> now"
    EPOCH_ENDED = "epoch_ended"  # epoch (0-based), step, metrics: {name: value}, fitness
    SNAPSHOT_COMMITTED = "snapshot_committed"  # file, step, bytes, seconds, stall_s, cause (epoch|interval|stop|done)
    SNAPSHOT_QUARANTINED = "snapshot_quarantined"  # file, why
    SNAPSHOTS_GONE = "snapshots_gone"  # step: what earlier attempts had saved up to there is not to be found
    INTERVAL_CHOSEN = "interval_chosen"  # seconds, why: what snapshot.every_s=auto comes to
    STORAGE_FAILED = "storage_failed"  # error, since: training goes on, and it is tried again
    STORAGE_RECOVERED = "storage_recovered"
    STOP_REQUESTED = "stop_requested"  # signal, by (supervisor | worker)
    STOP_EXPLAINED = "stop_explained"  # reason (a StopReason), grace_s (left then, or null), said (in words)
    STOPPED = "stopped"  # step: the worker has saved its state and leaves
    FINISHED = "finished"  # step, metrics: the worker has completed the run
    FAILED = "failed"  # error (one line), exit_code: the worker gives up
    ATTEMPT_ENDED = (
        "attempt_ended"  # outcome (done | a StopReason), exit_code, next (done|restart|requeue|stop|fail), why
    )
    HANDED_BACK = "handed_back"  # how (requeued | gone | refused), said, seconds: after the end, to the scheduler
    SUBMITTED = "submitted"  # job_id, folder, user: in a run's own ledger, as the next one
    REFUSED = "refused"  # why: it could not be submitted
    WITHDRAWN = "withdrawn"  # job_id, why: cancelled or replaced by a person


@dataclass(frozen=True, slots=True)
class Event:
    time: float
    kind: Kind
    fields: dict[str, Any]


class Ledger:
    """Appends events to one file. Safe in a signal handler's way: no lock, one `os.write` an event."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock

    def append(self, kind: Kind, **fields: Any) -> None:
        line = json.dumps({"t": round(self._clock(), 3), "kind": kind.value, **fields}, default=str) + "\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)


def read_events(path: Path) -> Iterator[Event]:
    """Yield the events of one attempt, oldest first.

    A line that a kill cut short, and kinds that a later release added, are passed over.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return
    for line in text.splitlines():
        try:
            fields = json.loads(line)
            yield Event(float(fields.pop("t")), Kind(fields.pop("kind")), fields)
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
