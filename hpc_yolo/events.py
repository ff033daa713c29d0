"""Owns the ledger of an attempt: one JSON object a line, appended whole. Knows no policy.

The events of all attempts are the truth that `status` is told from. Times are seconds since the epoch.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from pathlib import Path
from typing import Any

from hpc_yolo.small_files import read_file


class Kind(str, Enum):
    """What can happen to an attempt. The fields that go with each kind stand beside it."""

    ATTEMPT_STARTED = "attempt_started"  # attempt, role (supervisor | worker), pid, host, job_id, restart_count
    WORKER_STARTED = "worker_started"  # pid, host, ranks: how many train together
    RESUMED = "resumed"  # step, epoch, batch, phase, snapshot (file name, or null for a start from nothing), read_s
    TRAINING_STARTED = "training_started"  # step: the first batch of the attempt is done; its start-up is over
    INEXACT = "inexact"  # from_step, differences: list of "what: before -> now"
    EPOCH_ENDED = "epoch_ended"  # epoch (0-based), step, metrics: {name: value}, fitness
    SNAPSHOT_COMMITTED = "snapshot_committed"  # file, step, bytes, seconds, stall_s, cause (epoch|interval|stop|done)
    SNAPSHOT_QUARANTINED = "snapshot_quarantined"  # file, why
    SNAPSHOTS_GONE = "snapshots_gone"  # step: what earlier attempts had saved up to there is not to be found
    SNAPSHOTS_EXPIRED = (
        "snapshots_expired"  # files, bytes, ttl_h: after the end; in the ledger of the attempt that finished
    )
    INTERVAL_CHOSEN = "interval_chosen"  # seconds, why: what snapshot.every_s=auto comes to
    STORAGE_FAILED = "storage_failed"  # error, since: training goes on, and it is tried again
    STORAGE_RECOVERED = "storage_recovered"
    RANKS_MET = "ranks_met"  # hosts: of each rank, in their order
    RANK_LOST = "rank_lost"  # rank, exit_code: of the process whose end has ended the others
    HUNG = "hung"  # phase, step, seconds, bound_s: the worker got no further, and is killed for it
    STOP_REQUESTED = "stop_requested"  # signal, by (supervisor | worker)
    STOP_EXPLAINED = "stop_explained"  # reason (a StopReason), grace_s (left then, or null), said (in words)
    STOPPED = "stopped"  # step: the worker has saved its state and leaves
    FINISHED = "finished"  # step, metrics: the worker has completed the run
    FAILED = "failed"  # error (one line), exit_code, exception (its type), images (of the batch, if any): the worker gives up
    ATTEMPT_ENDED = (
        # outcome (done | a StopReason), exit_code, next (done|restart|requeue|stop|hold|fail), why;
        # of a failure that was recognised its cause, and by what; history: what the attempts before say of it
        "attempt_ended"
    )
    HANDED_BACK = (
        "handed_back"  # how (requeued | gone | refused | left), said, seconds: after the end, to the scheduler
    )
    SUBMITTED = (
        "submitted"  # job_id, folder, user, beside (ids of runs that share it): in a run's own ledger, as the next ones
    )
    REFUSED = "refused"  # why: it could not be submitted
    RELEASED = "released"  # job_id, reason (Slurm's, for holding it), by (a sibling's id, or status)
    WITHDRAWN = "withdrawn"  # job_id, why, exit_code: by a person (null), or a job that others share has ended it


@dataclass(frozen=True, slots=True)
class Event:
    time: float
    kind: Kind
    fields: dict[str, Any]

    @property
    def step(self) -> int:
        """0 where it tells of none."""
        return int(self.fields.get("step") or 0)


#: What a long training tells of again and again.
OFTEN = frozenset({Kind.EPOCH_ENDED, Kind.SNAPSHOT_COMMITTED})


class Events(Sequence[Event]):
    """All events of one ledger, oldest first; of what a long training has hundreds of, no more is read than is asked for.

    Args:
        text: the ledger. A line that a kill cut short, and kinds that a later release added, are passed over.
    """

    def __init__(self, text: str) -> None:
        self._text = text if _is_whole(text) else None
        lines = text.splitlines()
        self._held: list[Event | str | None]
        """Each line as it is, until it is read; None where it tells nothing."""
        if self._text is None:
            self._held = [_read(line) for line in lines]
        else:
            self._held = [line if _EPOCH in line or _SAVED in line else _read(line) for line in lines]
        self.rare = tuple(it for it in self._held if isinstance(it, Event) and it.kind not in OFTEN)
        """Without those of OFTEN."""

    def last(self, *kinds: Kind) -> Event | None:
        """The newest event of these kinds."""
        events = self.rare if OFTEN.isdisjoint(kinds) else self
        return next((event for event in reversed(events) if event.kind in kinds), None)

    def first(self, kind: Kind) -> Event | None:
        return next((event for event in (self if kind in OFTEN else self.rare) if event.kind is kind), None)

    @cached_property
    def every(self) -> tuple[Event, ...]:
        return tuple(reversed([*reversed(self)]))

    @cached_property
    def last_step(self) -> int:
        """The last optimizer step that is told of; what was lost counts for nothing."""
        if self._text is None or any(it.kind is Kind.SNAPSHOTS_GONE for it in self.rare):
            return max((it.step for it in self if it.kind is not Kind.SNAPSHOTS_GONE), default=0)
        return max(map(int, _STEP.findall(self._text)), default=0)

    @property
    def slowest_save_s(self) -> float:
        """How long the slowest snapshot took to be written."""
        return max((seconds for seconds, _ in self._saves), default=0.0)

    @property
    def stalled_s(self) -> float:
        """How long the training has paused for snapshots."""
        return sum(stall_s for _, stall_s in self._saves)

    @cached_property
    def _saves(self) -> list[tuple[float, float]]:
        """How long each snapshot took to be written, and the training paused for it."""
        told = [] if self._text is None else _SAVE.findall(self._text)
        if self._text is not None and len(told) == self._text.count(_SAVED):
            return [(float(seconds), float(stall_s)) for seconds, stall_s in told]
        saves = (it.fields for it in self if it.kind is Kind.SNAPSHOT_COMMITTED)
        return [(float(it.get("seconds") or 0), float(it.get("stall_s") or 0)) for it in saves]

    def __getitem__(self, index: Any) -> Any:
        return self.every[index]

    def __len__(self) -> int:
        return len(self.every)

    def __iter__(self) -> Iterator[Event]:
        return iter(self.every)

    def __reversed__(self) -> Iterator[Event]:
        """From the end on, and no further than is asked for."""
        for number in reversed(range(len(self._held))):
            held = self._held[number]
            event = self._held[number] = _read(held) if isinstance(held, str) else held
            if event is not None:
                yield event


class Ledger:
    """Appends events to one file. Safe in a signal handler's way: no lock, one `os.write` an event."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.path = path
        self._clock = clock

    def append(self, kind: Kind, **fields: Any) -> None:
        self.write(self.line(kind, **fields))

    def line(self, kind: Kind, **fields: Any) -> bytes:
        """The event as it is appended, with the time of now."""
        return (json.dumps({"t": round(self._clock(), 3), "kind": kind.value, **fields}, default=str) + "\n").encode()

    def write(self, line: bytes) -> None:
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(fd, line)
        finally:
            os.close(fd)


def read_events(path: Path) -> Events:
    """The events of one attempt; none where there is no ledger, or another thing of its name."""
    try:
        return Events(read_file(path).decode(errors="replace"))
    except (FileNotFoundError, IsADirectoryError):
        return Events("")


def _is_whole(text: str) -> bool:
    """Whether each line is one event's: none was cut short, none has run into another."""
    lines = text.count("\n")
    return (
        text.count("}\n") == lines
        and text.count(_BEGIN) == lines
        and text.startswith(_BEGIN)
        and text.count(f"\n{_BEGIN}") == lines - 1
        and text.endswith("\n")
        and "\0" not in text
    )


def _read(line: str) -> Event | None:
    try:
        fields = json.loads(line)
        return Event(float(fields.pop("t")), _KINDS[fields.pop("kind")], fields)
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


_KINDS = {kind.value: kind for kind in Kind}
_BEGIN = '{"t": '
_EPOCH, _SAVED = (f'"kind": "{kind.value}"' for kind in (Kind.EPOCH_ENDED, Kind.SNAPSHOT_COMMITTED))
_SAVE = re.compile(r'"seconds": ([\d.e+-]+), "stall_s": ([\d.e+-]+)')
_STEP = re.compile(r'"step": (\d+)')
