"""Owns what the worker keeps ready for the training loop: stop request, ledger, heart, snapshots, weights files, fence.

The trainer tells it where it stands and what it has made; it decides what is written when, and when training must be left.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from hpc_yolo.attempts import is_newest
from hpc_yolo.errors import StorageError, SupersededError
from hpc_yolo.events import Kind
from hpc_yolo.exact.failures import superseded
from hpc_yolo.exact.journal import Journal
from hpc_yolo.exact.stop import StopRequest
from hpc_yolo.exact.watch import StorageWatch
from hpc_yolo.heartbeat import SILENT_AFTER_S
from hpc_yolo.rundir import AttemptDir, RunDir
from hpc_yolo.snapshot.buffers import StateBuffer
from hpc_yolo.snapshot.format import Position, Snapshot
from hpc_yolo.snapshot.retention import Kept, Series
from hpc_yolo.snapshot.schedule import Interval
from hpc_yolo.snapshot.store import SnapshotStore
from hpc_yolo.snapshot.writer import BackgroundWriter
from hpc_yolo.staging import Stage
from hpc_yolo.types import Phase

_PULSE_S = 2.0
#: How long the end of a run waits for a storage that fails; a stop waits as long as its grace period allows.
_PATIENCE_S = 600.0
_SNAPSHOT = "snapshot"
#: So many looks in a row find no run directory: then it was removed, and no mount is only on its way back.
_MISSES = 3


@dataclass(kw_only=True)
class Session:
    """One attempt's side of the training. Made by the worker, used by the trainer."""

    run: RunDir
    attempt: AttemptDir
    config_hash: str
    stop: StopRequest
    journal: Journal
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
    silent_after_s: float = SILENT_AFTER_S
    """How long the storage may take to answer before that is told as a trouble."""
    kept: Kept = field(default_factory=Kept)
    _superseded: bool = False
    _missed: int = 0
    _stages: dict[Path, Stage] = field(default_factory=dict)
    _watch: StorageWatch = field(init=False)
    _writer: BackgroundWriter = field(init=False)
    _free: list[StateBuffer] = field(default_factory=list)
    _last: _Write | None = None
    _began_at: Position | None = None
    _has_moved: bool = False

    def __post_init__(self) -> None:
        self._watch = StorageWatch(self.journal, self.run.path, self.silent_after_s)
        self._writer = self._watch.writer
        if self.resumed is not None:
            found = self.resumed.plain.get("kept", {})
            self.kept = Kept(found.get("best"), list(found.get("series", ())))

    def open(self) -> None:
        """Make the stages, while this attempt is surely the newest.

        Raises:
            SupersededError: it is not.
        """
        for folder in (self.run.path, self.run.weights_dir, self.store.folder):
            self.stage(folder).open()

    def start_pulse(self) -> None:
        """Notice a storage that does not answer, and a newer attempt: two threads, for the second asks the storage."""
        for task in (self._watch.look, self._look):
            threading.Thread(target=_repeat, args=(task,), name="pulse", daemon=True).start()

    def note_position(self, position: Position, *, loss: float | None = None, metric: float | None = None) -> None:
        self._tell_first_move(position)
        record = self.journal.record
        record.step, record.epoch, record.batch = position.step, position.epoch, position.batch
        record.phase = position.phase.value
        record.loss = loss if loss is not None else record.loss
        record.metric = metric if metric is not None else record.metric
        self.journal.beat()

    def _tell_first_move(self, position: Position) -> None:
        """Training is under way once it stands elsewhere than where it began."""
        self._began_at = self._began_at or position
        if not self._has_moved and position != self._began_at:
            self._has_moved = True
            self.tell(Kind.TRAINING_STARTED, step=position.step)

    def tell(self, kind: Kind, **fields: Any) -> None:
        self.journal.tell(kind, **fields)

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def save(self, position: Position, tensors: dict[str, Tensor], plain: dict[str, Any], cause: str) -> None:
        """Copy the state and hand it to the writer; the training waits for the copy only.

        Args:
            cause: epoch, interval, stop or done.
        """
        began = time.monotonic()
        replaced = self._writer.withdraw(_SNAPSHOT)
        buffer = replaced.buffer if isinstance(replaced, _Write) else self._free.pop() if self._free else StateBuffer()
        self._keep_series(position)
        snapshot = Snapshot(
            position=position,
            config_hash=self.config_hash,
            tensors=buffer.fill(tensors),
            plain={**plain, "kept": {"best": self.kept.best, "series": list(self.kept.series)}},
            form=buffer.form,
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
            with self._noting_the_fence():
                self.stage(path.parent).write(path, content)

        self._writer.submit(str(path), write)

    def stage(self, folder: Path) -> Stage:
        """Through which this attempt replaces files of that folder."""
        return self._stages.setdefault(folder, Stage(folder, self.attempt.number, self._is_newest))

    def close(self) -> None:
        """Everything has been published."""
        for stage in self._stages.values():
            stage.close()

    def settle(self, within_s: float | None = None) -> None:
        """Wait until everything that was saved is durable: for a stop as long as its grace period allows.

        Args:
            within_s: how long at most; then it comes back without an error.

        Raises:
            SupersededError
            StorageError: the run directory was removed; or the storage fails, and the state was saved to the fallback, where
                there is one.
        """
        began = time.monotonic()

        def until() -> float:
            if within_s is None:
                self.check_fence()  # where the run is gone, or somebody else's, nothing will ever be written
            patience_s = self.stop_patience_s if self.stop.is_set else _PATIENCE_S
            return began + (patience_s if within_s is None else within_s)

        if self._writer.settle(until) or within_s is not None:
            self._watch.look()
            self.check_fence()
            return
        trouble = self._writer.trouble
        reason = f"{trouble.error.strerror}" if trouble else "its storage does not answer"
        saved = self._fall_back()
        raise StorageError(
            f"cannot write {self.run.path}: {reason}. {saved}Check space, quota and permissions, then run it again."
        )

    def _keep_series(self, position: Position) -> None:
        """All batches of the epoch are done; a stop may have come with the last of them."""
        is_end = position.phase is Phase.VALIDATE and position.step not in self.kept.series
        if is_end and self.series is not None and position.epoch + 1 in self.series:
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
        return f"The state is at {path}, on {self.journal.record.host}: the next attempt there finds it. "

    # --- fence -------------------------------------------------------------------------------------------------------

    def check_fence(self) -> None:
        """Stop a worker that a newer attempt has taken over from, as far as pulse and writer know; costs nothing.

        Raises:
            SupersededError
            StorageError: the run directory was removed: nothing that is trained from here on could be kept.
        """
        if self._missed >= _MISSES:
            raise StorageError(f"{self.run.path} was removed while it was trained. Submit it again: it starts anew.")
        if self._superseded:
            raise superseded(self.run, self.attempt)

    def check_fence_now(self) -> None:
        """Ask the storage; see `check_fence`."""
        self._look()
        self.check_fence()

    def _look(self) -> None:
        try:
            self._superseded = self._superseded or not self._is_newest()
            self.attempt.path.stat()
            self._missed = 0
        except FileNotFoundError:
            self._missed += 1
        except OSError:
            pass  # the storage hiccups: a write that matters looks again

    def _is_newest(self) -> bool:
        return is_newest(self.run, self.attempt)

    @contextmanager
    def _noting_the_fence(self) -> Iterator[None]:
        """What the writer finds out, the training hears of at its next look."""
        try:
            yield
        except SupersededError:
            self._superseded = True

    def _commit(self, write: _Write, is_wanted: Any) -> None:
        began = time.monotonic()
        write.buffer.wait()
        path = self.store.commit(
            write.snapshot,
            self.attempt.number,
            stage=self.stage(self.store.folder),
            is_wanted=is_wanted,
            kept=write.kept,
        )
        seconds = time.monotonic() - began
        self.tell(
            Kind.SNAPSHOT_COMMITTED,
            file=path.name,
            step=write.snapshot.position.step,
            bytes=self.store.committed_bytes,
            seconds=round(seconds, 3),
            stall_s=round(write.stall_s, 5),
            cause=write.cause,
        )
        self.interval.learn(write.stall_s, seconds)

    def _release(self, buffer: StateBuffer) -> None:
        self._free.append(buffer)


def _repeat(task: Callable[[], None]) -> None:
    while True:
        time.sleep(_PULSE_S)
        task()


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
            with self.session._noting_the_fence():
                self.session._commit(self, is_wanted)
        except OSError:
            raise  # it is tried again
        except BaseException:
            self.session._release(self.buffer)
            raise
        self.session._release(self.buffer)
