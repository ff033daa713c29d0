"""Owns one attempt from its first line to its exit code: the process that trains. Re-entrant; any scheduler can drive it.

Nothing here imports torch at the top: warnings must be heard, and the kernels pinned, before that long import begins.
"""

from __future__ import annotations

import errno
import json
import os
import signal
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hpc_yolo.attempts import claim
from hpc_yolo.config import Exact
from hpc_yolo.errors import ConfigError, HpcYoloError, InexactError, StorageError
from hpc_yolo.events import Kind, Ledger
from hpc_yolo.exact import environment
from hpc_yolo.exact.limits import inexact_options
from hpc_yolo.exact.stop import StopRequest, StopTraining
from hpc_yolo.frozen import FrozenRun, Launch, load_launch, load_run
from hpc_yolo.heartbeat import Heart
from hpc_yolo.processes import node_name, signal_when_parent_dies
from hpc_yolo.rundir import AttemptDir, RunDir, write_text_atomic
from hpc_yolo.sources import check_weights, has_changed_data
from hpc_yolo.types import SUPERVISOR_VARIABLE, ExitCode, Phase

if TYPE_CHECKING:
    from hpc_yolo.exact.session import Session
    from hpc_yolo.snapshot.format import Snapshot
    from hpc_yolo.snapshot.store import SnapshotStore

_STORAGE_ERRNOS = frozenset(
    getattr(errno, name)
    for name in ["ENOSPC", "EDQUOT", "EFBIG", "EIO", "EROFS", "ESTALE", "EACCES", "EPERM", "ENOTCONN", "ETIMEDOUT"]
)


@dataclass(frozen=True, slots=True)
class _Task:
    """What one attempt is to do."""

    run: RunDir
    attempt: AttemptDir
    frozen: FrozenRun
    launch: Launch
    stop: StopRequest
    ledger: Ledger
    heart: Heart
    is_supervised: bool


def main(run: RunDir, attempt: int | None = None) -> int:
    """Train `run` on from where it stands, until it is done or asked to stop.

    Args:
        attempt: the attempt that a supervisor has claimed for this process; None claims the next one.

    Returns:
        An exit code that tells the caller what to do; see ExitCode.

    Raises:
        HpcYoloError: what is wrong is for a person to mend; it carries its exit code.
    """
    stop = StopRequest()
    parent = os.environ.get(SUPERVISOR_VARIABLE)
    if parent:
        signal_when_parent_dies(signal.SIGTERM, int(parent))  # pending until the handlers stand: it is blocked
    stop.arm()
    frozen = load_run(run)
    claimed = claim(run) if attempt is None else run.attempt(attempt)
    launch = load_launch(claimed.launch_yaml)
    ledger = Ledger(claimed.events)
    if attempt is None:
        claimed.stdout.write_text(
            "This attempt ran in the foreground; its output went to the terminal.\n", encoding="utf-8"
        )
        ledger.append(
            Kind.ATTEMPT_STARTED,
            attempt=claimed.number,
            role="worker",
            pid=os.getpid(),
            host=node_name(),
            job_id=None,
        )
    ledger.append(Kind.WORKER_STARTED, pid=os.getpid(), host=node_name())
    return _run(_Task(run, claimed, frozen, launch, stop, ledger, Heart(claimed.heartbeat), attempt is not None))


def _run(task: _Task) -> int:
    """Train, and turn every way out into an event and an exit code."""
    try:
        metrics = _train(task)
    except StopTraining:
        task.stop.disarm()
        task.ledger.append(Kind.STOP_REQUESTED, signal=task.stop.name, by="worker")
        task.ledger.append(Kind.STOPPED, step=task.heart.record.step)
        return ExitCode.STOPPED
    except HpcYoloError as error:
        task.stop.disarm()
        task.ledger.append(Kind.FAILED, error=str(error), exit_code=int(error.exit_code))
        raise
    except Exception as error:  # the job's boundary: recorded, then raised or mapped
        task.stop.disarm()
        mapped = _as_storage_error(error, task.run)
        code = mapped.exit_code if mapped else ExitCode.BUG
        task.ledger.append(Kind.FAILED, error=_one_line(mapped or error), exit_code=int(code))
        if mapped:
            raise mapped from error
        if task.is_supervised:  # into the attempt's stderr.log; in the foreground --debug shows it
            traceback.print_exc()
        raise
    task.stop.disarm()
    task.ledger.append(Kind.FINISHED, step=task.heart.record.step, metrics=metrics)
    return ExitCode.DONE


def _train(task: _Task) -> dict[str, float]:
    from hpc_yolo.snapshot.reading import newest_state  # light: looks at headers only

    check_weights(task.frozen)
    before = newest_state(task.run.snapshots_dir)
    capability = environment.pin(
        task.frozen.cpu_threads, before["environment"]["cpu_capability"] if before is not None else None
    )
    _leave_if_asked(task)

    from hpc_yolo.exact import upstream
    from hpc_yolo.snapshot.store import SnapshotStore

    upstream.check()
    _check_device(task)
    store = SnapshotStore(task.run.snapshots_dir, keep=task.launch.snapshot.keep)
    store.remove_staged()
    found = store.newest(on_quarantine=lambda path, why: _tell_quarantine(task, path, why))
    snapshot = found[1] if found else None
    task.ledger.append(Kind.RESUMED, **_where(found))
    if snapshot is not None and snapshot.config_hash != task.frozen.hash:
        assert found is not None
        raise ConfigError(
            f"{found[0]} was saved by another configuration than {task.run.run_yaml}. "
            "Move the snapshots that do not belong here away, or use the run directory that they came from."
        )
    if snapshot is not None and snapshot.position.phase is Phase.DONE:
        task.heart.record.step = snapshot.position.step
        return dict(snapshot.plain["metrics"])
    session = _session(task, store, snapshot, capability)
    _check_exactness(task, session)
    _leave_if_asked(task)
    return _fit(task, session)


