"""Owns calling Slurm's commands: with a time limit, and with what they said as the error. Parses nothing but a job's id."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.types import ExitCode, JobId

#: A controller that answers later than that is taken for one that does not (seconds).
TIMEOUT_S = 20.0
_SUBMIT_TIMEOUT_S = 60.0


class SlurmError(HpcYoloError):
    """Slurm refused, or did not answer; its own words are in the message."""

    exit_code = ExitCode.BAD_CONFIG

    @property
    def gist(self) -> str:
        """The last thing that it said; a client without a cluster says a lot."""
        return re.split(r" (?=\w+: (?:error|fatal):)", str(self))[-1]


class NoSlurmError(SlurmError):
    """There is no such command here: this is no node of a cluster, or its module is not loaded."""


def run(words: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
    """What a command prints.

    Raises:
        NoSlurmError: it is not on PATH.
        SlurmError: it failed or took too long; with what it wrote to stderr.
    """
    try:
        answer = subprocess.run(
            words,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
            env=environment(),
        )
    except FileNotFoundError:
        raise missing(words[0]) from None
    except subprocess.TimeoutExpired:
        raise SlurmError(f"`{' '.join(words[:2])}` did not answer within {timeout_s:g} s. Is slurmctld up?") from None
    if answer.returncode != 0:
        said = " ".join((answer.stderr.strip() or answer.stdout.strip()).split())
        raise SlurmError(said or f"`{' '.join(words[:2])}` failed with exit code {answer.returncode}")
    return answer.stdout


def environment() -> dict[str, str]:
    """Ours, without what would filter or reword the answers of squeue and scontrol."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SQUEUE_", "SACCT_"))}
    return {**kept, "SLURM_TIME_FORMAT": "standard"}


def missing(command: str) -> NoSlurmError:
    return NoSlurmError(
        f"`{command}` is not on PATH, so there is no Slurm to talk to. Work on the cluster's login node (or load its "
        "module), or train on this machine with cluster=local."
    )


def require(command: str) -> None:
    """Raises NoSlurmError where `command` is not on PATH."""
    if shutil.which(command) is None:
        raise missing(command)


def sbatch(script: Path) -> JobId:
    """Submit a script; returns the job's id (an array's own, without an index).

    Raises:
        SlurmError: with sbatch's own words.
    """
    with _outside_of_jobs(), _as_written(script):
        said = run(["sbatch", str(script)], _SUBMIT_TIMEOUT_S)
    found = re.search(r"Submitted batch job (\d+)", said)
    if found is None:
        raise SlurmError(f"sbatch did not name a job; it said: {' '.join(said.split())!r}")
    return JobId(found[1])


def requeue_words(job: JobId) -> list[str]:
    return ["scontrol", "requeue", job]


def show_words(job: JobId) -> list[str]:
    return ["scontrol", "--oneliner", "show", "job", job]


def release(job: JobId) -> None:
    """Let a held job be scheduled again."""
    run(["scontrol", "release", job])


def cancel(jobs: Iterable[JobId], *, only_waiting: bool = False) -> None:
    """End jobs, whether they wait or run, or only those that wait; those that have ended are passed over."""
    if ids := list(jobs):
        run(["scancel", "--quiet", *(["--state=PENDING"] if only_waiting else []), *ids])


def warn(jobs: Iterable[JobId]) -> None:
    """Send SIGUSR1 to every process of the jobs' steps, as Slurm itself does before a preemption or the time limit."""
    if ids := list(jobs):
        run(["scancel", "--signal=USR1", *ids])


#: sbatch's variables that are not named like their options.
_VARIABLES = {"time": "TIMELIMIT", "array": "ARRAY_INX", "mem": "MEM_PER_NODE", "requeue": "NO_REQUEUE"}


@contextmanager
def _as_written(script: Path) -> Iterator[None]:
    """A profile's SBATCH_* variables count more than the script's own lines: for what it says, they are put aside."""
    options = re.findall(r"^#SBATCH --([a-z-]+)", script.read_text(encoding="utf-8"), flags=re.MULTILINE)
    names = {f"SBATCH_{_VARIABLES.get(option, option.replace('-', '_').upper())}" for option in options}
    aside = {name: os.environ.pop(name) for name in names if name in os.environ}
    try:
        yield
    finally:
        os.environ.update(aside)


@contextmanager
def _outside_of_jobs() -> Iterator[None]:
    """Inside a job, its SLURM_* variables would become the new job's options: sbatch reads them as its own."""
    inherited = {k: v for k, v in os.environ.items() if k.startswith(("SLURM_", "SUBMITIT_")) and k != "SLURM_CONF"}
    for name in inherited:
        del os.environ[name]
    try:
        yield
    finally:
        os.environ.update(inherited)
