"""Storage that fails in every way but being full: real faults, on a file system of our own. See tests/fault_fs.py."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.errors import StorageError
from hpc_yolo.events import Event, Kind, read_events
from hpc_yolo.heartbeat import Beat, read_beat
from hpc_yolo.report.history import read_history
from hpc_yolo.report.status import status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.store import SnapshotStore
from tests import fault_fs
from tests.fault_fs import FaultFs
from tests.lab import Lab, stop_at

pytestmark = pytest.mark.skipif(fault_fs.missing() is not None, reason=fault_fs.missing() or "")
_DEADLINE_S = 60


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultFs]:
    """Where training would wait for an answer, this lets it go on after a while, and the test fails instead of hanging."""
    with fault_fs.mounted(tmp_path / "storage") as fs:
        rescue = threading.Timer(_DEADLINE_S, fs.recover)
        rescue.start()
        yield fs
        assert rescue.is_alive(), f"nothing went on for {_DEADLINE_S} s, until the storage answered again"
        rescue.cancel()


class Disturbed:
    """A run on the faulty storage that fails from the second epoch's first batch to the third epoch's second."""

    def __init__(self, lab: Lab, fs: FaultFs, fail: Callable[[], None]) -> None:
        self.name = str(fs.path / "run")
        self.behind = RunDir(fs.behind / "run")  # what a look at the storage may read without waiting for it
        self.lab, self.fs, self._fail = lab, fs, fail
        self.failed_at = 0.0
        self.seen: list[Beat] = []
        self.status_during = ""

    def train(self, sees_trouble: bool) -> None:
        def disturb(trainer: Any) -> bool:
            if (trainer.epoch, trainer._batch) == (1, 0):
                trainer._session.settle()
                self.before = self.newest()
                self.failed_at = time.time()
                self._fail()
            if (trainer.epoch, trainer._batch) == (2, 1):
                self.wait_until(lambda: self.is_noticed(trainer, sees_trouble))
                self.during = self.newest()
                self.fs.recover()
            return False

        assert self.lab.attempt(self.name, ("on_train_batch_end", disturb)) == "done"

    def is_noticed(self, trainer: Any, sees_trouble: bool) -> bool:
        trainer._session._watch.look()  # as the pulse does
        beat = read_beat(self.behind.attempt(1).heartbeat)
        self.seen += [beat] if beat and beat.trouble else []
        if self.seen:
            self.status_during = str(status_of(read_history(self.behind)).reason)
        return bool(self.seen) if sees_trouble else trainer._session._watch.trouble is not None

    def wait_until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < until, "nobody noticed"
            time.sleep(0.02)

    def newest(self) -> int:
        return SnapshotStore(self.behind.snapshots_dir).entries()[-1].step

    def events(self, *kinds: Kind) -> list[Event]:
        found = [event for it in self.behind.attempts() for event in read_events(it.events)]
        return [event for event in found if event.kind in kinds]

    def assert_that_it_cost_nothing_but_snapshots(self) -> None:
        assert self.during == self.before  # what was there before is there still
        told = self.events(Kind.STORAGE_FAILED, Kind.STORAGE_RECOVERED)
        assert [it.kind for it in told] == [Kind.STORAGE_FAILED, Kind.STORAGE_RECOVERED]
        assert self.failed_at - 1 < told[0].fields["since"] <= told[0].time <= told[1].time
        assert self.lab.differences("undisturbed", self.name) == []
        rows = (self.behind.path / "results.csv").read_text().splitlines()
        assert [row.split(",")[0] for row in rows] == ["epoch", "1", "2", "3"]


@pytest.mark.parametrize(
    ("how", "operations", "below", "said"),
    [
        ("EDQUOT", ("create",), "/run", "Disk quota exceeded"),
        ("EIO", ("fsync",), "/run", "Input/output error"),
        ("hang", ("write",), "/run/snapshots", "the storage does not answer"),
        pytest.param("hang", ("fsync",), "/run/snapshots", "the storage does not answer", marks=pytest.mark.matrix),
        ("hang", ("rename",), "/run/snapshots", "the storage does not answer"),
    ],
)
def test_what_fails_for_an_epoch_is_told_by_the_heartbeat_and_costs_nothing_but_snapshots(
    lab: Lab,
    faulty: FaultFs,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
    operations: tuple[str, ...],
    below: str,
    said: str,
) -> None:
    monkeypatch.setattr(lab, "session_options", {"silent_after_s": 0.3})
    run = Disturbed(lab, faulty, lambda: faulty.fail(how, *operations, below=below))

    run.train(sees_trouble=True)

    assert said in str(run.seen[0].trouble)
    assert "nothing could be saved since" in run.status_during
    assert said in run.status_during
    assert run.failed_at - 1 < (run.seen[0].trouble_since or 0) < run.seen[0].time
    run.assert_that_it_cost_nothing_but_snapshots()


@pytest.mark.parametrize(
    "how",
    ["EROFS", "frozen", pytest.param("EIO", marks=pytest.mark.matrix), pytest.param("hang", marks=pytest.mark.matrix)],
)
def test_storage_that_takes_not_even_the_heartbeat_stops_no_step_and_is_told_of_later(
    lab: Lab, faulty: FaultFs, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(lab, "session_options", {"silent_after_s": 0.3})
    run = Disturbed(lab, faulty, faulty.freeze if how == "frozen" else lambda: faulty.fail(how))

    run.train(sees_trouble=False)

    assert run.seen == []
    run.assert_that_it_cost_nothing_but_snapshots()


def test_a_stop_meanwhile_saves_to_the_node(
    lab: Lab, faulty: FaultFs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fallback = SnapshotStore(tmp_path / "node")
    monkeypatch.setattr(lab, "session_options", {"fallback": fallback, "stop_patience_s": 0.5})
    run = str(faulty.path / "run")

    def disturb(trainer: Any) -> bool:
        if (trainer.epoch, trainer._batch) == (1, 0):
            trainer._session.settle()
            faulty.fail("EIO")
        return stop_at(1, 2)[1](trainer)

    with pytest.raises(StorageError, match=r"Input/output error\. The state is at .*step-0000000\d\d"):
        lab.attempt(run, ("on_train_batch_end", disturb))
    faulty.recover()
    found = fallback.newest()
    assert found is not None
    assert (found[1].position.epoch, found[1].position.batch) == (1, 3)


def test_a_snapshot_asks_little_of_the_storages_metadata(lab: Lab, faulty: FaultFs) -> None:
    """A file made, synced, renamed, an old one removed: what a metadata server sees of it, once all is settled in."""
    asked: list[list[tuple[str, str]]] = []

    def save(trainer: Any) -> bool:
        trainer._session.settle()
        before = len(faulty.operations())
        trainer._save("interval")
        trainer._session.settle()
        asked.append(faulty.operations()[before:])
        return False

    assert lab.attempt(str(faulty.path / "run"), ("on_train_batch_end", save), epochs=3) == "done"
    steady = [it for it in asked if "unlink" in fault_fs.count(it)][-1]
    counted = fault_fs.count(steady)
    wanted = {"create": 1, "fsync": 1, "rename": 2, "fsyncdir": 1, "unlink": 1}  # into its place; and one out of it
    assert {name: counted[name] for name in wanted} == wanted
    assert counted["open"] == 1  # the ledger's
    assert counted["getattr"] <= 6  # a newer attempt; and what creating and renaming look up
    assert counted.keys() <= {"create", "fsync", "rename", "fsyncdir", "unlink", "open", "getattr", "write", "release"}


def test_snapshots_that_are_removed_meanwhile_are_made_anew(lab: Lab) -> None:
    run = RunDir(lab.root / "purged")

    def purge(trainer: Any) -> bool:
        if (trainer.epoch, trainer._batch) == (1, 1):
            trainer._session.settle()
            shutil.rmtree(run.snapshots_dir)
            shutil.rmtree(run.weights_dir)
        return False

    assert lab.attempt("purged", ("on_train_batch_end", purge)) == "done"
    assert lab.differences("undisturbed", "purged") == []
    told = [event.kind for event in read_events(run.attempt(1).events) if event.kind.value.startswith("storage_")]
    assert told == [Kind.STORAGE_FAILED, Kind.STORAGE_RECOVERED] * (len(told) // 2)  # it has not stayed so
