"""Owns the account of CPU time by whose code asked for it: hpc_yolo's, its snapshots', or anybody else's.

A profiler hook keeps, for each thread, who called last: a frame of hpc_yolo makes the time ours, a frame of ultralytics makes
it theirs, and all else (torch, NumPy, json, system calls) belongs to whoever called it. So what our overrides pass on to
upstream is not counted, what they do with torch is, and no list of seams has to follow the code. Calls within one owner
cost the hook's own time, which counts as the owner's: the account errs against us.
"""

from __future__ import annotations

import sys
import threading
import time
from collections import Counter
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

OURS, SNAPSHOT, OTHERS = "ours", "snapshot", "others"


class Ownership:
    """Start it before the threads that are to be counted; it sees the calling thread and every later one."""

    def __init__(self) -> None:
        import ultralytics

        import hpc_yolo

        package = Path(hpc_yolo.__file__).parent
        self._places = (  # the first that fits
            (f"{package}/snapshot/", SNAPSHOT),
            (f"{package}/exact/state.py", SNAPSHOT),
            (f"{package}/", OURS),
            (f"{Path(ultralytics.__file__).parent}/", OTHERS),
        )
        self._owners: dict[CodeType, str | None] = {}
        self.seconds: Counter[str] = Counter()

    def start(self) -> None:
        threading.setprofile(self._begin_thread)
        sys.setprofile(_Account(self))

    def owner(self, code: CodeType) -> str | None:
        if code not in self._owners:
            name = code.co_filename
            self._owners[code] = next((owner for place, owner in self._places if name.startswith(place)), None)
        return self._owners[code]

    def _begin_thread(self, frame: FrameType, event: str, arg: Any) -> None:
        account = _Account(self)
        sys.setprofile(account)
        account(frame, event, arg)


class _Account:
    """One thread's stack of owners."""

    def __init__(self, books: Ownership) -> None:
        self._books = books
        self._stack: list[str] = []
        self._owner = OTHERS
        self._since = time.thread_time()

    def __call__(self, frame: FrameType, event: str, _arg: Any) -> None:
        if event == "call":
            self._stack.append(self._owner)
            owner = self._books.owner(frame.f_code)
            if owner is not None and owner != self._owner:
                self._switch(owner)
        elif event == "return" and self._stack:  # empty: a frame that began before the account did
            owner = self._stack.pop()
            if owner != self._owner:
                self._switch(owner)

    def _switch(self, owner: str) -> None:
        now = time.thread_time()
        self._books.seconds[self._owner] += now - self._since
        self._owner, self._since = owner, now
