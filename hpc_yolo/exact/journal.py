"""Owns how an attempt's events and heartbeat reach the storage while it trains: in order, by a thread of their own.

Who tells something waits a moment for it to be written, so that a kill loses no step of the record. A storage that takes
longer keeps the thread, not the training: until it answers again nobody waits. Knows no policy.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import replace
from typing import Any

from hpc_yolo.events import Kind, Ledger
from hpc_yolo.heartbeat import Heart

#: How long a step waits for its heartbeat, once; a healthy storage takes a hundredth of it.
_PATIENCE_S = 0.2
#: A heartbeat comes at least this often, also where no step ends (start-up, validation); and events are tried again.
_PULSE_S = 2.0
_RETRY_S = 0.2


class Journal:
    """The ledger and the heart of one attempt, for any thread."""

    def __init__(self, ledger: Ledger, heart: Heart, patience_s: float = _PATIENCE_S) -> None:
        self.images: tuple[str, ...] = ()
        """Of the batch in whose step the training has failed."""
        self.record = heart.record  # what the next `beat` publishes
        self._published = replace(heart.record)
        self._ledger = ledger
        self._heart = heart
        self._patience_s = patience_s
        self._changed = threading.Condition()
        self._unsaid: list[bytes] = []
        self._asked = 0
        self._tried = 0
        self._began: float | None = None
        self._is_slow = False
        threading.Thread(target=self._work, name="journal", daemon=True).start()

    @property
    def silent_since(self) -> float | None:
        """Since when (seconds since the epoch) the storage has owed an answer; None while nothing is asked of it."""
        return self._began

    def tell(self, kind: Kind, **fields: Any) -> None:
        """Append an event, with the time of now. While the storage fails it is kept, and appended in its order later."""
        line = self._ledger.line(kind, **fields)
        with self._changed:
            self._unsaid.append(line)
            self._ask()

    def beat(self) -> None:
        """Publish `record`."""
        with self._changed:
            self._published = replace(self.record)
            self._ask()

    def settle(self, within_s: float) -> bool:
        """Wait until all that was told is written; returns whether it was by then."""
        until = time.monotonic() + within_s
        with self._changed:
            while True:
                self._asked += 1
                ticket = self._asked
                self._changed.notify_all()
                if not self._changed.wait_for(lambda: self._tried >= ticket, max(until - time.monotonic(), 0)):  # noqa: B023
                    return False
                if not self._unsaid:
                    return True
                self._changed.wait_for(lambda: False, _RETRY_S)

    def _ask(self) -> None:
        self._asked += 1
        ticket = self._asked
        self._changed.notify_all()
        if not self._is_slow:
            self._is_slow = not self._changed.wait_for(lambda: self._tried >= ticket, self._patience_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._asked > self._tried, _PULSE_S)
                ticket, lines, record = self._asked, list(self._unsaid), self._published
                self._began = time.time()
            written = self._write(lines, record)
            with self._changed:
                del self._unsaid[:written]
                self._tried, self._began, self._is_slow = ticket, None, False
                self._changed.notify_all()

    def _write(self, lines: list[bytes], record: Any) -> int:
        """The heartbeat first: it is rewritten in place, so a full disk takes it when it takes no event."""
        written = 0
        with suppress(OSError):
            self._heart.write(record)
        with suppress(OSError):
            for line in lines:
                self._ledger.write(line)
                written += 1
        return written
