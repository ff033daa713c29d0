"""Owns what is known of the storage's trouble: errors of the writer, silence of writer and journal. Tells it, once a trouble.

Nothing here asks the storage, so a storage that hangs does not keep anybody from knowing.
"""

from __future__ import annotations

import errno
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

from hpc_yolo.events import Kind
from hpc_yolo.exact.journal import Journal
from hpc_yolo.heartbeat import SILENT_AFTER_S
from hpc_yolo.snapshot.writer import BackgroundWriter, Trouble


class StorageWatch:
    """One attempt's view of its storage.

    Args:
        where: the run directory, for an error that names no file.
    """

    def __init__(self, journal: Journal, where: Path, silent_after_s: float = SILENT_AFTER_S) -> None:
        self.writer = BackgroundWriter(lambda trouble: self._note("error", trouble))
        self._journal = journal
        self._where = where
        self._silent_after_s = silent_after_s
        self._troubles: dict[str, Trouble] = {}
        self._noting = threading.Lock()

    @property
    def trouble(self) -> Trouble | None:
        """The one that began first."""
        return min(list(self._troubles.values()), key=lambda it: it.since, default=None)

    def look(self) -> None:
        """Notice who has waited too long for an answer, and who has got one since."""
        self._note("silent writer", self._silence(self.writer.silent_since))
        self._note("silent journal", self._silence(self._journal.silent_since))

    def _silence(self, since: float | None) -> Trouble | None:
        if since is None or time.time() - since < self._silent_after_s:
            return None
        return Trouble(since, OSError(errno.ETIMEDOUT, "the storage does not answer"))

    def _note(self, source: str, trouble: Trouble | None) -> None:
        with self._noting:
            before = self.trouble
            self._troubles.pop(source, None)
            if trouble is not None:
                self._troubles[source] = trouble
            now = self.trouble
            if now != before:
                self._tell(before, now)

    def _tell(self, before: Trouble | None, now: Trouble | None) -> None:
        record = self._journal.record
        if now is None:
            record.trouble, record.trouble_since = None, None
            self._journal.tell(Kind.STORAGE_RECOVERED)
            _say("the storage works again")
        else:
            said = f"{now.error.filename or self._where}: {now.error.strerror}"
            record.trouble, record.trouble_since = said[:200], round(now.since, 3)
            if before is None:
                self._journal.tell(Kind.STORAGE_FAILED, error=said, since=round(now.since, 3))
                _say(f"{said}; training goes on and tries again")
        self._journal.beat()


def _say(text: str) -> None:
    with suppress(OSError):  # stderr may lie on that storage, too
        print(f"hpc-yolo: {text}", file=sys.stderr, flush=True)