def _session(task: _Task, store: SnapshotStore, snapshot: Snapshot | None, capability: str) -> Session:
    from ultralytics.utils.torch_utils import select_device

    from hpc_yolo.exact.session import Session
    from hpc_yolo.snapshot.schedule import Interval

    device = select_device(_device(task.launch), verbose=False)
    now = environment.record(device, task.frozen.cpu_threads, capability)
    write_text_atomic(task.attempt.environment, json.dumps(now, indent=1) + "\n")
    return Session(
        run=task.run,
        attempt=task.attempt,
        config_hash=task.frozen.hash,
        stop=task.stop,
        ledger=task.ledger,
        heart=task.heart,
        store=store,
        interval=Interval(task.launch.snapshot.every_s),
        environment=now,
        resumed=snapshot,
    )


def _fit(task: _Task, session: Session) -> dict[str, float]:
    from hpc_yolo.exact.trainers import TRAINERS, check_packages

    session.start_pulse()
    frozen = task.frozen
    check_packages(frozen.family)
    launch = {k: v for k, v in task.launch.train.items() if v is not None}
    trainer = TRAINERS[frozen.family, frozen.task](
        session=session,
        overrides={
            **frozen.train,
            **launch,
            "workers": _workers(task, session),
            "task": frozen.task,
            "mode": "train",
            "model": frozen.weights,
            "data": _data(task),
            "project": str(task.run.path.resolve().parent),
            "name": task.run.path.resolve().name,
            "exist_ok": True,
        },
        cpu_threads=frozen.cpu_threads,
        streams=frozen.streams,
    )
    trainer.train()
    return {name: float(value) for name, value in trainer.metrics.items()}


def _data(task: _Task) -> str:
    """What ultralytics is given as `data`: a YAML with the frozen content; of a classification set, the folder."""
    frozen = task.frozen
    if frozen.task == "classify":
        return str(frozen.data["path"])
    task.attempt.data_yaml.write_text(yaml.safe_dump(frozen.data, sort_keys=False), encoding="utf-8")
    return str(task.attempt.data_yaml.resolve())


def _workers(task: _Task, session: Session) -> int:
    """As many as asked for; by default as many as ultralytics would start: 8 beside a GPU, none on the CPU."""
    asked = task.launch.train.get("workers")
    if asked is not None:
        return int(asked)
    return 8 if session.environment["device"] == "cuda" else 0


def _check_exactness(task: _Task, session: Session) -> None:
    """Say, before a step is made, where the result cannot be the bits of an undisturbed run.

    Raises:
        InexactError: under `exact=strict`.
    """
    found = inexact_options(task.frozen, session.environment["device"])
    if has_changed_data(task.frozen):
        found.append("the data set has changed since the run was frozen")
    step = 0
    if session.resumed is not None:
        step = session.resumed.position.step
        found += environment.differences(session.resumed.plain["environment"], session.environment)
    if not found:
        return
    task.ledger.append(Kind.INEXACT, from_step=step, differences=found)
    text = "; ".join(found)
    if task.launch.exact is Exact.STRICT:
        raise InexactError(
            f"exact=strict: from step {step} on the result would not be bit-identical ({text}). "
            "Run it where the difference is gone, or submit it again with exact=warn."
        )
    print(f"hpc-yolo: not exact from step {step} on: {text}", file=sys.stderr, flush=True)


def _device(launch: Launch) -> str:
    """The device asked for, as a text: "" leaves the choice to ultralytics, "0" is the first GPU."""
    asked = launch.train.get("device")
    return "" if asked is None else str(asked).strip().lower()


def _check_device(task: _Task) -> None:
    import torch

    device = _device(task.launch)
    if device in ("", "cpu"):
        return
    if not torch.cuda.is_available():
        raise ConfigError(
            f"train.device={device} asks for a GPU, but torch finds none on {node_name()}. "
            "Set train.device=cpu, or run it on a node with a GPU."
        )
    if "," in device:
        raise ConfigError(
            f"train.device={device}: one process trains on one GPU so far. Name one, such as train.device=0."
        )


def _leave_if_asked(task: _Task) -> None:
    if task.stop.is_set:
        raise StopTraining


def _where(found: tuple[Path, Snapshot] | None) -> dict[str, Any]:
    if found is None:
        return {"step": 0, "epoch": 0, "batch": 0, "phase": Phase.START.value, "snapshot": None}
    path, snapshot = found
    at = snapshot.position
    return {"step": at.step, "epoch": at.epoch, "batch": at.batch, "phase": at.phase.value, "snapshot": path.name}


def _tell_quarantine(task: _Task, path: Path, why: str) -> None:
    task.ledger.append(Kind.SNAPSHOT_QUARANTINED, file=path.name, why=why)
    print(f"hpc-yolo: {path} is damaged ({why}); going on from the snapshot before it", file=sys.stderr, flush=True)


def _as_storage_error(error: BaseException, run: RunDir) -> StorageError | None:
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS:
        name = error.filename or run.path
        return StorageError(
            f"cannot write {name}: {error.strerror}. Check space, quota and permissions, then run it again."
        )
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
