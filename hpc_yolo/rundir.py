"""Owns every file name inside a run directory; nothing else spells one."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.small_files import read_each

_ASIDE = ".before-"
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
    def rendezvous(self) -> Path:
        """Where rank 0 waits for the others: host and port, as JSON."""
        return self.path / "rendezvous.json"

    def node_report(self, node: int) -> Path:
        """What a node other than the first has lost, as JSON."""
        return self.path / f"node{node:03d}.json"

    def rank_log(self, rank: int) -> Path:
        """What a rank other than 0 says."""
        return self.path / f"rank{rank:03d}.log"

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
    def tracking_json(self) -> Path:
        """By what key trackers know the run, as JSON."""
        return self.path / "tracking.json"

    @property
    def tensorboard_dir(self) -> Path:
        return self.path / "tensorboard"

    @property
    def submitit_dir(self) -> Path:
        """Beside the runs of the same experiment: one folder per submission, made by submitit."""
        return submitit_dir(self.path.parent)

    def attempt(self, number: int) -> AttemptDir:
        return AttemptDir(self.attempts_dir / f"{number:03d}")

    def attempts(self) -> list[AttemptDir]:
        """All attempts, oldest first; empty before the first start."""
        folder = self.attempts_dir
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        return [AttemptDir(folder / f"{n:03d}") for n in sorted(int(name) for name in names if _ATTEMPT.match(name))]

    def aside(self, moment: str) -> Path:
        """Where it is moved to when it is done and to be trained anew; no run of the experiment any more."""
        return self.path.with_name(f"{self.path.name}{_ASIDE}{moment}")

    def is_run(self) -> bool:
        return self.run_yaml.is_file()


def sweep_of(run: RunDir) -> str:
    """The name of the folder that it shares with the other runs of its sweep."""
    return run.path.parent.name or run.path.absolute().parent.name


def find_runs(root: Path) -> Iterator[RunDir]:
    """Yield every run directory at or below `root`, at most two folders down (<runs_dir>/<experiment>/<run id>)."""
    if RunDir(root).is_run():
        yield RunDir(root)
        return
    others = []
    for run, is_run in _entries(root):
        if not is_run:
            others.append(run.path)
        elif _is_listed(run):
            yield run
    for path in others:
        yield from runs_of(path)


def put_aside_of(run: RunDir) -> list[RunDir]:
    """What was moved out of the way of this run when it was trained anew."""
    begins = f"{run.path.name}{_ASIDE}"
    return [it for it, is_run in _entries(run.path.parent) if is_run and it.path.name.startswith(begins)]


def invocations_dir(experiment: Path) -> Path:
    """Beside the runs of an experiment: what each `hpc-yolo train` was asked for."""
    return experiment / "invocations"


def submitit_dir(experiment: Path) -> Path:
    return experiment / "submitit"


def sick_nodes(experiment: Path) -> Path:
    """Beside the runs of an experiment: the nodes that they stay off for a while."""
    return experiment / "sick_nodes.jsonl"


def submit_lock(experiment: Path) -> Path:
    """Held by whoever is just submitting runs of an experiment."""
    return submitit_dir(experiment) / ".lock"


def look_mark(experiment: Path) -> Path:
    """Touched when somebody has looked for runs of an experiment that Slurm holds."""
    return submitit_dir(experiment) / ".looked"


def report_html(folder: Path) -> Path:
    """The page about a run, or about all runs below a folder."""
    return folder / "report.html"


def runs_of(experiment: Path) -> Iterator[RunDir]:
    """Yield the run directories right below a folder, which the runs of one experiment share."""
    return (run for run, is_run in _entries(experiment) if is_run and _is_listed(run))


def _is_listed(run: RunDir) -> bool:
    """Not one that is just being made, or was put aside."""
    return not run.path.name.startswith(".") and _ASIDE not in run.path.name


def _entries(folder: Path) -> Iterator[tuple[RunDir, bool]]:
    """All that lies right below it, sorted, and whether it is a run: one question each, and none about what lies in a run."""
    try:
        names = sorted(os.listdir(folder))
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return iter(())
    return read_each(lambda run: (run, run.is_run()), [RunDir(folder / name) for name in names])


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
