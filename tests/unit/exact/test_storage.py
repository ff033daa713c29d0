"""Storage that is really full: a small tmpfs. Training goes on, the state before stays, it recovers by itself."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_yolo.errors import StorageError
from hpc_yolo.events import Kind, Ledger, read_events
from hpc_yolo.exact.journal import Journal
from hpc_yolo.heartbeat import Heart, read_beat
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.retention import Series
from hpc_yolo.snapshot.store import SnapshotStore
from hpc_yolo.staging import take_over
from tests.lab import Lab, stop_at

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")


@pytest.fixture
def small(lab: Lab) -> Iterator[Path]:
    """A file system of 16 MiB, for the run `small`."""
    folder = lab.root / "small"
    folder.mkdir(exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "hpc-yolo-test", folder], check=True)
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(folder: Path) -> None:
    with (folder / "ballast").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 4096)
        except OSError:
            pass


def newest_step(folder: Path) -> int:
    return SnapshotStore(folder / "snapshots").entries()[-1].step


def kinds(run: RunDir) -> list[Kind]:
    return [event.kind for attempt in run.attempts() for event in read_events(attempt.events)]


@needs_root
def test_a_disk_that_is_full_for_an_epoch_costs_nothing_but_its_snapshots(lab: Lab, small: Path) -> None:
    seen: list[object] = []

    def disturb(trainer: object) -> bool:
        at = (trainer.epoch, trainer._batch)  # type: ignore[attr-defined]
        if at == (1, 0):
            trainer._session.settle()  # type: ignore[attr-defined]
            seen.append(newest_step(small))
            fill(small)
        if at == (2, 1):
            beat = read_beat(RunDir(small).attempt(1).heartbeat)
            seen.append(beat.trouble if beat else None)
            seen.append(newest_step(small))
            (small / "ballast").unlink()
        return False

    assert lab.attempt("small", ("on_train_batch_end", disturb)) == "done"
    assert "No space left on device" in str(seen[1])
    assert seen[0] == seen[2]  # what was there before is there still
    assert kinds(RunDir(small)).count(Kind.STORAGE_RECOVERED) == 1
    assert lab.differences("undisturbed", "small") == []
    rows = (small / "results.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3"]


@needs_root
def test_a_stop_while_the_disk_is_full_saves_to_the_node(
    lab: Lab, small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallback = SnapshotStore(tmp_path / "node")
    monkeypatch.setattr(lab, "session_options", {"fallback": fallback, "stop_patience_s": 1.0})

    def disturb(trainer: object) -> bool:
        if (trainer.epoch, trainer._batch) == (1, 0):  # type: ignore[attr-defined]
            trainer._session.settle()  # type: ignore[attr-defined]
            fill(small)
        return stop_at(1, 2)[1](trainer)

    with pytest.raises(StorageError, match=r"No space left on device\. The state is at .*step-0000000\d\d"):
        lab.attempt("small", ("on_train_batch_end", disturb))
    found = fallback.newest()
    assert found is not None
    (small / "ballast").unlink()
    take_over(small / "snapshots", attempt=2)  # the first one's writer lives on in this process, and tries again
    SnapshotStore(small / "snapshots").commit(found[1], attempt=2)  # as the worker takes it up
    assert lab.attempt("small") == "done"
    assert lab.differences("undisturbed", "small") == []


def test_what_two_threads_tell_at_once_is_told_once(tmp_path: Path) -> None:
    journal = Journal(Ledger(tmp_path / "events"), Heart(tmp_path / "heartbeat"))
    threads = [
        threading.Thread(target=lambda: [journal.tell(Kind.INTERVAL_CHOSEN, n=n) for n in range(30)]) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert journal.settle(10)
    numbers = sorted(event.fields["n"] for event in read_events(tmp_path / "events"))
    assert numbers == sorted([*range(30), *range(30)])


def test_events_that_the_storage_did_not_take_come_later_in_their_order(tmp_path: Path) -> None:
    folder = tmp_path / "away"
    journal = Journal(Ledger(folder / "events"), Heart(tmp_path / "heartbeat"))
    for n in range(3):
        journal.tell(Kind.INTERVAL_CHOSEN, n=n)
    assert not journal.settle(0.1)
    folder.mkdir()

    assert journal.settle(10)
    assert [event.fields["n"] for event in read_events(folder / "events")] == [0, 1, 2]


def test_an_epoch_of_the_series_stays_although_the_stop_came_with_its_last_batch(
    bare_lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bare_lab, "session_options", {"series": Series("every", 1)})
    assert bare_lab.attempt("stopped", stop_at(0, 3)) == "stopped"  # 14 images in batches of 4
    assert bare_lab.attempt("stopped") == "done"

    entries = SnapshotStore(RunDir(bare_lab.root / "stopped").snapshots_dir).entries()
    assert bare_lab.newest("stopped").plain["kept"]["series"] == [entry.step for entry in entries]
    assert len(entries) == 3
