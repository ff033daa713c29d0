"""Owns the heartbeat file: where an attempt stands, rewritten in place at every step, and whether its worker lives.

The record is one line of JSON, padded to a fixed length and written with a single `pwrite`. It survives a SIGKILL of the
worker (the page cache does), so the last step of a killed attempt is known to the step.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from hpc_yolo.processes import boot_id, node_name, process_start
from hpc_yolo.small_files import read_file

RECORD_BYTES = 1024
#: A heartbeat older than this, from another machine, is taken for a dead worker (seconds).
STALE_AFTER_S = 60.0

#: A storage that takes longer to answer, and so a heartbeat that is older while its worker lives, is a trouble (seconds).
SILENT_AFTER_S = 20.0


@dataclass(kw_only=True, slots=True)
class Beat:
    """One record. `step` counts optimizer steps done, `batch` loader items done in this epoch; epochs count from 0."""

    pid: int = 0
    started: int = 0  # the process's start time in clock ticks since boot: tells a reused pid apart
    host: str = ""
    boot: str = ""
    time: float = 0.0
    phase: str = "start"
    step: int = 0
    steps_total: int | None = None
    epoch: int = 0
    epochs: int | None = None
    batch: int = 0
    batches: int | None = None
    loss: float | None = None
    metric: float | None = None
    eta_s: float | None = None
    trouble: str | None = None  # what the storage answers, while it takes nothing
    trouble_since: float | None = None


_FIELDS = frozenset(it.name for it in fields(Beat))


class Heart:
    """Writes one attempt's heartbeat. `beat` costs a few microseconds; it is called at every step."""

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self.record = Beat(pid=os.getpid(), started=process_start(os.getpid()) or 0, host=node_name(), boot=boot_id())
        self._clock = clock
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT, 0o644)
        self.beat()

    def beat(self) -> None:
        self.write(self.record)

    def write(self, record: Beat) -> None:
        record.time = round(self._clock(), 3)
        line = json.dumps(asdict(record))
        os.pwrite(self._fd, line.encode().ljust(RECORD_BYTES - 1) + b"\n", 0)

    def close(self) -> None:
        os.close(self._fd)


def read_beat(path: Path) -> Beat | None:
    """The last record, or None where there is none (yet)."""
    try:
        values = json.loads(read_file(path))
    except (OSError, ValueError):
        return None
    if values.keys() <= _FIELDS:
        return Beat(**values)
    return Beat(**{k: v for k, v in values.items() if k in _FIELDS})  # of a later release


def is_alive(beat: Beat, now: float | None = None) -> bool:
    """Whether the worker behind `beat` still runs.

    On this machine the process itself is asked; of another machine only the age of the beat is known.
    """
    if beat.boot == boot_id():
        return process_start(beat.pid) == beat.started
    return (time.time() if now is None else now) - beat.time < STALE_AFTER_S
