"""Owns a real training, small enough to be run dozens of times: interrupted anywhere, gone on with, compared to the bit."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from hpc_yolo.events import Ledger
from hpc_yolo.exact.journal import Journal
from hpc_yolo.exact.session import Session
from hpc_yolo.exact.stop import StopRequest, StopTraining
from hpc_yolo.exact.trainer import ExactMixin
from hpc_yolo.exact.trainers import TRAINERS, ExactDetectionTrainer
from hpc_yolo.heartbeat import Heart
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.format import Snapshot
from hpc_yolo.snapshot.schedule import EverySeconds
from hpc_yolo.snapshot.store import SnapshotStore
from hpc_yolo.staging import take_over

#: An event of ultralytics, or the name of a trainer's method, after which it is; and whether it is that time.
StopWhen = tuple[str, Callable[[Any], bool]]


def stop_at(epoch: int, batch: int) -> StopWhen:
    """A stop request that arrives while `batch` (from 0) of `epoch` is trained."""
    return "on_train_batch_end", lambda trainer: trainer.epoch == epoch and trainer._batch == batch


class Killed(Exception):  # noqa: N818 (not an error)
    """Ends an attempt as a kill does, where a stop request would be too kind: nothing of ours runs after it."""


def ask_to_stop(request: StopRequest) -> None:
    request.note(signal.SIGUSR1)


def give_up(_request: StopRequest) -> None:
    raise Killed


def die(_request: StopRequest) -> None:
    """For an attempt in a process of its own."""
    os.kill(os.getpid(), signal.SIGKILL)


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
    """Trains runs in this process. A run is interrupted by a callback of ultralytics, or after a method of the trainer's."""

    root: Path
    data_yaml: Path
    architecture: Path
    options: dict[str, Any] = field(default_factory=dict)
    session_options: dict[str, Any] = field(default_factory=dict)
    trainer_class: type[ExactMixin] | None = None  # in place of the one for the family and the task

    def attempt(
        self,
        name: str,
        stop: StopWhen | None = None,
        *,
        task: str = "detect",
        family: str = "yolo",
        ends: Callable[[StopRequest], None] = ask_to_stop,
        **options: Any,
    ) -> str:
        """One attempt of the run `name`, from its newest snapshot; "done", "stopped" or "killed".

        Args:
            ends: what happens at `stop`.
        """
        run = RunDir(self.root / name)
        session = self._session(run)
        overrides = {**self._overrides(run), "task": task, **self.options, **options}
        trainer_class = self.trainer_class or TRAINERS[family, task]
        trainer = trainer_class(session=session, overrides=overrides, cpu_threads=1, streams=2)
        if stop is not None:
            event, is_time = stop
            _follow(trainer, event, lambda: ends(session.stop) if is_time(trainer) else None)
        try:
            trainer.train()
        except StopTraining:
            return "stopped"
        except Killed:
            session.settle(within_s=10)  # in this process the writer lives on: it shall not meet the next attempt
            return "killed"
        session.close()
        return "done"

    def newest(self, name: str) -> Snapshot:
        found = SnapshotStore(RunDir(self.root / name).snapshots_dir).newest()
        assert found is not None
        return found[1]

    def differences(self, first: str, second: str) -> list[str]:
        """What differs between the ends of two runs: tensors, plain state, files. Empty if nothing does."""
        a, b = self.newest(first), self.newest(second)
        if a.tensors.keys() != b.tensors.keys():
            return sorted(a.tensors.keys() ^ b.tensors.keys())
        found = [name for name in a.tensors if not is_same(a.tensors[name], b.tensors[name])]
        plain_a, plain_b = (_comparable(it.plain) for it in (a, b))
        found += [name for name in plain_a if json.dumps(plain_a[name]) != json.dumps(plain_b[name])]  # NaN is NaN
        found += [] if a.position == b.position else ["position"]
        rows = [without_time(results_of(self.root / name)) for name in (first, second)]
        found += [] if rows[0] == rows[1] else ["the file results.csv"]
        for file in ("best.pt", "last.pt"):
            found += differences_of_weights(*(self.root / name / "weights" / file for name in (first, second)))
        return found

    def _session(self, run: RunDir) -> Session:
        attempt = run.attempt(len(run.attempts()) + 1)
        attempt.path.mkdir(parents=True)
        for folder in (run.path, run.snapshots_dir, run.weights_dir):
            take_over(folder, attempt.number)  # as a worker begins
        store = SnapshotStore(run.snapshots_dir)
        found = store.newest()
        return Session(
            **{
                "run": run,
                "attempt": attempt,
                "config_hash": "lab",
                "stop": StopRequest(),
                "journal": Journal(Ledger(attempt.events), Heart(attempt.heartbeat)),
                "store": store,
                "interval": EverySeconds(float("inf")),
                "environment": {},
                "resumed": found[1] if found else None,
                **self.session_options,
            }
        )

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


def is_same(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Whether the bits are: NaN equals itself, and 0 differs from -0."""
    if (a.dtype, a.shape) != (b.dtype, b.shape):
        return False
    bits = [it.detach().reshape(-1).contiguous().view(torch.uint8) for it in (a, b)]
    return torch.equal(*bits)


def results_of(run: Path) -> str:
    file = run / "results.csv"
    return file.read_text(encoding="utf-8") if file.exists() else ""


def without_time(results: str) -> list[list[str]]:
    rows = [line.split(",") for line in results.splitlines()]
    return [row[:1] + row[2:] for row in rows]


def differences_of_weights(first: Path, second: Path) -> list[str]:
    """How two of ultralytics' checkpoints differ in what they were trained to, and in what they tell of the training."""
    if first.exists() != second.exists():
        return [f"{first.name} is there once only"]
    if not first.exists():
        return []
    a, b = (torch.load(file, weights_only=False) for file in (first, second))
    tensors_a, tensors_b = (it["model"].state_dict() for it in (a, b))
    found = [key for key in sorted(tensors_a.keys() | tensors_b.keys()) if not _is_in_both(tensors_a, tensors_b, key)]
    found += [key for key in ("epoch", "best_fitness", "optimizer") if a[key] != b[key]]
    found += [key for key in ("train_metrics", "train_results") if _told(a[key]) != _told(b[key])]
    return [f"{first.name}: {it}" for it in found]


@contextmanager
def same_environment() -> Iterator[None]:
    """Undo what ultralytics sets in the environment."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def _follow(trainer: ExactMixin, event: str, act: Callable[[], None]) -> None:
    if event.startswith("on_"):
        trainer.add_callback(event, lambda _trainer: act())
        return
    method = getattr(trainer, event)

    def followed(*args: Any, **kwargs: Any) -> Any:
        result = method(*args, **kwargs)
        act()
        return result

    setattr(trainer, event, followed)


def _comparable(plain: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in plain.items() if k != "seconds"} | {"results_csv": without_time(plain["results_csv"])}


def _is_in_both(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], key: str) -> bool:
    return key in first and key in second and is_same(first[key], second[key])


def _told(values: dict[str, Any] | None) -> str:
    return json.dumps({k: v for k, v in (values or {}).items() if k != "time"}, default=float)
