"""Owns the moments at which a training process is really killed (SIGKILL, by itself), and starting one that meets them.

Each attempt is a process of its own, forked from a server that has imported ultralytics and trained nothing.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from hpc_yolo.snapshot import format as file_format
from hpc_yolo.snapshot.store import SnapshotStore
from tests.lab import Lab, StopWhen, die, stop_at

_DEADLINE_S = 240


@dataclass(frozen=True)
class Death:
    """Where: `at` an event or after a method of the trainer's, or in the middle of what `set_trap` arms."""

    at: StopWhen | None = None
    set_trap: Callable[[], None] | None = None


def kill_myself() -> NoReturn:
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("SIGKILL came back")


def _is_staged(path: Path, file: str) -> bool:
    """Whether this is what is about to become `file`."""
    return path.name == file and path.parent.name.startswith(".staged.")


def in_the_middle_of(file: str, time: int) -> Callable[[], None]:
    """Half of `file` is written, for the `time`th time."""

    def set_trap() -> None:
        write, seen = Path.write_bytes, []

        def write_half(self: Path, data: Any) -> int:
            if not _is_staged(self, file):
                return write(self, data)
            seen.append(file)
            if len(seen) < time:
                return write(self, data)
            write(self, data[: len(data) // 2])
            kill_myself()

        Path.write_bytes = write_half  # type: ignore[method-assign,assignment]

    return set_trap


def in_strip_optimizer_of(file: str) -> Callable[[], None]:
    def set_trap() -> None:
        save = torch.save

        def save_half(content: Any, place: Any, *args: Any, **kwargs: Any) -> None:
            save(content, place, *args, **kwargs)
            if isinstance(place, str) and _is_staged(Path(place), file):
                os.truncate(place, Path(place).stat().st_size // 2)
                kill_myself()

        torch.save = save_half

    return set_trap


def in_the_write_of_a_snapshot() -> None:
    """Of the second, so that there is one before it."""
    write, seen = file_format.write, []

    def write_some(snapshot: Any, path: Path, is_wanted: Callable[[], bool]) -> None:
        seen.append(path)
        write(snapshot, path, is_wanted if len(seen) == 1 else kill_myself)

    file_format.write = write_some  # type: ignore[assignment]


def in_the_reading_of_a_snapshot() -> None:
    SnapshotStore.newest = lambda *_args, **_kwargs: kill_myself()  # type: ignore[method-assign]


def always(_trainer: Any) -> bool:
    return True


def in_second_epoch(trainer: Any) -> bool:
    return bool(trainer.epoch == 1 and not trainer._is_final)


#: In the second epoch, where a moment comes in every one.
DEATHS: dict[str, Death] = {
    "before the first step": Death(("on_train_start", always)),
    "in the warm-up with gradients pending": Death(stop_at(1, 0)),
    "in the middle of an epoch": Death(stop_at(1, 1)),
    "at the last batch of an epoch": Death(stop_at(1, 3)),
    "in validation": Death(("on_val_batch_end", in_second_epoch)),
    "between the csv row and last.pt": Death(("save_metrics", in_second_epoch)),
    "in the write of results.csv": Death(set_trap=in_the_middle_of("results.csv", 2)),
    "in the write of a snapshot": Death(set_trap=in_the_write_of_a_snapshot),
    "in the final evaluation": Death(("on_val_batch_end", lambda trainer: trainer._is_final)),
    "in strip_optimizer of last.pt": Death(set_trap=in_strip_optimizer_of("last.pt")),
    "in strip_optimizer of best.pt": Death(set_trap=in_strip_optimizer_of("best.pt")),
    "before the last snapshot": Death(("on_train_end", always)),
}

DEATHS_OF_A_WRITE: dict[str, Death] = {
    f"in the write of {file}": Death(set_trap=in_the_middle_of(file, 2)) for file in ("last.pt", "best.pt")
}

#: In an attempt that goes on from a snapshot.
DEATHS_OF_A_RESUME: dict[str, Death] = {
    "while the snapshot is read": Death(set_trap=in_the_reading_of_a_snapshot),
    "while the model is built": Death(("get_model", always)),
    "while the state is put back": Death(("resume_training", always)),
    "before its first batch": Death(("on_train_epoch_start", always)),
    "in its first step": Death(("optimizer_step", always)),
}


def attempt_in_a_process(lab: Lab, name: str, moment: str | None = None, **options: Any) -> int | None:
    """One attempt in a process of its own; its exit code, which is -9 where `moment` came."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hpc_yolo.exact.trainers", "hpc_yolo.snapshot.store"])
    process = context.Process(target=_attempt, args=(lab, name, moment, options))
    process.start()
    process.join(_DEADLINE_S)
    if process.is_alive():
        process.kill()
        process.join()
        raise AssertionError(f"{name} was not dead after {_DEADLINE_S} s")
    return process.exitcode


def _attempt(lab: Lab, name: str, moment: str | None, options: dict[str, Any]) -> None:
    known = {**DEATHS, **DEATHS_OF_A_WRITE, **DEATHS_OF_A_RESUME}
    death = known[moment] if moment is not None else Death()
    if death.set_trap is not None:
        death.set_trap()
    lab.attempt(name, death.at, ends=die, **options)
