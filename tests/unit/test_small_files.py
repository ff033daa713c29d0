"""Reading many small files: in order, and many at once where each is waited for."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from hpc_yolo.small_files import read_each, read_file


def test_a_file_is_read_whole(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for content in (b"", b"short", b"long" * 50_000):
        file.write_bytes(content)
        assert read_file(file) == content
    with pytest.raises(FileNotFoundError):
        read_file(tmp_path / "nowhere")


@pytest.mark.parametrize("count", [0, 1, 3, 4, 600])
def test_what_is_near_is_read_by_one_thread_in_order(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc_yolo.small_files._FAR_S", 60.0)  # however busy this machine is
    found = list(read_each(lambda it: (it, threading.get_ident()), range(count)))

    assert [it for it, _ in found] == list(range(count))
    assert {thread for _, thread in found} <= {threading.get_ident()}


def test_what_is_far_is_read_many_at_once_in_order() -> None:
    at_once, most = set(), []

    def read(number: int) -> int:
        at_once.add(number)
        most.append(len(at_once))
        time.sleep(0.03)
        at_once.discard(number)
        return number

    assert list(read_each(read, range(100))) == list(range(100))
    assert max(most) > 10


def test_only_a_portion_is_read_ahead() -> None:
    read: list[int] = []
    first = next(read_each(lambda it: (read.append(it), it)[1], range(1000)))

    assert first == 0
    assert len(read) < 20


def test_what_cannot_be_read_is_raised_in_its_turn() -> None:
    def read(number: int) -> int:
        if number == 5:
            raise OSError("gone")
        return number

    with pytest.raises(OSError, match="gone"):
        list(read_each(read, range(10)))
