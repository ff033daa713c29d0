"""The background writer: in order, the newest of each kind wins, and a storage that fails is tried again."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest

from hpc_yolo.snapshot.format import AbandonedError
from hpc_yolo.snapshot.writer import BackgroundWriter, Job, Trouble


def in_s(seconds: float) -> Callable[[], float]:
    until = time.monotonic() + seconds
    return lambda: until


def noting(written: list[str], name: str) -> Job:
    return lambda _is_wanted: written.append(name)


class Gate:
    """A job that waits until it is let through, and tells when it has begun."""

    def __init__(self) -> None:
        self.has_begun, self.may_go_on = threading.Event(), threading.Event()
        self.was_abandoned = False

    def __call__(self, is_wanted: Callable[[], bool]) -> None:
        self.has_begun.set()
        while not self.may_go_on.wait(0.01):
            if not is_wanted():
                self.was_abandoned = True
                raise AbandonedError


def test_what_is_submitted_is_written_in_order() -> None:
    writer, written = BackgroundWriter(), list[str]()
    for name in ("results.csv", "last.pt", "snapshot"):
        writer.submit(name, noting(written, name))

    assert writer.settle(in_s(10))
    assert written == ["results.csv", "last.pt", "snapshot"]


def test_while_one_is_written_the_newest_of_those_that_wait_wins() -> None:
    writer, written, gate = BackgroundWriter(), list[str](), Gate()
    writer.submit("snapshot", gate)
    assert gate.has_begun.wait(10)
    for name in ("2", "3"):
        writer.submit("snapshot", noting(written, name))
    gate.may_go_on.set()

    assert writer.settle(in_s(10))
    assert written == ["3"]


def test_an_urgent_one_ends_the_one_at_work() -> None:
    writer, written, gate = BackgroundWriter(), list[str](), Gate()
    writer.submit("snapshot", gate)
    assert gate.has_begun.wait(10)
    writer.submit("snapshot", noting(written, "stop"), is_urgent=True)

    assert writer.settle(in_s(10))
    assert (gate.was_abandoned, written) == (True, ["stop"])


def test_one_that_waits_can_be_taken_back() -> None:
    writer, written, gate = BackgroundWriter(), list[str](), Gate()
    writer.submit("other", gate)
    assert gate.has_begun.wait(10)
    job = noting(written, "never")
    writer.submit("snapshot", job)

    assert writer.withdraw("snapshot") is job
    assert writer.withdraw("snapshot") is None
    gate.may_go_on.set()
    assert writer.settle(in_s(10))
    assert written == []


def test_a_storage_that_fails_is_tried_again_and_both_are_told() -> None:
    told: list[Trouble | None] = []
    writer, written, tries = BackgroundWriter(told.append), list[str](), []

    def fail_twice(_is_wanted: object) -> None:
        tries.append(time.time())
        if len(tries) < 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        written.append("snapshot")

    writer.submit("snapshot", fail_twice)

    assert writer.settle(in_s(10))
    assert (len(tries), written) == (3, ["snapshot"])
    assert told[0] is not None
    assert told[0].since == pytest.approx(tries[0], abs=1)
    assert (told[1:], writer.trouble) == ([None], None)


def test_nobody_waits_for_ever_for_a_storage_that_stays_away() -> None:
    def fail(_is_wanted: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    writer = BackgroundWriter()
    writer.submit("snapshot", fail)

    assert not writer.settle(in_s(0.3))
    assert writer.trouble is not None
    assert writer.trouble.error.errno == errno.EIO


def test_nobody_waits_for_ever_for_a_write_that_hangs() -> None:
    writer, gate = BackgroundWriter(), threading.Event()
    writer.submit("snapshot", lambda _is_wanted: gate.wait(30) and None)

    assert not writer.settle(in_s(0.3))
    gate.set()


def test_once_nobody_waits_any_more_a_write_is_not_given_up_for_the_next() -> None:
    writer, written, gate = BackgroundWriter(), list[str](), Gate()
    writer.submit("snapshot", gate)
    assert not writer.settle(in_s(0.1))
    writer.submit("snapshot", noting(written, "next"))
    time.sleep(0.1)

    assert not gate.was_abandoned
    gate.may_go_on.set()
    assert writer.settle(in_s(10))
    assert (gate.was_abandoned, written) == (False, ["next"])


def test_any_other_error_is_raised_by_the_next_call() -> None:
    def superseded(_is_wanted: object) -> None:
        raise LookupError("a bug")

    writer = BackgroundWriter()
    writer.submit("snapshot", superseded)

    with pytest.raises(LookupError, match="a bug"):
        writer.settle(in_s(10))
