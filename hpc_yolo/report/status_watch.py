"""Owns drawing `status` again and again until Ctrl-C."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from hpc_yolo.report.feed import Feed
from hpc_yolo.report.groups import summaries
from hpc_yolo.report.jobs import PacedJobs
from hpc_yolo.report.selection import Selection
from hpc_yolo.report.status_view import as_text
from hpc_yolo.report.tables import cut, terminal_size, wants_colour

_ENTER, _LEAVE = "\x1b[?1049h\x1b[?25l", "\x1b[?1049l\x1b[?25h"  # a screen of its own, without a cursor
_HOME, _CLEAR_LINE, _CLEAR_BELOW = "\x1b[H", "\x1b[K", "\x1b[J"
_SHORTEST_S = 0.5


class StatusWatch:
    """On a terminal a screen that is redrawn, cut to its size; elsewhere one text after the other.

    Args:
        every_s: seconds between two looks; a storage that takes longer to be read gets as long a rest.
    """

    def __init__(
        self, selection: Selection, every_s: float, stream: TextIO | None = None, jobs: PacedJobs | None = None
    ) -> None:
        self._selection, self._every_s = selection, max(_SHORTEST_S, every_s)
        self._stream = sys.stdout if stream is None else stream
        self._feed = Feed(selection, jobs)

    def run(self, sleep: Callable[[float], None] = time.sleep) -> None:
        """Draw until interrupted; what was drawn last stays on the terminal.

        Raises:
            KeyboardInterrupt
        """
        is_live = terminal_size(self._stream) is not None
        text = ""
        try:
            self._write(_ENTER if is_live else "")
            while True:
                began = time.monotonic()
                text = self.text()
                self._write(self._screen(text) if is_live else f"{text}\n\n")
                sleep(max(self._every_s, time.monotonic() - began))
        finally:
            self._write(f"{_LEAVE}{text}\n" if is_live else "")

    def text(self) -> str:
        """How things stand now, and when that was; where Slurm does not answer, since when."""
        rows = self._feed.rows()
        shown = self._selection.shown(rows)
        size = terminal_size(self._stream)
        parts = [time.strftime("%a %H:%M:%S"), *([self._feed.trouble] if self._feed.trouble else [])]
        body = as_text(shown, wants_colour(self._stream), size[0] if size else None, summaries(rows))
        return f"{'; '.join(parts)}\n\n{body if shown else self._selection.nothing()}"

    def _screen(self, text: str) -> str:
        """No more lines and columns than there are: what wraps or scrolls cannot be drawn over."""
        columns, lines = terminal_size(self._stream) or (80, 24)
        every = text.splitlines()
        if len(every) > lines - 1:
            every = [*every[: lines - 2], f"... and {len(every) - lines + 2} lines more; --state and --sweep narrow it"]
        drawn = "\n".join(cut(line, columns - 1) + _CLEAR_LINE for line in every)
        return f"{_HOME}{drawn}\n{_CLEAR_BELOW}"

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()
