"""Owns what the worker keeps ready for the training loop: stop request, ledger, heart, snapshots, weights files, fence.

The trainer tells it where it stands and what it has made; it decides what is written when, and when training must be left.
"""

from __future__ import annotations

import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hpc_yolo.attempts import is_newest
from hpc_yolo.errors import StorageError, SupersededError
from hpc_yolo.events import Kind, Ledger
from hpc_yolo.exact.stop import StopRequest
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import AttemptDir, RunDir, atomic_file
from hpc_yolo.snapshot.buffers import StateBuffer
from hpc_yolo.snapshot.format import Position, Snapshot
from hpc_yolo.snapshot.retention import Kept, Series
from hpc_yolo.snapshot.schedule import Advised, Interval
from hpc_yolo.snapshot.store import SnapshotStore
from hpc_yolo.snapshot.writer import BackgroundWriter, Trouble

_PULSE_S = 2.0
#: How long the end of a run waits for a storage that fails; a stop waits as long as its grace period allows.
_PATIENCE_S = 600.0
_SNAPSHOT = "snapshot"


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
    fallback: SnapshotStore | None = None
    """Where a stop saves to while the run's own storage fails; on the node."""
    series: Series | None = None
    keeps_best: bool = True
    stop_patience_s: float = 30.0
    """How long a stop may wait for the run's own storage."""
    kept: Kept = field(default_factory=Kept)
    _superseded: bool = False
    _writer: BackgroundWriter = field(init=False)
    _free: list[StateBuffer] = field(default_factory=list)
    _last: _Write | None = None
    _unsaid: list[tuple[Kind, dict[str, Any]]] = field(default_factory=list)
    _telling: threading.Lock = field(default_factory=threading.Lock)  # the trainer and the writer both tell

    def __post_init__(self) -> None:
        self._writer = BackgroundWriter(self._tell_trouble)
        if self.resumed is not None:
            found = self.resumed.plain.get("kept", {})
            self.kept = Kept(found.get("best"), list(found.get("series", ())))

    def start_pulse(self) -> None:
        """Beat also where no step ends (start-up, validation), and notice a newer attempt."""
        threading.Thread(target=self._pulse, name="pulse", daemon=True).start()

    def note_position(self, position: Position, *, loss: float | None = None, metric: float | None = None) -> None:
        record = self.heart.record
        record.step, record.epoch, record.batch = position.step, position.epoch, position.batch
        record.phase = position.phase.value
        record.loss = loss if loss is not None else record.loss
        record.metric = metric if metric is not None else record.metric
        with suppress(OSError):  # of a storage that fails the writer tells
            self.heart.beat()

    def tell(self, kind: Kind, **fields: Any) -> None:
        """Append an event. While the storage fails it is kept, and appended in its order later."""
        with self._telling, suppress(OSError):
            self._unsaid.append((kind, fields))
            while self._unsaid:
                self.ledger.append(self._unsaid[0][0], **self._unsaid[0][1])
                self._unsaid.pop(0)

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def save(self, position: Position, tensors: dict[str, Tensor], plain: dict[str, Any], cause: str) -> None:
        """Copy the state and hand it to the writer; the training waits for the copy only.

        Args:
            cause: epoch, interval, stop or done.
        """
        began = time.monotonic()
        replaced = self._writer.withdraw(_SNAPSHOT)
        buffer = replaced.buffer if isinstance(replaced, _Write) else self._free.pop() if self._free else StateBuffer()
        self._keep_series(position, cause)
        snapshot = Snapshot(
            position=position,
            config_hash=self.config_hash,
            tensors=buffer.fill(tensors),
            plain={**plain, "kept": {"best": self.kept.best, "series": list(self.kept.series)}},
        )
        stall_s = time.monotonic() - began
        self._last = _Write(self, snapshot, buffer, cause, frozenset(self.kept.steps()), stall_s)
        self._writer.submit(_SNAPSHOT, self._last, is_urgent=cause == "stop")
        self.interval.restart(position.step)

    def note_best(self, step: int) -> None:
        """The state at the end of this epoch is the best so far; its snapshot stays."""
        self.kept.best = step

    def publish(self, path: Path, content: bytes) -> None:
        """Have a file outside this attempt's own folder replaced in one step, before any later snapshot is committed."""
        self.check_fence()

        def write(_is_wanted: object) -> None:
            if self._is_newest():
                with atomic_file(path) as temporary:
                    temporary.write_bytes(content)
            else:
                self._superseded = True

        self._writer.submit(str(path), write)

    def settle(self, within_s: float | None = None) -> None:
        """Wait until everything that was saved is durable: for a stop as long as its grace period allows.

        Args:
            within_s: how long at most; then it comes back without an error.

        Raises:
            StorageError: the storage fails. For a stop the state was saved to the fallback, where there is one.
        """
        began = time.monotonic()

        def until() -> float:
            patience_s = self.stop_patience_s if self.stop.is_set else _PATIENCE_S
            return began + (patience_s if within_s is None else within_s)

        if self._writer.settle(until) or within_s is not None:
            self.check_fence()
            return
        trouble = self._writer.trouble
        reason = f"{trouble.error.strerror}" if trouble else "its storage does not answer"
        saved = self._fall_back() if self.stop.is_set else ""
        raise StorageError(
            f"cannot write {self.run.path}: {reason}. {saved}Check space, quota and permissions, then run it again."
        )

    def _keep_series(self, position: Position, cause: str) -> None:
        if cause == "epoch" and self.series is not None and position.epoch + 1 in self.series:
            self.kept.series.append(position.step)

    def _fall_back(self) -> str:
        """Save the newest state to the node's own storage; returns what to say of it."""
        if self.fallback is None or self._last is None:
            return ""
        try:
            self._last.buffer.wait()
            path = self.fallback.commit(self._last.snapshot, self.attempt.number)
        except OSError as error:
            return f"Saving to {self.fallback.folder} failed, too ({error.strerror}). "
        return f"The state is at {path}, on {self.heart.record.host}: the next attempt there finds it. "

    # --- fence -------------------------------------------------------------------------------------------------------

    def check_fence(self) -> None:
        """Stop a worker that a newer attempt has taken over from, as far as pulse and writer know; costs nothing.

        Raises:
            SupersededError
        """
        if self._superseded:
            raise SupersededError(
                f"attempt {self.attempt.number} of {self.run.path} was superseded by a newer one; nothing to do."
            )

    def check_fence_now(self) -> None:
        """Ask the storage; see `check_fence`."""
        with suppress(OSError):
            self._superseded = self._superseded or not self._is_newest()
        self.check_fence()

    def _is_newest(self) -> bool:
        return is_newest(self.run, self.attempt)

    def _commit(self, write: _Write, is_wanted: Any) -> None:
        began = time.monotonic()
        write.buffer.wait()
        path = self.store.commit(
            write.snapshot,
            self.attempt.number,
            may_publish=self._is_newest,
            is_wanted=is_wanted,
            kept=write.kept,
        )
        if path is None:
            self._superseded = True
            return
        seconds = time.monotonic() - began
        self.tell(
            Kind.SNAPSHOT_COMMITTED,
            file=path.name,
            step=write.snapshot.position.step,
            bytes=path.stat().st_size,
            seconds=round(seconds, 3),
            stall_s=round(write.stall_s, 5),
            cause=write.cause,
        )
        if isinstance(self.interval, Advised):
            self.interval.learn(write.stall_s, seconds)

    def _release(self, buffer: StateBuffer) -> None:
        self._free.append(buffer)

    def _tell_trouble(self, trouble: Trouble | None) -> None:
        record = self.heart.record
        if trouble is None:
            record.trouble, record.trouble_since = None, None
            self.tell(Kind.STORAGE_RECOVERED)
            print("hpc-yolo: the storage works again", file=sys.stderr, flush=True)
            return
        said = f"{trouble.error.filename or self.run.path}: {trouble.error.strerror}"
        record.trouble, record.trouble_since = said[:200], round(trouble.since, 3)
        self.tell(Kind.STORAGE_FAILED, error=said, since=round(trouble.since, 3))
        print(f"hpc-yolo: {said}; training goes on and tries again", file=sys.stderr, flush=True)

    def _pulse(self) -> None:
        while True:
            time.sleep(_PULSE_S)
            with suppress(OSError):  # the storage hiccups: the next beat tells; a write that matters tries again
                self.heart.beat()
                self._superseded = self._superseded or not self._is_newest()


@dataclass(frozen=True, slots=True)
class _Write:
    """One state on its way to the storage. Its buffer is free again once it is written or not wanted any more."""

    session: Session
    snapshot: Snapshot
    buffer: StateBuffer
    cause: str
    kept: frozenset[int]
    stall_s: float

    def __call__(self, is_wanted: Any) -> None:
        try:
            self.session._commit(self, is_wanted)
        except OSError:
            raise  # it is tried again
        except BaseException:
            self.session._release(self.buffer)
            raise
        self.session._release(self.buffer)
