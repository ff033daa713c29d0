"""The session tells when an attempt's start-up is over. Nothing is trained here."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_yolo.events import Kind, Ledger, read_events
from hpc_yolo.exact.journal import Journal
from hpc_yolo.exact.session import Session
from hpc_yolo.exact.stop import StopRequest
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.format import Position
from hpc_yolo.snapshot.schedule import EverySeconds
from hpc_yolo.snapshot.store import SnapshotStore
from hpc_yolo.types import Phase


def a_session(folder: Path) -> Session:
    run = RunDir(folder)
    attempt = run.attempt(1)
    attempt.path.mkdir(parents=True)
    return Session(
        run=run,
        attempt=attempt,
        config_hash="c0ffee",
        stop=StopRequest(),
        journal=Journal(Ledger(attempt.events), Heart(attempt.heartbeat)),
        store=SnapshotStore(run.snapshots_dir),
        interval=EverySeconds(float("inf")),
        environment={},
    )


def at(step: int, epoch: int, batch: int, phase: Phase) -> Position:
    return Position(step=step, epoch=epoch, batch=batch, phase=phase)


@pytest.mark.parametrize(
    ("began", "then"),
    [
        (at(0, 0, 0, Phase.TRAIN), at(0, 0, 1, Phase.TRAIN)),  # a batch that ends no optimizer step
        (at(40, 2, 8, Phase.TRAIN), at(41, 2, 9, Phase.TRAIN)),
        (at(50, 2, 10, Phase.TRAIN), at(50, 2, 10, Phase.VALIDATE)),  # resumed in validation
    ],
)
def test_the_first_move_of_an_attempt_ends_its_start_up_and_is_told_once(
    began: Position, then: Position, tmp_path: Path
) -> None:
    session = a_session(tmp_path)

    session.note_position(began)
    session.journal.settle(10)
    assert list(read_events(session.attempt.events)) == []
    session.note_position(then)
    session.note_position(at(60, 3, 0, Phase.TRAIN))

    assert session.journal.settle(10)
    told = [(event.kind, event.fields) for event in read_events(session.attempt.events)]
    assert told == [(Kind.TRAINING_STARTED, {"step": then.step})]
