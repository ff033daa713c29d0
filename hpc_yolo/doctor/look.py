"""Owns the whole look, in its order: what Slurm says, the storage, and what is measured where a run would be trained."""

from __future__ import annotations

import secrets
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median

from hpc_yolo.config import Config
from hpc_yolo.doctor import probe
from hpc_yolo.doctor.answer import ANSWER, NONCE, Answer, read_answer
from hpc_yolo.doctor.cluster import Site, look_at_cluster
from hpc_yolo.doctor.finding import Finding, bad, note, warn, well
from hpc_yolo.doctor.limits import examine_epoch
from hpc_yolo.doctor.place import Here, examine_place, examine_writes
from hpc_yolo.doctor.storage import examine_storage, look_at_storage
from hpc_yolo.doctor.tiny_job import Outcome, run_tiny_job, try_submission
from hpc_yolo.errors import DataError
from hpc_yolo.result_rows import read_rows
from hpc_yolo.slurm.commands import SlurmError
from hpc_yolo.submit.resolve import resolve_weights
from hpc_yolo.trust import make_private

_HERE_S = 600.0
_RUNS_READ = 20


@dataclass(frozen=True, slots=True)
class Options:
    """How thorough the look is to be."""

    may_submit: bool = True
    deadline_s: float = 300.0
    """How long the tiny job may wait and run."""
    write_mb: float = 200.0
    may_use_internet: bool = True


def look(config: Config, options: Options, tell: Callable[[str], None]) -> list[Finding]:
    """Everything about what `config` asks for.

    Args:
        tell: gets a line when something takes a while.
    """
    is_for_slurm = config.cluster.kind == "slurm"
    site = look_at_cluster(config.cluster) if is_for_slurm else Site(is_there=False)
    runs_dir = Path(config.runs_dir).expanduser().absolute()
    epoch_s = seconds_of_an_epoch(runs_dir / config.name)
    epoch = examine_epoch(epoch_s, site.limit_min, config.cluster.signal_delay_s)
    measured = _measure(config, runs_dir, options, site, tell)
    storage = examine_storage(
        look_at_storage(runs_dir),
        is_for_slurm=is_for_slurm,
        snapshot_bytes=round(options.write_mb * 1e6),
        snapshots=config.snapshot.keep,
        seen_on=site.seen_on,
    )
    return [*site.findings, *epoch, *storage, *measured]


def seconds_of_an_epoch(experiment: Path) -> float | None:
    """By the newest results of the experiment's runs; a resumed attempt counts its time from 0 again."""
    newest = sorted(experiment.glob("*/results.csv"), key=lambda it: it.stat().st_mtime)[-_RUNS_READ:]
    taken = []
    for file in newest:
        times = [row["time"] for _, row in sorted(read_rows(file).items()) if "time" in row]
        taken += [later - earlier for earlier, later in pairwise(times) if later > earlier]
    return median(taken) if taken else None


def _measure(
    config: Config, runs_dir: Path, options: Options, site: Site, tell: Callable[[str], None]
) -> list[Finding]:
    try:
        with _folder(runs_dir) as folder:
            here = Here(
                nonce=(folder / NONCE).read_text(encoding="utf-8"),
                versions=probe.versions(),
                clock_s=probe.clock_ahead_s(folder),
            )
            if config.cluster.kind != "slurm":
                tell("importing torch, and measuring how fast runs_dir is")
                return _measured_here(config, folder, options, here)
            if site.is_there and options.may_submit:
                return _on_a_node(config, folder, options, here, site, tell)
            skipped = note("tiny job", "none, so nothing is known of a compute node", "Run it without --no-job.")
            return [*([skipped] if site.is_there else []), *_written_here(config, folder, options, site)]
    except OSError as error:
        said = f"{error.filename or runs_dir}: {error.strerror}"
        return [bad("write", said, "Set runs_dir to a folder that you may write.")]


