"""Owns a campaign: runs on a real Slurm that are struck by drawn faults, one after the other, until enough were."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from hpc_yolo.events import Kind, read_events
from hpc_yolo.rundir import find_runs
from tests.chaos.conftest import hpc_yolo, wait_until
from tests.chaos.faults import FAULTS, Fault, NotNowError, Surroundings
from tests.edge import environment
from tests.slurm.conftest import ON_SLURM, SlurmRun, run_command

#: Budgets are not what is tested: their sums would end runs that are struck again and again.
_BUDGETS = (
    "retry.max_restarts=1000", "retry.max_unsaved=-1", "retry.exclude_h=0", "retry.hang_s=4", "retry.release_every_s=3",
    "retry.max_releases=20", "+retry.rules.dataloader_killed={decision:restart,fault:site}",
)  # fmt: skip
#: What each run is one of: with and without data loaders of its own, each with another seed.
_VARIANTS = (("train.workers=0", "train.seed=0"), ("train.workers=2", "train.seed=1"))
#: By how much a run's nodes may be ahead of everybody else's clock (seconds).
_CLOCKS_S = (0, 0, 0, 3600, -3600)
_PATIENCE_S = 150.0


@dataclass
class Struck:
    """One fault, and the run that it was for."""

    fault: Fault
    run: SlurmRun
    attempt: int
    at: float
    """Seconds since the epoch, by the clock of the run's nodes."""


@dataclass
class Campaign:
    """One, with what it has struck so far.

    Args:
        root: where the runs lie.
        options: the training's, as words of `hpc-yolo train`.
        at_once: how many runs are under way.
    """

    it: Surroundings
    root: Path
    options: Sequence[str]
    at_once: int = 2
    kinds: tuple[Fault, ...] = FAULTS
    say: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True)
    struck: list[Struck] = field(default_factory=list)
    runs: list[SlurmRun] = field(default_factory=list)
    twins: dict[str, SlurmRun] = field(default_factory=dict)
    doomed: SlurmRun | None = None
    clocks_s: dict[str, int] = field(default_factory=dict)
    """By how much the nodes of each run are ahead (seconds)."""
    _bag: list[Fault] = field(default_factory=list)

    def train_twins(self) -> None:
        """Each variant once, here and undisturbed."""
        for number, variant in enumerate(_VARIANTS):
            name = f"twin{number}"
            answer = hpc_yolo("train", *self.options, *variant, f"name={name}", f"runs_dir={self.root}")
            assert answer.returncode == 0, answer.stdout + answer.stderr
            (run,) = find_runs(self.root / name)
            self.twins[run.path.name] = SlurmRun(run)

    def strike(self, faults: int, seconds: float) -> None:
        """As many as that, or for so long; each kind once before one comes again."""
        until = time.monotonic() + seconds
        while len(self.struck) < faults and time.monotonic() < until:
            self._refill()
            run = self._one_that_trains()
            if run is not None:
                self._strike(self._draw(), run)

    def finish(self) -> None:
        """Let every run come to its end; what Slurm holds or has dropped is freed as a user would."""
        until = time.monotonic() + _PATIENCE_S
        while (left := self._unfinished()) and time.monotonic() < until:
            hpc_yolo("status", "--heal", "--runs-dir", str(self.root))
            time.sleep(1.0)
        for run in left:
            self.say(f"not done: {run.status()}\n{run.last_words()}")
        wait_until(lambda: not run_command("squeue", "--noheader"), "an empty queue", pause_s=0.5)

    def doom(self) -> None:
        """A run that fails at the same place each time, on whichever node: it must end, and say so."""
        edge = environment({"raise_always_on": [".safetensors", "a bug in this training"]})
        self.doomed = self._submit("doomed", _VARIANTS[0], edge, "retry.max_restarts=2")

    def _submit(self, name: str, variant: Sequence[str], env: dict[str, str], *more: str) -> SlurmRun:
        words = [*self.options, *variant, f"name={name}", f"runs_dir={self.root}", *ON_SLURM, *_BUDGETS, *more]
        answer = hpc_yolo("train", *words, env=env)
        assert answer.returncode == 0, answer.stdout + answer.stderr
        (run,) = find_runs(self.root / name)
        return SlurmRun(run)

    def _refill(self) -> None:
        while len(self._unfinished()) < self.at_once:
            number = len(self.runs)
            clock_s = self.it.drawn.choice(_CLOCKS_S)
            edge = environment({"clock_s": clock_s} if clock_s else None)
            self.runs.append(self._submit(f"run{number:03d}", _VARIANTS[number % len(_VARIANTS)], edge))
            self.clocks_s[self.runs[-1].path] = clock_s

    def _unfinished(self) -> list[SlurmRun]:
        return [run for run in self.runs if not run.events(Kind.FINISHED)]

    def _one_that_trains(self) -> SlurmRun | None:
        """One that has made a step since it came back; None where all have ended meanwhile."""
        until = time.monotonic() + _PATIENCE_S
        healed_at = time.monotonic()
        while time.monotonic() < until:
            unfinished = self._unfinished()
            training = [run for run in unfinished if _is_under_way(run)]
            if training:
                return self.it.drawn.choice(training)
            if len(unfinished) < self.at_once:
                return None
            if time.monotonic() > healed_at + 20:  # as somebody would who looks in now and then
                hpc_yolo("status", "--heal", "--runs-dir", str(self.root))
                healed_at = time.monotonic()
            time.sleep(0.05)
        raise AssertionError("\n".join(f"{run.status()}\n{run.last_words()}" for run in self._unfinished()))

    def _draw(self) -> Fault:
        if not self._bag:
            self._bag = [it for it in self.kinds if self.it.storage is not None or not it.needs_storage]
            self.it.drawn.shuffle(self._bag)
        return self._bag.pop()

    def _strike(self, fault: Fault, run: SlurmRun) -> None:
        entry = Struck(fault, run, len(run.dir.attempts()), time.time() + self.clocks_s[run.path])
        try:
            fault.strike(self.it, run)
        except (NotNowError, ProcessLookupError):
            return
        except AssertionError as error:
            if run.events(Kind.FINISHED):  # it was quicker
                return
            raise AssertionError(f"{fault.name}, {run.path}: {error}\n{run.last_words()}") from error
        self.struck.append(entry)
        self.say(f"{len(self.struck)}: {fault.name}, {run.dir.path.parent.name}, attempt {entry.attempt}")


def _is_under_way(run: SlurmRun) -> bool:
    attempts = run.dir.attempts()
    if not attempts or run.beat().phase != "train":
        return False
    newest = read_events(attempts[-1].events)
    is_leaving = newest.last(Kind.STOP_REQUESTED, Kind.FAILED, Kind.ATTEMPT_ENDED) is not None
    return newest.first(Kind.TRAINING_STARTED) is not None and not is_leaving
