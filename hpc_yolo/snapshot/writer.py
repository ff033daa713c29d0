"""Owns the thread that brings things to the storage behind the training's back: in order, the newest of each kind wins.

Storage that fails is no reason to stop training: what could not be written stays first in line and is tried again, until a
newer one of its kind takes its place. Whoever needs to know asks `trouble`, or waits with `settle`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from hpc_yolo.snapshot.format import AbandonedError

#: Called with a function that tells whether what it does is still wanted.
Job = Callable[[Callable[[], bool]], None]

_RETRY_S = (0.5, 1.0, 2.0, 5.0, 10.0, 30.0)


@dataclass(frozen=True, slots=True)
class Trouble:
    """The storage has not taken what it was given since `since` (seconds since the epoch)."""

    since: float
    error: OSError


@dataclass(eq=False, slots=True)
class _Queued:
    key: str
    run: Job


class BackgroundWriter:
    """One daemon thread: a storage that hangs must not keep the process from its end.

    Args:
        on_trouble: called in that thread when the storage begins to fail, and with None when it works again.
    """

    def __init__(self, on_trouble: Callable[[Trouble | None], None] = lambda _trouble: None) -> None:
        self.trouble: Trouble | None = None
        self._on_trouble = on_trouble
        self._changed = threading.Condition()
        self._jobs: list[_Queued] = []
        self._busy: _Queued | None = None
        self._is_urgent = False
        self._alive_at = 0.0
        self._failure: BaseException | None = None  # no matter of storage: the training must hear of it
        self._thread: threading.Thread | None = None

    @property
    def silent_since(self) -> float | None:
        """When (seconds since the epoch) the job at work gave its last sign of life; None while there is none."""
        return None if self._busy is None else self._alive_at

    def submit(self, key: str, run: Job, *, is_urgent: bool = False) -> None:
        """Queue a job. One of the same key that has not begun is dropped; an urgent one also ends the one at work.

        Raises:
            whatever a job raised before, but for OSError.
        """
        with self._changed:
            self._raise_failure()
            self._jobs = [job for job in self._jobs if job.key != key]
            self._jobs.append(_Queued(key, run))
            self._is_urgent = self._is_urgent or is_urgent
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="snapshot-writer", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def withdraw(self, key: str) -> Job | None:
        """Take back the job of this kind that has not begun; None where there is none."""
        with self._changed:
            found = [job for job in self._jobs if job.key == key]
            self._jobs = [job for job in self._jobs if job.key != key]
            return found[0].run if found else None

    def settle(self, until: Callable[[], float]) -> bool:
        """Wait until everything is written; returns whether it was by the time (on `time.monotonic`) that `until` says.

        Raises:
            whatever a job raised, but for OSError.
        """
        with self._changed:
            self._is_urgent = True
            self._changed.notify_all()
            try:
                return self._wait_for_all(until)
            finally:  # else every later write would be given up for the one after it
                self._is_urgent = False

    def _wait_for_all(self, until: Callable[[], float]) -> bool:
        while self._jobs or self._busy:
            self._raise_failure()
            left = until() - time.monotonic()
            if left <= 0:
                return False
            self._changed.wait(min(left, 0.2))
        self._raise_failure()
        return True

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _work(self) -> None:
        tries = 0
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._jobs))
                self._alive_at = time.time()
                job = self._busy = self._jobs.pop(0)
            try:
                job.run(lambda job=job: self._is_wanted(job))  # type: ignore[misc]
            except AbandonedError:
                pass
            except OSError as error:
                tries += 1
                self._note(error)
                self._wait_to_retry(job, _RETRY_S[min(tries, len(_RETRY_S)) - 1])
                continue
            except BaseException as error:  # noqa: BLE001 (the thread's boundary: told to the training by the next call)
                self._end(error)
                return
            tries = 0
            self._note(None)
            self._end(None)

    def _is_wanted(self, job: _Queued) -> bool:
        """Not once something newer of its kind waits and somebody waits for that."""
        with self._changed:
            self._alive_at = time.time()
            return not (self._is_urgent and any(other.key == job.key for other in self._jobs))

    def _wait_to_retry(self, job: _Queued, seconds: float) -> None:
        with self._changed:
            self._busy = None
            if not any(other.key == job.key for other in self._jobs):
                self._jobs.insert(0, job)
            if not self._is_urgent:
                self._changed.wait_for(lambda: self._is_urgent, timeout=seconds)
                return
        time.sleep(min(seconds, _RETRY_S[0]))

    def _note(self, error: OSError | None) -> None:
        before = self.trouble
        if error is None:
            self.trouble = None
        else:
            self.trouble = Trouble(before.since if before else time.time(), error)
        if (before is None) != (self.trouble is None):
            self._on_trouble(self.trouble)

    def _end(self, failure: BaseException | None) -> None:
        with self._changed:
            self._busy = None
            self._failure = failure
            if failure is not None:
                self._jobs.clear()
            self._changed.notify_all()
