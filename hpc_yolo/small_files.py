"""Owns reading many small files: with few calls for each, and many at once where the storage is far. Knows none of them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

#: One thing that is waited for longer than that lies on a storage that is far (seconds).
_FAR_S = 0.01
_AT_ONCE = 48
_FIRST, _PORTION = 3, 256
_BLOCK = 1 << 15  # more costs more than it saves: Python makes room for all of it first
_Thing = TypeVar("_Thing")
_Read = TypeVar("_Read")


def read_file(path: Path) -> bytes:
    """All of it, without the questions that Python asks of a file before: each may be a way to a server and back.

    Raises:
        OSError
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        blocks = []
        while block := os.read(fd, _BLOCK):
            blocks.append(block)
    except OSError as error:
        error.filename = str(path)  # a call that knows a number only cannot name it
        raise
    finally:
        os.close(fd)
    return b"".join(blocks)


def read_each(read: Callable[[_Thing], _Read], things: Sequence[_Thing]) -> Iterator[_Read]:
    """What `read` gives of each thing, in their order, a portion at a time: what has been looked at need not be kept.

    A near storage answers before a thread would have been woken. A far one answers late, but many at once; whether it is
    far is told from how long this thread has waited for the first few.
    """
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        begin, is_far = 0, False
        while portion := things[begin : begin + (_PORTION if begin else _FIRST)]:
            if is_far:
                yield from pool.map(read, portion)
            else:
                found, waits = [], []
                for thing in portion:
                    before = _waited_s()
                    found.append(read(thing))
                    waits.append(_waited_s() - before)
                is_far = sorted(waits)[len(waits) // 2] > _FAR_S  # a single one may have had to wait for this machine
                yield from found
            begin += len(portion)


def _waited_s() -> float:
    return time.monotonic() - time.thread_time()
