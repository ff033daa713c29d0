"""Workers that a newer attempt has taken over from: stopped, cut off, with a wrong clock. They change nothing any more."""

from __future__ import annotations

import csv
import random
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from hpc_yolo.attempts import claim
from hpc_yolo.events import Kind, read_events
from hpc_yolo.heartbeat import read_beat
from hpc_yolo.processes import read_stat
from hpc_yolo.snapshot.reading import read_raw
from tests.chaos.conftest import DEADLINE_S, Factory, Run, assert_same_bits, wait_until

#: What a zombie stops itself right before; the path is the new name of what is published, or of what is pruned.
MOMENTS = {
    "a snapshot is written, not yet committed": ("rename", ".safetensors"),
    "last.pt is written, not yet published": ("rename", "/last.pt"),
    "best.pt is about to be written": ("open", "/best.pt"),
    "results.csv is written, not yet published": ("rename", "/results.csv"),
}
_CLOCKS_S = (-86400.0, -400.0, 0.0, 400.0, 86400.0)
#: A zombie is told within the pulse; the rest is for a machine that is busy with two workers.
_GONE_WITHIN_S = 20


@dataclass
class Zombie:
    attempt: int
    process: subprocess.Popen[str]
    is_blind: bool = False


def is_stopped(process: subprocess.Popen[str]) -> bool:
    assert process.poll() is None, f"ended with {process.returncode} before it was stopped"
    return (read_stat(process.pid) or "?")[0] in "Tt"


def step_of(run: Run, attempt: int) -> int:
    beat = read_beat(run.dir.attempt(attempt).heartbeat)
    return beat.step if beat is not None and beat.phase != "start" else 0


def start_next(run: Run, edge: dict[str, Any] | None = None) -> Zombie:
    """Start the next attempt as a supervisor does that knows the one before to be given up."""
    number = claim(run.dir, past=len(run.dir.attempts())).number
    return Zombie(number, run.start("--attempt", str(number), edge=edge), is_blind=bool(edge and edge.get("blind")))


def start_and_stop(run: Run, moment: str | None, steps: int, edge: dict[str, Any]) -> Zombie:
    """An attempt that stops at a moment of its own, or is stopped `steps` after the one before it."""
    before = max([0, *(step_of(run, it.number) for it in run.dir.attempts())])
    if moment is not None:
        edge = {**edge, "stop_before": [*MOMENTS[moment], 1 + steps % 2]}
    zombie = start_next(run, edge)
    if moment is None:
        wait_until(lambda: step_of(run, zombie.attempt) >= min(before + steps, 50), "steps of a zombie to be", 0.002)
        zombie.process.send_signal(signal.SIGSTOP)
    wait_until(lambda: is_stopped(zombie.process), f"the stop ({moment})")
    return zombie


def let_go_on(run: Run, zombie: Zombie) -> None:
    """Back to life, it ends by itself, and says why."""
    zombie.process.send_signal(signal.SIGCONT)
    assert zombie.process.wait(_GONE_WITHIN_S) == 73
    events = list(read_events(run.dir.attempt(zombie.attempt).events))
    assert (events[-1].kind, events[-1].fields["exit_code"]) == (Kind.FAILED, 73)
    assert "superseded by a newer one" in events[-1].fields["error"]


def assert_whole(run: Run, undisturbed: Run) -> None:
    """To the bit what the undisturbed run is, and nothing else lies about."""
    assert_same_bits(run, undisturbed)
    for file in run.dir.snapshots_dir.glob("step-*"):
        read_raw(file)
    with run.dir.results_csv.open(newline="") as file:
        assert [row["epoch"].strip() for row in csv.DictReader(file)] == ["1", "2", "3", "4"]
    assert not list(run.dir.path.rglob(".staged.*"))
    assert not list(run.dir.snapshots_dir.glob("*.bad"))
    assert run.status()["state"] == "done"


@contextmanager
def telling(seed: int) -> Iterator[random.Random]:
    try:
        yield random.Random(seed)
    except BaseException:
        print(f"seed {seed}")
        raise


def besiege(small: Factory, undisturbed: Run, name: str, moments: list[str | None], seed: int) -> None:
    """One zombie after another, all of the same run; some go on beside the last attempt, others when it has ended."""
    with telling(seed) as dice:
        run = small(name)
        edge = lambda: {"clock_s": dice.choice(_CLOCKS_S)}  # noqa: E731
        zombies = [start_and_stop(run, moment, dice.randint(3, 12), edge()) for moment in moments]
        last = start_next(run, edge())
        late = [it for it in zombies if dice.random() < 0.5]
        for zombie in zombies:
            if zombie not in late:
                target = dice.randint(1, 60)
                wait_until(lambda target=target: step_of(run, last.attempt) >= target, f"step {target}", 0.002)
                let_go_on(run, zombie)
        assert last.process.wait(DEADLINE_S) == 0
        for zombie in late:
            let_go_on(run, zombie)

        assert_whole(run, undisturbed)


def test_zombies_that_were_stopped_in_mid_publish_change_nothing(small: Factory, undisturbed: Run) -> None:
    besiege(small, undisturbed, "besieged", list(MOMENTS)[:2], seed=1)


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(20))
def test_zombies_of_every_kind_change_nothing(small: Factory, undisturbed: Run, seed: int) -> None:
    dice = random.Random(seed)
    moments = [*dice.sample(list(MOMENTS), 2), None, None]
    dice.shuffle(moments)
    besiege(small, undisturbed, f"besieged {seed}", moments, seed)


def cut_off(small: Factory, undisturbed: Run, name: str, seed: int) -> None:
    """Two workers train at the same time. The older one's storage never shows it the newer attempt: it is never told."""
    with telling(seed) as dice:
        run = small(name)
        zombie = start_next(run, {"clock_s": dice.choice(_CLOCKS_S), "blind": True})
        target = dice.randint(1, 20)
        wait_until(lambda: step_of(run, 1) >= target, f"step {target}", 0.002)
        zombie.process.send_signal(signal.SIGSTOP)
        last = start_next(run)
        wait_until(lambda: step_of(run, 2) >= 1, "the newer attempt's first step", 0.002)
        zombie.process.send_signal(signal.SIGCONT)

        assert last.process.wait(DEADLINE_S) == 0
        assert zombie.process.wait(DEADLINE_S) == 73
        assert_whole(run, undisturbed)


def test_a_worker_that_is_cut_off_and_trains_on_changes_nothing(small: Factory, undisturbed: Run) -> None:
    cut_off(small, undisturbed, "cut off", seed=1)


@pytest.mark.matrix
@pytest.mark.parametrize("seed", range(2, 12))
def test_workers_that_are_cut_off_at_random_moments_change_nothing(small: Factory, undisturbed: Run, seed: int) -> None:
    cut_off(small, undisturbed, f"cut off {seed}", seed)
