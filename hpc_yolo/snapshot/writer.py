"""Owns the thread that writes snapshots behind the training's back: one at a time, in order, errors told to the caller."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor

from hpc_yolo.snapshot.format import Snapshot


class BackgroundWriter:
    """Runs `commit` in one thread. The training loop pays for copying the state, not for the storage.

    An error of a write is raised by the next call: a snapshot that could not be written is never passed over in silence.
    """

    def __init__(self, commit: Callable[[Snapshot, str], None]) -> None:
        self._commit = commit
        self._pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="snapshot-writer")
        self._pending: Future[None] | None = None

    def submit(self, snapshot: Snapshot, cause: str) -> None:
        """Hand over a snapshot whose tensors nobody else writes to; waits for the one before."""
        self.drain()
        self._pending = self._pool.submit(self._commit, snapshot, cause)

    def drain(self) -> None:
        """Wait until everything handed over is durable.

        Raises:
            whatever the write raised (OSError, SupersededError).
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()
