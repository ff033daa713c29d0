"""Owns what one attempt carries through the training: the stop request, the ledger, the heart, the snapshots, the fence.

The trainer tells it where it stands; it decides what is written and when the training must be left.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hpc_yolo.attempts import is_newest
from hpc_yolo.errors import SupersededError
from hpc_yolo.events import Kind, Ledger
from hpc_yolo.exact.stop import StopRequest
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.snapshot.format import Position, Snapshot
from hpc_yolo.snapshot.schedule import Interval
from hpc_yolo.snapshot.store import SnapshotStore
from hpc_yolo.snapshot.writer import BackgroundWriter

_PULSE_S = 2.0


@dataclass(kw_only=True)
class Session:
    """One attempt's side of the training. Made by the worker, used by the trainer."""

    run: RunDir
    attempt: AttemptDir
    config_hash: str
    stop: StopRequest
    ledger: Ledger
    heart: Heart
    store: SnapshotStore
    interval: Interval
    environment: dict[str, Any]
    resumed: Snapshot | None = None
    _superseded: bool = False
    _writer: BackgroundWriter = field(init=False)

    def __post_init__(self) -> None:
        self._writer = BackgroundWriter(self._commit)

    def start_pulse(self) -> None:
        """Beat also where no step ends (start-up, validation), and notice a newer attempt."""
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()

    def note_position(self, position: Position, *, loss: float | None = None, metric: float | None = None) -> None:
        record = self.heart.record
        record.step, record.epoch, record.batch = position.step, position.epoch, position.batch
        record.phase = position.phase.value
        record.loss = loss if loss is not None else record.loss
        record.metric = metric if metric is not None else record.metric
        self.heart.beat()

    def save(self, snapshot: Snapshot, cause: str) -> None:
        """Hand a snapshot to the writer. Cause: epoch, interval, stop or done."""
        self._writer.submit(snapshot, cause)
        self.interval.restart()

    def drain(self) -> None:
        """Wait until everything saved is durable."""
        self._writer.drain()

    def check_fence_now(self) -> None:
        """Ask the storage, as before every write outside this attempt's own folder; see `check_fence`."""
        self._superseded = self._superseded or not self._is_newest()
        self.check_fence()

    def check_fence(self) -> None:
        """Stop a worker that a newer attempt has taken over from, as far as the pulse knows; costs nothing.

        Raises:
            SupersededError
        """
        if self._superseded:
            raise SupersededError(
                f"attempt {self.attempt.number} of {self.run.path} was superseded by a newer one; nothing to do."
            )

    def _commit(self, snapshot: Snapshot, cause: str) -> None:
        began = time.monotonic()
        path = self.store.commit(snapshot, self.attempt.number, may_publish=self._is_newest)
        if path is None:
            self._superseded = True
            return
        self.ledger.append(
            Kind.SNAPSHOT_COMMITTED,
            file=path.name,
            step=snapshot.position.step,
            bytes=_size(path),
            seconds=round(time.monotonic() - began, 3),
            cause=cause,
        )

    def _is_newest(self) -> bool:
        return is_newest(self.run, self.attempt)

    def _pulse(self) -> None:
        while True:
            time.sleep(_PULSE_S)
            with suppress(OSError):  # the storage hiccups: the next beat tells; a write that matters raises by itself
                self.heart.beat()
                self._superseded = self._superseded or not self._is_newest()


def _size(path: Path) -> int:
    return path.stat().st_size
