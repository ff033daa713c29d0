"""Owns every file name inside a run directory; nothing else spells one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_ATTEMPT = re.compile(r"^\d{3,}$")


@dataclass(frozen=True, slots=True)
class AttemptDir:
    """The files of one attempt: one start of a run."""

    path: Path

    @property
    def number(self) -> int:
        return int(self.path.name)

    @property
    def launch_yaml(self) -> Path:
        return self.path / "launch.yaml"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def stdout(self) -> Path:
        return self.path / "stdout.log"

    @property
    def stderr(self) -> Path:
        return self.path / "stderr.log"

    @property
    def environment(self) -> Path:
        return self.path / "environment.json"

    @property
    def data_yaml(self) -> Path:
        """The frozen data set YAML, as a file for ultralytics to read."""
        return self.path / "data.yaml"

    @property
    def heartbeat(self) -> Path:
        return self.path / "heartbeat"


@dataclass(frozen=True, slots=True)
class RunDir:
    """One run on shared storage. Holds names only; reading and writing is done by the modules that own the content."""

    path: Path

    @property
    def run_yaml(self) -> Path:
        """Frozen config of what decides the weights, with its hash."""
        return self.path / "run.yaml"

    @property
    def launch_yaml(self) -> Path:
        """What the next attempt is to be launched with; copied into the attempt that takes it."""
        return self.path / "launch.yaml"

    @property
    def jobs(self) -> Path:
        """Ledger of the scheduler's jobs that the run was submitted as."""
        return self.path / "jobs.jsonl"

    @property
    def submit_lock(self) -> Path:
        return self.path / ".submit.lock"

    @property
    def attempts_dir(self) -> Path:
        return self.path / "attempts"

    @property
    def snapshots_dir(self) -> Path:
        return self.path / "snapshots"

    @property
    def weights_dir(self) -> Path:
        return self.path / "weights"

    @property
    def results_csv(self) -> Path:
        return self.path / "results.csv"

    @property
    def submitit_dir(self) -> Path:
        """Beside the runs of the same experiment: one folder per submission, made by submitit."""
        return self.path.parent / "submitit"

    def attempt(self, number: int) -> AttemptDir:
        return AttemptDir(self.attempts_dir / f"{number:03d}")

    def attempts(self) -> list[AttemptDir]:
        """All attempts, oldest first; empty before the first start."""
        try:
            names = os.listdir(self.attempts_dir)
        except FileNotFoundError:
            return []
        return [self.attempt(n) for n in sorted(int(name) for name in names if _ATTEMPT.match(name))]

    def is_run(self) -> bool:
        return self.run_yaml.is_file()


def find_runs(root: Path) -> Iterator[RunDir]:
    """Yield every run directory at or below `root`, at most two folders down (<runs_dir>/<experiment>/<run id>)."""
    if RunDir(root).is_run():
        yield RunDir(root)
        return
    for depth in ("*/run.yaml", "*/*/run.yaml"):
        for file in sorted(root.glob(depth)):
            if not file.parent.name.startswith("."):  # one that is just being made
                yield RunDir(file.parent)


def fsync_file(path: Path) -> None:
    """Make the content of `path` durable."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_dir(path: Path) -> None:
    """Make a rename in `path` durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def atomic_file(final: Path) -> Iterator[Path]:
    """Give a temporary path beside `final`; on a clean exit it becomes `final`, durably, by rename.

    A kill on any line leaves the old content of `final` whole; the leftover temporary is overwritten by the next writer.
    """
    temporary = final.with_name(f".{final.name}.tmp")
    yield temporary
    fsync_file(temporary)
    os.rename(temporary, final)  # same folder: atomic on POSIX, Lustre and NFS
    fsync_dir(final.parent)


def write_text_atomic(final: Path, text: str) -> None:
    with atomic_file(final) as temporary:
        temporary.write_text(text, encoding="utf-8")