def _on_a_node(
    config: Config, folder: Path, options: Options, here: Here, site: Site, tell: Callable[[str], None]
) -> list[Finding]:
    found = [_accepted(config, folder)]
    words = _words(folder, options, _weights(config))
    try:
        outcome = run_tiny_job(config.cluster, folder, words, options.deadline_s, tell)
    except SlurmError as error:
        advice = "Mend what Slurm names; until then no run is taken either."
        return [*found, bad("tiny job", error.gist, advice), *_written_here(config, folder, options, site)]
    found.append(_job(outcome, options))
    if outcome.answer is None:
        return [*found, *_written_here(config, folder, options, site)]
    if outcome.answer.nonce == here.nonce and outcome.answer.host != socket.gethostname():
        site.seen_on = outcome.answer.host
    place = examine_place(outcome.answer, here, config.cluster)
    writes = examine_writes(
        outcome.answer, config.cluster, options.write_mb, site.grace_s, where=f"on {outcome.answer.host}"
    )
    return [*found, *place, *writes]


def _accepted(config: Config, folder: Path) -> Finding:
    try:
        try_submission(config.cluster, folder)
    except SlurmError as error:
        return bad(
            "submission",
            f"refused as asked for: {error.gist}",
            "Mend what it names in cluster.*; where nodes are only down, a job still waits for them.",
        )
    return well("submission", "Slurm takes a job as asked for (sbatch --test-only)")


def _job(outcome: Outcome, options: Options) -> Finding:
    job = outcome.job
    if outcome.answer is not None:
        if job is not None and not job.may_requeue:
            said = "it asked for --requeue, and the site took that back"
            return warn("tiny job", said, "Runs undo that when they are handed back. Ask your site to allow requeues.")
        return well("tiny job", f"ran on {outcome.answer.host}; it may be requeued")
    state = "not known to Slurm" if job is None else f"{job.state} ({job.reason})" if job.reason else job.state
    if outcome.is_late:
        said = f"{state} after {options.deadline_s:g} s; cancelled"
        return warn("tiny job", said, "Nothing is known of a compute node: try again later, or with --deadline 3600.")
    said = f"{state} without an answer: {outcome.log or 'and without a word'}"
    return bad("tiny job", said, "Does the node see runs_dir, and this Python? See cluster.setup.")


def _measured_here(config: Config, folder: Path, options: Options, here: Here) -> list[Finding]:
    answer = _ask_here(folder, _words(folder, options, _weights(config)))
    if answer is None:
        return [bad("python", f"{sys.executable} cannot run the probe", "Install hpc-yolo again.")]
    writes = examine_writes(answer, config.cluster, options.write_mb, None, where="here")
    return [*examine_place(answer, here, config.cluster), *writes]


def _written_here(config: Config, folder: Path, options: Options, site: Site) -> list[Finding]:
    """Better than nothing: the storage is the same, the way to it may not be."""
    answer = _ask_here(folder, [*_words(folder, options, None), "--only-write"])
    if answer is None:
        return []
    return examine_writes(answer, config.cluster, options.write_mb, site.grace_s, where="on this machine")


def _ask_here(folder: Path, words: list[str]) -> Answer | None:
    with suppress(subprocess.TimeoutExpired):
        subprocess.run(words, capture_output=True, timeout=_HERE_S, check=False)
    return read_answer(folder)


def _words(folder: Path, options: Options, weights: str | None) -> list[str]:
    words = [sys.executable, "-m", "hpc_yolo.doctor.probe", str(folder), f"--write-mb={options.write_mb:g}"]
    words += ["--internet"] if options.may_use_internet else []
    return words + ([f"--file={weights}"] if weights else [])


def _weights(config: Config) -> str | None:
    """The start weights, where a file of them is on this machine: a submission freezes its place."""
    try:
        place, _ = resolve_weights(config.model.weights, may_download=False)
    except DataError:
        return None
    return place if Path(place).is_file() else None


@contextmanager
def _folder(runs_dir: Path) -> Iterator[Path]:
    """A folder of the probe's own, which is gone afterwards; so is runs_dir, if it was not there."""
    is_new = not runs_dir.exists()
    folder = runs_dir / f".doctor-{secrets.token_hex(4)}"
    make_private(folder)
    try:
        (folder / NONCE).write_text(secrets.token_hex(16), encoding="utf-8")
        (folder / ANSWER).touch()
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if is_new:
            with suppress(OSError):
                runs_dir.rmdir()
