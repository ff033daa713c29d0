"""A real training, small enough to be run dozens of times: stopped anywhere, gone on with, and compared to the bit."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from hpc_yolo.events import Ledger
from hpc_yolo.exact.session import Session
from hpc_yolo.exact.stop import StopRequest, StopTraining
from hpc_yolo.exact.trainer import ExactMixin
from hpc_yolo.exact.trainers import TRAINERS, ExactDetectionTrainer
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.format import Snapshot
from hpc_yolo.snapshot.schedule import EverySeconds
from hpc_yolo.snapshot.store import SnapshotStore

StopWhen = tuple[str, Callable[[Any], bool]]


def stop_at(epoch: int, batch: int) -> StopWhen:
    """A stop request that arrives while `batch` (from 0) of `epoch` is trained."""
    return "on_train_batch_end", lambda trainer: trainer.epoch == epoch and trainer._batch == batch


class Plateau(ExactDetectionTrainer):
    """Its fitness only falls, as it does for a model that has stopped learning."""

    def validate(self) -> Any:
        metrics, _ = super().validate()
        fitness = 1 / (1 + self.epoch)
        self.best_fitness = 1.0
        return metrics, fitness


class Glitch(ExactDetectionTrainer):
    """Its loss is NaN at the end of the second epoch's first try: upstream loads last.pt and redoes the epoch."""

    def optimizer_step(self) -> None:
        super().optimizer_step()
        if (self.epoch, self._batch) == (1, 3) and self.nan_recovery_attempts == 0:
            self.loss = self.loss * float("nan")


class Cramped(ExactDetectionTrainer):
    """Its device has no memory for batches of four: upstream halves them and begins the first epoch again."""

    def preprocess_batch(self, batch: Any) -> Any:
        if (self.epoch, self._batch, self.batch_size) == (0, 1, 4):
            raise RuntimeError("CUDA out of memory")
        return super().preprocess_batch(batch)


@dataclass
class Lab:
    """Trains runs in this process. A run is stopped by a callback of ultralytics, which sets the stop request."""

    root: Path
    data_yaml: Path
    architecture: Path
    options: dict[str, Any] = field(default_factory=dict)
    session_options: dict[str, Any] = field(default_factory=dict)
    trainer_class: type[ExactMixin] | None = None  # in place of the one for the family and the task

    def attempt(
        self, name: str, stop: StopWhen | None = None, *, task: str = "detect", family: str = "yolo", **options: Any
    ) -> str:
        """One attempt of the run `name`, from its newest snapshot; "done" or "stopped"."""
        run = RunDir(self.root / name)
        attempt = run.attempt(len(run.attempts()) + 1)
        attempt.path.mkdir(parents=True)
        store, request = SnapshotStore(run.snapshots_dir), StopRequest()
        found = store.newest()
        session = Session(
            run=run,
            attempt=attempt,
            config_hash="lab",
            stop=request,
            ledger=Ledger(attempt.events),
            heart=Heart(attempt.heartbeat),
            store=store,
            interval=EverySeconds(float("inf")),
            environment={},
            resumed=found[1] if found else None,
            **self.session_options,
        )
        overrides = {**self._overrides(run), "task": task, **self.options, **options}
        trainer_class = self.trainer_class or TRAINERS[family, task]
        trainer = trainer_class(session=session, overrides=overrides, cpu_threads=1, streams=2)
        if stop is not None:
            event, is_time = stop
            trainer.add_callback(event, lambda it: request.note(10) if is_time(trainer) else None)
        try:
            trainer.train()
        except StopTraining:
            return "stopped"
        return "done"

    def newest(self, name: str) -> Snapshot:
        found = SnapshotStore(RunDir(self.root / name).snapshots_dir).newest()
        assert found is not None
        return found[1]

    def differences(self, first: str, second: str) -> list[str]:
        """What differs between the ends of two runs: tensors, plain state, weights files. Empty if nothing does."""
        a, b = self.newest(first), self.newest(second)
        if a.tensors.keys() != b.tensors.keys():
            return sorted(a.tensors.keys() ^ b.tensors.keys())
        found = [name for name in a.tensors if not torch.equal(a.tensors[name], b.tensors[name])]
        plain_a, plain_b = (_comparable(it.plain) for it in (a, b))
        found += [name for name in plain_a if plain_a[name] != plain_b[name]]
        found += [] if a.position == b.position else ["position"]
        for file in ("best.pt", "last.pt"):
            weights = [_weights(self.root / name / "weights" / file) for name in (first, second)]
            found += [file] if any(not torch.equal(x, y) for x, y in zip(*weights, strict=True)) else []
        return found

    def _overrides(self, run: RunDir) -> dict[str, Any]:
        return {
            "mode": "train",
            "model": str(self.architecture),
            "data": str(self.data_yaml),
            "imgsz": 64,
            "epochs": 3,
            "batch": 4,
            "nbs": 8,
            "workers": 0,
            "device": "cpu",
            "optimizer": "SGD",
            "warmup_epochs": 1.5,
            "close_mosaic": 1,
            "plots": False,
            "amp": False,
            "verbose": False,
            "project": str(run.path.parent),
            "name": run.path.name,
            "exist_ok": True,
        }


def _comparable(plain: dict[str, Any]) -> dict[str, Any]:
    rows = [line.split(",") for line in plain["results_csv"].splitlines()]
    return {k: v for k, v in plain.items() if k != "seconds"} | {"results_csv": [r[:1] + r[2:] for r in rows]}


def _weights(file: Path) -> list[torch.Tensor]:
    checkpoint = torch.load(file, weights_only=False)
    return [value for _, value in sorted(checkpoint["model"].state_dict().items())]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, scenes: Path, architecture: Path) -> Iterator[Lab]:
    """One lab a module; its run `undisturbed` is what the others are compared with."""
    with _same_environment():
        it = Lab(tmp_path_factory.mktemp("runs"), scenes, architecture)
        assert it.attempt("undisturbed") == "done"
        yield it


@pytest.fixture
def bare_lab(tmp_path: Path, scenes: Path, architecture: Path) -> Iterator[Lab]:
    """A lab of one test's own, in which nothing has been trained."""
    with _same_environment():
        yield Lab(tmp_path / "runs", scenes, architecture)


@contextmanager
def _same_environment() -> Iterator[None]:
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)
