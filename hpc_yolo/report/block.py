"""Owns the view of several runs that are trained at once here: what happens goes by, a block of lines below it is rewritten."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from hpc_yolo.report.tables import is_terminal, window

_CLEAR_BELOW = "\x1b[J"
_FEWEST_ROWS = 4


class Block:
    """On a terminal the last lines are rewritten in place; elsewhere only what happens is written, each on a line."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._is_live = is_terminal(stream)
        self._shown: list[str] = []

    def say(self, lines: Sequence[str]) -> None:
        """What has happened; stays."""
        if not lines:
            return
        self._erase()
        self._stream.write("".join(f"{line}\n" for line in lines))
        self._stream.flush()

    def show(self, lines: Sequence[str], summary: str) -> None:
        """How each run stands, and all of them; rewritten by the next call. As many as there is room for."""
        if not self._is_live:
            return
        columns, rows = window(self._stream)
        room, width = max(_FEWEST_ROWS, rows) - 3, columns - 1
        hidden = len(lines) - room
        kept = [*lines[:room], *([f"... and {hidden} more"] if hidden > 0 else []), summary]
        cut = [line[:width] for line in kept]  # a line that wraps cannot be rewritten
        if cut == self._shown:
            return
        self._erase()
        self._stream.write("".join(f"{line}\n" for line in cut))
        self._stream.flush()
        self._shown = cut

    def close(self) -> None:
        """Take the block away."""
        self._erase()
        self._stream.flush()

    def _erase(self) -> None:
        if self._shown:
            self._stream.write(f"\x1b[{len(self._shown)}A\r{_CLEAR_BELOW}")
        self._shown = []
