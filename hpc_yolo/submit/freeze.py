"""Owns turning a composed config into a run on disk: resolved, hashed, and there all at once or not at all."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hpc_yolo import train_args
from hpc_yolo.attempts import occupant
from hpc_yolo.config import Config, DataConfig, Exact, ModelConfig
from hpc_yolo.errors import BusyError, ConfigError, StorageError
from hpc_yolo.frozen import FrozenRun, Launch, canonical, launch_text, load_run, run_text, write_launch
from hpc_yolo.rundir import RunDir, fsync_dir, write_text_atomic
from hpc_yolo.submit.identity import run_id
from hpc_yolo.submit.parent import start_of
from hpc_yolo.submit.ranks import check_ranks, check_sharing
from hpc_yolo.submit.resolve import ResolvedData, ResolvedModel, resolve_data, resolve_model, resolve_train_files
from hpc_yolo.track.tracker import check_trackers
from hpc_yolo.trust import make_private

#: In the names of a job's log files.
_SLURM_READS = "%\\"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a submission asks for: the run's place, its frozen config, and what its next attempt is launched with."""

    run: RunDir
    frozen: FrozenRun
    launch: Launch


def plan(config: Config, found: dict[str, Any] | None = None) -> Plan:
    """Resolve a config. Writes nothing but a demonstration data set that is not there yet.

    Args:
        found: what other points of the same sweep were resolved to, and where this one adds to it. Digests read every file
            of a data set's listing and every byte of the weights, which a thousand points would do a thousand times.

    Raises:
        ConfigError: a training argument or the place is wrong, or a tracker's package or address is missing.
        DataError: the weights or the data set are not there.
    """
    experiment = Path(config.runs_dir).expanduser().absolute() / config.name
    _check_place(experiment, config.cluster.kind)
    train = train_args.checked(config.train)
    check_trackers(config.track)
    check_ranks(config.cluster.world_size, {**train_args.defaults(), **train})
    check_sharing(config.cluster.runs_per_gpu, {**train_args.defaults(), **train})
    found = {} if found is None else found
    asked, parent = start_of(config)
    model: ResolvedModel = _once(
        found, asked, lambda: resolve_model(asked, may_download=not config.dry_run), config.dry_run
    )
    data: ResolvedData = _once(
        found,
        config.data,
        lambda: resolve_data(config.data, model.task, is_dry_run=config.dry_run),
        model.task,
        config.dry_run,
    )
    decides = {k: v for k, v in train.items() if k not in train_args.LAUNCH}
    files, digests = resolve_train_files(decides, may_download=not config.dry_run)
    frozen = FrozenRun(
        id=run_id(
            task=model.task,
            family=model.family,
            weights_digest=model.digest,
            data_digest=data.digest,
            train={**decides, **digests},
            train_defaults=train_args.defaults(),
            cpu_threads=config.cluster.cpu_threads,
            streams=config.data.streams,
        ),
        name=config.name,
        task=model.task,
        family=model.family,
        weights=model.weights,
        weights_digest=model.digest,
        data_yaml=data.yaml,
        data_digest=data.digest,
        data=data.content,
        train={**decides, **files},
        train_digests=digests,
        cpu_threads=config.cluster.cpu_threads,
        streams=config.data.streams,
        parent=parent,
    )
    launch = Launch(
        train={k: v for k, v in train.items() if k in train_args.LAUNCH},
        exact=Exact(config.exact),
        snapshot=config.snapshot,
        retry=config.retry,
        cluster=config.cluster,
        track=config.track,
        trust_weights=config.model.trust_weights,
    )
    return Plan(RunDir(experiment / frozen.id), frozen, launch)


def _check_place(experiment: Path, kind: str) -> None:
    """A line break would end a line of the batch script, Slurm puts something of its own for a percent sign, and ultralytics
    leaves apostrophes out of the paths of weights."""
    read = f"'{_SLURM_READS}" if kind == "slurm" else "'"
    bad = sorted({it for it in str(experiment) if not it.isprintable() or it in read})
    if bad:
        raise ConfigError(
            f"the run would lie in {str(experiment)!r}, and {' '.join(map(repr, bad))} in a path is read as something else on "
            "the way to the job. Choose another name=... or runs_dir=...."
        )


def _once(found: dict[str, Any], group: ModelConfig | DataConfig, resolve: Callable[[], Any], *more: Any) -> Any:
    key = canonical([type(group).__name__, asdict(group), *more])
    if key not in found:
        found[key] = resolve()
    return found[key]


def materialise(it: Plan, *, is_free: bool = False) -> None:
    """Make the run directory, or get an existing one ready for its next attempt.

    Args:
        is_free: the caller has made sure that nobody trains it.

    Raises:
        BusyError: it is being trained.
        ConfigError: its run.yaml was edited.
        StorageError: it cannot be written.
    """
    try:
        if it.run.is_run():
            if not is_free:
                _refuse_if_trained(it.run)
            load_run(it.run)  # refused if it was edited; what defaults a later release changed does not touch it
            write_launch(it.run, it.launch)
        else:
            _create(it)
    except OSError as error:
        raise StorageError(
            f"cannot write {error.filename or it.run.path}: {error.strerror}. Choose another runs_dir=..., or check "
            "owner, permissions and quota."
        ) from error


def put_aside(run: RunDir) -> Path:
    """Move a done run out of the way of the next one of its id; nothing of it is changed. Returns where it lies then.

    Raises:
        BusyError: it is being trained.
        StorageError: it cannot be moved.
    """
    _refuse_if_trained(run)
    aside = run.aside(time.strftime("%Y%m%dT%H%M%S"))
    try:
        os.rename(run.path, aside)
    except OSError as error:
        raise StorageError(
            f"cannot move {run.path} to {aside}: {error.strerror}. Check its owner and permissions."
        ) from error
    return aside


def _refuse_if_trained(run: RunDir) -> None:
    taken = occupant(run)
    if taken is not None:
        raise BusyError(
            f"{run.path} is being trained already (attempt {taken.attempt.number}, process {taken.pid} on "
            f"{taken.host}). Follow it with `hpc-yolo logs -f {run.path}`."
        )


def _create(it: Plan) -> None:
    it.run.path.parent.mkdir(parents=True, exist_ok=True)
    staged = it.run.path.with_name(f".{it.run.path.name}.{os.getpid()}")
    shutil.rmtree(staged, ignore_errors=True)
    try:
        make_private(staged)
        write_text_atomic(RunDir(staged).launch_yaml, launch_text(it.launch))
        write_text_atomic(RunDir(staged).run_yaml, run_text(it.frozen))
        _publish(staged, it.run)
        fsync_dir(it.run.path.parent)
    finally:
        shutil.rmtree(staged, ignore_errors=True)  # there only where something failed


def _publish(staged: Path, run: RunDir) -> None:
    """Somebody may have made the same run in this moment, in another sweep: then theirs holds the same."""
    try:
        os.rename(staged, run.path)
    except OSError:
        if not run.is_run():
            raise
