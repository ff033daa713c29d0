"""Owns what a supervised worker says: a thread brings stdout and stderr to the attempt's logs, which lie on the run's storage.

A print must not wait for a storage that hangs, nor fail where it is full: what it does not take is tried again, and of too
much the oldest is dropped.
"""

from __future__ import annotations

import atexit
import io
import os
import sys
import threading
from contextlib import suppress
from typing import Any

_MOST_BYTES = 1 << 20
_RETRY_S = 1.0
#: How long the way out waits for the last words.
_LAST_WORDS_S = 2.0


def relay_output() -> None:
    """From now on stdout and stderr of this process wait for nobody."""
    sys.stdout, sys.stderr = _relayed(sys.stdout.fileno()), _relayed(sys.stderr.fileno())
    atexit.register(end_output)


def end_output() -> None:
    """Have the last words written, as far as that is soon; for those too who leave without Python's own exit."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError):
            stream.flush()
        raw = getattr(getattr(stream, "buffer", None), "raw", None)
        if isinstance(raw, Relay):
            raw.settle(_LAST_WORDS_S)


def _relayed(fd: int) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        io.BufferedWriter(Relay(fd)), encoding="utf-8", errors="backslashreplace", line_buffering=True
    )


class Relay(io.RawIOBase):
    """Takes all that is written, at once, and writes it to a file descriptor by a thread of its own."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._pid = os.getpid()
        self._changed = threading.Condition()
        self._pending = bytearray()
        self._dropped = 0
        threading.Thread(target=self._work, name="output", daemon=True).start()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def write(self, data: Any) -> int:
        if os.getpid() != self._pid:  # a dataloader's worker: the thread stayed with its parent
            return os.write(self._fd, data)
        with self._changed:
            self._pending += data
            excess = max(0, len(self._pending) - _MOST_BYTES)
            del self._pending[:excess]
            self._dropped += excess
            self._changed.notify_all()
        return len(data)

    def settle(self, within_s: float) -> bool:
        """Wait until all is written; returns whether it was by then."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._pending, within_s)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._pending))
                data, dropped = bytes(self._pending), self._dropped
            try:
                written = os.write(self._fd, data)
            except OSError:
                written = 0
            with self._changed:
                del self._pending[: max(0, written - (self._dropped - dropped))]
                self._changed.notify_all()
                if not written:
                    self._changed.wait_for(lambda: False, _RETRY_S)
