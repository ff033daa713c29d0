"""Owns the newest lines of a run's log, as its worker writes them. Reads the end of a file, never all of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from hpc_yolo.rundir import RunDir
from hpc_yolo.submissions import newest_submission

#: A log may be gigabytes; of one just opened, this much is read.
MOST_BYTES = 1 << 16


@dataclass
class Tail:
    """One run's log: what its newest attempt writes, or, before the first one, what its job wrote."""

    run: RunDir
    _offsets: dict[Path, int] = field(default_factory=dict)
    _cut: dict[Path, bytes] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """What is new since the last call, whole lines only; a line that says so where another attempt begins."""
        found: list[str] = []
        title, files = _logs(self.run)
        if files and files[0] not in self._offsets:
            found.append(f"── {title} ──")
        for file in files:
            found += self._new(file)
        return found

    def _new(self, file: Path) -> list[str]:
        try:
            with file.open("rb") as log:
                size = os.fstat(log.fileno()).st_size
                log.seek(max(self._offsets.get(file, 0), size - MOST_BYTES))
                content = self._cut.get(file, b"") + log.read(MOST_BYTES)
                self._offsets[file] = log.tell()
        except OSError:
            self._offsets.setdefault(file, 0)
            return []
        *whole, self._cut[file] = content.split(b"\n")
        return [_shown(line) for line in whole]


def _logs(run: RunDir) -> tuple[str, list[Path]]:
    if attempts := run.attempts():
        return f"attempt {attempts[-1].number}", [attempts[-1].stdout, attempts[-1].stderr]
    submission = newest_submission(run)
    return ("nothing yet", []) if submission is None else (f"job {submission.job}", [submission.log])


def _shown(line: bytes) -> str:
    """Of a progress bar that is drawn over and over, what stood there last; without what moves a cursor."""
    last = line.decode(errors="replace").rstrip("\r").rpartition("\r")[2]
    return "".join(it for it in last.replace("\x1b[K", "") if it.isprintable() or it == "\t")
