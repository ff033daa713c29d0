"""Owns calling Slurm's commands: with a time limit, and with what they said as the error. Parses nothing but a job's id."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.types import ExitCode, JobId

#: A controller that answers later than that is taken for one that does not (seconds).
TIMEOUT_S = 20.0
_SUBMIT_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 0.1
_MOST_SAID = 1 << 16


class SlurmError(HpcYoloError):
    """Slurm refused, or did not answer; its own words are in the message."""

    exit_code = ExitCode.BAD_CONFIG

    @property
    def gist(self) -> str:
        """The last thing that it said; a client without a cluster says a lot."""
        return re.split(r" (?=\w+: (?:error|fatal):)", str(self))[-1]


class NoAnswerError(SlurmError):
    """It did not answer in time; what it was asked for may happen nevertheless."""


class NoSlurmError(SlurmError):
    """There is no such command here: this is no node of a cluster, or its module is not loaded."""


def run(words: Sequence[str], timeout_s: float = TIMEOUT_S) -> str:
    """What a command prints.

    Raises:
        NoSlurmError: it is not on PATH.
        NoAnswerError: it took too long.
        SlurmError: it failed; with what it wrote to stderr.
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
        raise _no_answer(words, timeout_s) from None
    if answer.returncode != 0:
        raise _failed(words, answer.returncode, answer.stderr.strip() or answer.stdout.strip())
    return answer.stdout


def _no_answer(words: Sequence[str], timeout_s: float) -> NoAnswerError:
    return NoAnswerError(f"`{' '.join(words[:2])}` did not answer within {timeout_s:g} s. Is slurmctld up?")


def _failed(words: Sequence[str], code: int, said: str) -> SlurmError:
    return SlurmError(" ".join(said.split()) or f"`{' '.join(words[:2])}` failed with exit code {code}")


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


def sbatch(script: Path, give_up_on: str | None = None) -> JobId:
    """Submit a script; returns the job's id (an array's own, without an index).

    Args:
        give_up_on: words of sbatch's between two tries of its own, with which it is taken to have refused.

    Raises:
        NoAnswerError: it may have been submitted nevertheless.
        SlurmError: with sbatch's own words.
    """
    with _outside_of_jobs(), _as_written(script):
        said = _run_impatiently(["sbatch", str(script)], _SUBMIT_TIMEOUT_S, give_up_on)
    found = re.search(r"Submitted batch job (\d+)", said)
    if found is None:
        raise SlurmError(f"sbatch did not name a job; it said: {' '.join(said.split())!r}")
    return JobId(found[1])


def test_only(script: Path) -> None:
    """Have sbatch check a script as if it were submitted; nothing is.

    Raises:
        SlurmError: with its words about what will not do.
    """
    with _outside_of_jobs(), _as_written(script):
        run(["sbatch", "--test-only", str(script)], _SUBMIT_TIMEOUT_S)


def _run_impatiently(words: Sequence[str], timeout_s: float, give_up_on: str | None) -> str:
    """As `run`, but that what it says to stderr is read while it goes on."""
    until = time.monotonic() + timeout_s
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        try:
            process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=environment())
        except FileNotFoundError:
            raise missing(words[0]) from None
        try:
            while (code := _poll(process)) is None:
                if give_up_on is not None and give_up_on in (said := _read(err)):
                    raise SlurmError(" ".join(said.split()))
                if time.monotonic() > until:
                    raise _no_answer(words, timeout_s)
        finally:
            process.kill()
            process.wait()
        if code != 0:
            raise _failed(words, code, _read(err).strip() or _read(out).strip())
        return _read(out)


def _poll(process: subprocess.Popen[bytes]) -> int | None:
    try:
        return process.wait(_LOOK_EVERY_S)
    except subprocess.TimeoutExpired:
        return None


def _read(file: IO[bytes]) -> str:
    """From its beginning, and without moving the place where the process writes on."""
    return os.pread(file.fileno(), _MOST_SAID, 0).decode(errors="replace")


def requeue_words(job: JobId) -> list[str]:
    return ["scontrol", "requeue", job]


def allow_requeue_words(job: JobId) -> list[str]:
    """For a job that was submitted with --requeue, which the site has taken back."""
    return ["scontrol", "update", f"JobId={job}", "Requeue=1"]


def show_words(job: JobId) -> list[str]:
    return ["scontrol", "--oneliner", "show", "job", job]


def release(jobs: Iterable[JobId]) -> None:
    """Let held jobs be scheduled again. One that Slurm refuses keeps none of the others."""
    if ids := list(jobs):
        run(["scontrol", "release", ",".join(ids)])


def requeue(jobs: Iterable[JobId]) -> None:
    """Have jobs that run end and wait again, each with its id. One that Slurm refuses keeps none of the others."""
    if ids := list(jobs):
        run(["scontrol", "requeue", ",".join(ids)])


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
