"""The background writer and the schedule."""

from __future__ import annotations

import threading

import pytest

from hpc_yolo.snapshot.format import Position, Snapshot
from hpc_yolo.snapshot.schedule import Interval
from hpc_yolo.snapshot.writer import BackgroundWriter
from hpc_yolo.types import Phase


def snapshot(step: int) -> Snapshot:
    return Snapshot(
        position=Position(step=step, epoch=0, batch=0, phase=Phase.TRAIN), config_hash="", tensors={}, plain={}
    )


def test_drain_returns_only_when_the_write_is_done() -> None:
    release, written = threading.Event(), []

    def commit(it: Snapshot, cause: str) -> None:
        assert release.wait(10)
        written.append((it.position.step, cause))

    writer = BackgroundWriter(commit)
    writer.submit(snapshot(1), "epoch")
    assert written == []  # the caller did not wait
    release.set()
    writer.drain()

    assert written == [(1, "epoch")]


def test_snapshots_are_written_in_order_one_at_a_time() -> None:
    written: list[int] = []
    writer = BackgroundWriter(lambda it, _cause: written.append(it.position.step))
    for step in range(5):
        writer.submit(snapshot(step), "interval")
    writer.drain()

    assert written == [0, 1, 2, 3, 4]


def test_an_error_of_a_write_is_not_passed_over() -> None:
    def commit(_it: Snapshot, _cause: str) -> None:
        raise OSError(28, "No space left on device")

    writer = BackgroundWriter(commit)
    writer.submit(snapshot(1), "interval")

    with pytest.raises(OSError, match="No space left"):
        writer.submit(snapshot(2), "interval")


def test_the_interval_counts_from_the_last_snapshot_of_any_cause() -> None:
    now = 100.0
    interval = Interval(30, clock=lambda: now)
    now = 129.9
    assert not interval.is_due()
    now = 130.0
    assert interval.is_due()
    interval.restart()
    assert not interval.is_due()
