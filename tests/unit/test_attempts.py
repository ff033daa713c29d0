"""The claim on a run, and the fence around it."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from hpc_yolo.attempts import claim, is_done, is_newest, occupant
from hpc_yolo.errors import BusyError
from hpc_yolo.events import Kind, Ledger, read_events
from hpc_yolo.heartbeat import STALE_AFTER_S, Beat, Heart, is_alive, read_beat
from hpc_yolo.rundir import RunDir


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    it = RunDir(tmp_path)
    it.launch_yaml.write_text("exact: warn\n")
    return it


def end_claimer(run: RunDir, number: int) -> None:
    """Make the attempt that of a process that has ended."""
    dead = subprocess.Popen(["true"])
    dead.wait()
    record = json.loads(run.attempt(number).heartbeat.read_text())
    run.attempt(number).heartbeat.write_text(json.dumps({**record, "pid": dead.pid, "started": 1}))


def test_a_claim_takes_the_next_number_and_the_launch_config(run: RunDir) -> None:
    first = claim(run)
    end_claimer(run, 1)
    second = claim(run)

    assert (first.number, second.number) == (1, 2)
    assert second.launch_yaml.read_text() == "exact: warn\n"
    assert is_newest(run, second)
    assert not is_newest(run, first)


def test_a_living_attempt_keeps_others_out_unless_they_supersede(run: RunDir) -> None:
    claim(run)
    with pytest.raises(BusyError, match=f"process {os.getpid()}"):
        claim(run)

    assert claim(run, supersede=True).number == 2


def test_two_starts_that_race_do_not_both_win(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hpc_yolo.attempts.occupant", lambda _run: None)
    real = RunDir.attempts

    def stale(self: RunDir) -> list[object]:
        return []  # as both saw it before either had made its folder

    claim(run)
    monkeypatch.setattr(RunDir, "attempts", stale)
    with pytest.raises(BusyError, match="another start"):
        claim(run)
    monkeypatch.setattr(RunDir, "attempts", real)
    assert len(run.attempts()) == 1


def test_a_folder_without_a_heartbeat_counts_as_alive_while_it_is_young(run: RunDir) -> None:
    run.attempt(1).path.mkdir(parents=True)

    assert occupant(run) is not None
    assert occupant(run, now=time.time() + STALE_AFTER_S + 1) is None


def test_of_another_machine_only_the_age_of_the_beat_is_known() -> None:
    beat = Beat(pid=1, started=1, boot="another", time=1000.0)

    assert is_alive(beat, now=1000.0 + STALE_AFTER_S - 1)
    assert not is_alive(beat, now=1000.0 + STALE_AFTER_S + 1)


def test_a_beat_is_read_back_whole_however_long_it_was_before(tmp_path: Path) -> None:
    heart = Heart(tmp_path / "heartbeat")
    heart.record.loss, heart.record.phase = 0.123456789012345, "validate"
    heart.beat()
    heart.record.loss, heart.record.phase = None, "train"
    heart.record.step = 7
    heart.beat()

    beat = read_beat(tmp_path / "heartbeat")
    assert beat is not None
    assert (beat.step, beat.loss, beat.phase) == (7, None, "train")
    assert is_alive(beat)


def test_a_ledger_line_that_a_kill_cut_short_is_passed_over(run: RunDir) -> None:
    attempt = claim(run)
    Ledger(attempt.events, clock=lambda: 5.0).append(Kind.FINISHED, step=3)
    with attempt.events.open("a") as file:
        file.write('{"t": 6, "kind": "fai')

    events = list(read_events(attempt.events))
    assert [(e.kind, e.time, e.fields) for e in events] == [(Kind.FINISHED, 5.0, {"step": 3})]
    assert is_done(run)
