"""The claim on a run, and the fence around it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from hpc_yolo.attempts import Watch, claim, is_done, is_newest
from hpc_yolo.errors import BusyError
from hpc_yolo.events import Kind, Ledger, read_events
from hpc_yolo.heartbeat import STALE_AFTER_S, Beat, Heart, is_alive, read_beat
from hpc_yolo.rundir import RunDir
from tests.edge import environment

ROOT = Path(__file__).resolve().parents[2]


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

    assert claim(run, past=1).number == 2


def test_two_starts_that_race_do_not_both_win(run: RunDir) -> None:
    watches = [Watch(run), Watch(run)]
    assert [it.look() for it in watches] == [None, None]  # as both saw it before either had made its folder

    claim(run, past=watches[0].newest)
    with pytest.raises(BusyError, match="another start"):
        claim(run, past=watches[1].newest)
    assert len(run.attempts()) == 1


@dataclass
class Elsewhere:
    """A worker on another machine, whose clock is `clock_s` ahead of ours; and how long we look at it."""

    run: RunDir
    clock_s: float = 0.0
    time: float = 1_000_000.0
    _watch: Watch = field(init=False)

    def __post_init__(self) -> None:
        claim(self.run)
        self.beat()
        self._watch = Watch(self.run, now=lambda: self.time, clock=lambda: self.time)

    def beat(self) -> None:
        record = {"pid": 1, "host": "far", "boot": "another", "time": self.time + self.clock_s}
        self.run.attempt(1).heartbeat.write_text(json.dumps(record))

    def looked_at_for(self, seconds: float, *, is_alive: bool) -> tuple[bool, bool]:
        """Whether it keeps us out, and whether that is sure, after a look of so many seconds."""
        self._watch.look()
        for _ in range(int(seconds)):
            self.time += 1
            if is_alive and self.time % 2 == 0:
                self.beat()
            taken = self._watch.look()
        return taken is not None, self._watch.is_sure


@pytest.mark.parametrize("clock_s", [-86400.0, -400.0, 0.0, 400.0, 86400.0])
def test_a_worker_elsewhere_keeps_us_out_whatever_its_clock_says(run: RunDir, clock_s: float) -> None:
    far = Elsewhere(run, clock_s)

    assert far.looked_at_for(4, is_alive=True) == (True, True)
    assert far.looked_at_for(200, is_alive=True) == (True, True)


@pytest.mark.parametrize("clock_s", [-86400.0, -400.0, 0.0, 400.0, 86400.0])
def test_a_dead_one_elsewhere_keeps_us_out_for_a_minute_at_most_whatever_its_clock_said(
    run: RunDir, clock_s: float
) -> None:
    far = Elsewhere(run, clock_s)

    assert far.looked_at_for(STALE_AFTER_S + 1, is_alive=False) == (False, True)


def test_one_that_died_long_ago_elsewhere_takes_a_glance(run: RunDir) -> None:
    far = Elsewhere(run)
    far.time += 3600

    assert far.looked_at_for(3, is_alive=False) == (True, False)
    assert far.looked_at_for(4, is_alive=False) == (False, True)


def test_one_that_dies_while_we_look_frees_the_run_a_minute_later(run: RunDir) -> None:
    far = Elsewhere(run)

    assert far.looked_at_for(30, is_alive=True) == (True, True)
    assert far.looked_at_for(STALE_AFTER_S - 5, is_alive=False) == (True, False)
    assert far.looked_at_for(10, is_alive=False) == (False, True)


@pytest.mark.parametrize(
    ("told", "keeps_us_out"),
    [
        ([(Kind.ATTEMPT_STARTED, {"role": "worker"}), (Kind.STOPPED, {"step": 3})], False),
        ([(Kind.ATTEMPT_STARTED, {"role": "supervisor"}), (Kind.STOPPED, {"step": 3})], True),
        ([(Kind.ATTEMPT_STARTED, {"role": "supervisor"}), (Kind.ATTEMPT_ENDED, {"next": "restart"})], True),
        ([(Kind.ATTEMPT_STARTED, {"role": "supervisor"}), (Kind.ATTEMPT_ENDED, {"next": "stop"})], False),
    ],
)
def test_one_elsewhere_that_told_its_end_keeps_nobody_out(
    run: RunDir, told: list[tuple[Kind, dict[str, str]]], keeps_us_out: bool
) -> None:
    far = Elsewhere(run)
    for kind, fields in told:
        Ledger(run.attempt(1).events).append(kind, **fields)

    assert far.looked_at_for(1, is_alive=False) == (keeps_us_out, not keeps_us_out)


def test_a_folder_without_a_heartbeat_keeps_us_out_while_one_may_come(run: RunDir) -> None:
    run.attempt(1).path.mkdir(parents=True)
    at = [time.time()]
    watch = Watch(run, now=lambda: at[0], clock=lambda: at[0])

    assert (watch.look() is not None, watch.is_sure) == (True, False)
    at[0] += STALE_AFTER_S
    assert watch.look() is None


def test_a_living_worker_elsewhere_with_a_wrong_clock_is_told_by_its_beats(run: RunDir, tmp_path: Path) -> None:
    """A real process that believes to be on another machine, two days ago."""
    attempt = claim(run)
    (tmp_path / "boot_id").write_text("another machine\n")
    edge = {"clock_s": -172800.0, "files": {"/proc/sys/kernel/random/boot_id": str(tmp_path / "boot_id")}}
    beats = (
        "import sys, time; from pathlib import Path; from hpc_yolo.heartbeat import Heart\n"
        "heart = Heart(Path(sys.argv[1]))\n"
        "while True: time.sleep(0.1); heart.beat()"
    )
    worker = subprocess.Popen(
        [sys.executable, "-c", beats, str(attempt.heartbeat)], env=environment(edge, [ROOT]), cwd=ROOT
    )
    try:
        deadline = time.monotonic() + 60
        while (beat := read_beat(attempt.heartbeat)) is None or beat.pid != worker.pid:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        assert (beat.boot, beat.time < time.time() - 86400) == ("another machine", True)
        with pytest.raises(BusyError, match=f"process {worker.pid}"):
            claim(run)
    finally:
        worker.kill()
        worker.wait()


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
