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
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from hpc_yolo.attempts import claim
from hpc_yolo.config import Exact
from hpc_yolo.errors import ConfigError, HpcYoloError, InexactError, StorageError
from hpc_yolo.events import Event, Kind, Ledger, read_events
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
    from hpc_yolo.snapshot.schedule import Interval
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
    store = SnapshotStore(task.run.snapshots_dir, keep=task.launch.snapshot.keep, config_hash=task.frozen.hash)
    fallback = _fallback(task)
    store.remove_staged()
    found = _newest(task, store, fallback)
    if found is None and (finished := _finished(task)) is not None:
        return finished
    snapshot = found[1] if found else None
    task.ledger.append(Kind.RESUMED, **_where(found))
    if snapshot is None:
        _tell_of_lost_snapshots(task)
    if snapshot is not None and snapshot.position.phase is Phase.DONE:
        task.heart.record.step = snapshot.position.step
        return dict(snapshot.plain["metrics"])
    session = _session(task, store, fallback, snapshot, capability)
    _check_exactness(task, session)
    _leave_if_asked(task)
    return _fit(task, session)


def _newest(task: _Task, *stores: SnapshotStore | None) -> tuple[Path, Snapshot] | None:
    """The newest snapshot that verifies, in the run's folder or in what a stop saved to this node."""
    told = partial(_tell_quarantine, task)
    found = [it for store in stores if store is not None and (it := store.newest(on_quarantine=told)) is not None]
    return max(found, key=lambda it: it[1].position.step, default=None)


def _fallback(task: _Task) -> SnapshotStore | None:
    """Where a stop saves to while the run's own storage fails.

    Raises:
        ConfigError: the folder is not there on this node.
    """
    from hpc_yolo.snapshot.store import SnapshotStore

    folder = task.launch.snapshot.fallback_dir
    if folder is None:
        return None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"snapshot.fallback_dir={folder} is no folder on {node_name()} that can be written to. Name one that every node "
            "has, such as /tmp, or null for none."
        )
    return SnapshotStore(Path(folder) / f"hpc-yolo-{task.frozen.id}", keep=2, config_hash=task.frozen.hash)


def _earlier_events(task: _Task) -> list[Event]:
    earlier = (it for it in task.run.attempts() if it.number < task.attempt.number)
    return [event for attempt in earlier for event in read_events(attempt.events)]


def _finished(task: _Task) -> dict[str, float] | None:
    """The metrics of a run that was completed, and whose snapshots have been removed since."""
    done = [event for event in _earlier_events(task) if event.kind is Kind.FINISHED]
    if not done:
        return None
    task.heart.record.step = int(done[-1].fields.get("step") or 0)
    return dict(done[-1].fields.get("metrics") or {})


def _tell_of_lost_snapshots(task: _Task) -> None:
    """A purged scratch: what earlier attempts saved is gone. Said at once; the bits are the same from step 0.

    Raises:
        InexactError: under `exact=strict`, where a person shall decide.
    """
    steps = [int(it.fields["step"]) for it in _earlier_events(task) if it.kind is Kind.SNAPSHOT_COMMITTED]
    if not steps:
        return
    task.ledger.append(Kind.SNAPSHOTS_GONE, step=max(steps))
    text = f"{max(steps)} steps were saved in {task.run.snapshots_dir}, but no snapshot there can be used any more"
    if task.launch.exact is Exact.STRICT:
        raise InexactError(
            f"exact=strict: {text}. Put them back, or submit it again with exact=warn: it starts from step 0, and ends with "
            "the same bits."
        )
    print(f"hpc-yolo: {text}; starting again from step 0", file=sys.stderr, flush=True)


def _session(
    task: _Task, store: SnapshotStore, fallback: SnapshotStore | None, snapshot: Snapshot | None, capability: str
) -> Session:
    from ultralytics.utils.torch_utils import select_device

    from hpc_yolo.exact.session import Session
    from hpc_yolo.snapshot.retention import Series

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
        interval=_interval(task),
        environment=now,
        resumed=snapshot,
        fallback=fallback,
        series=None if task.launch.snapshot.series is None else Series.parse(task.launch.snapshot.series),
        keeps_best=task.launch.snapshot.keep_best,
        stop_patience_s=task.launch.retry.grace_s / 2,
    )


def _interval(task: _Task) -> Interval:
    from hpc_yolo.snapshot.schedule import Advice, Advised, EverySeconds, EverySteps, Past

    asked = task.launch.snapshot
    if asked.every_steps is not None:
        return EverySteps(asked.every_steps)
    if asked.every_s != "auto":
        return EverySeconds(asked.every_s)

    def tell(advice: Advice) -> None:
        with suppress(OSError):
            task.ledger.append(Kind.INTERVAL_CHOSEN, seconds=advice.seconds, why=advice.why)

    return Advised(asked.interruption_h, Past(*_lived(task)), tell)


def _lived(task: _Task) -> tuple[float, int]:
    """Hours of training so far, and how many interruptions ended them."""
    seconds, count = 0.0, 0
    for attempt in task.run.attempts():
        if attempt.number < task.attempt.number and (events := list(read_events(attempt.events))):
            seconds += events[-1].time - events[0].time
            count += 1
    return seconds / 3600, count


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
    print(f"hpc-yolo: {path} is put aside ({why}); going on from the snapshot before it", file=sys.stderr, flush=True)


def _as_storage_error(error: BaseException, run: RunDir) -> StorageError | None:
    if isinstance(error, OSError) and error.errno in _STORAGE_ERRNOS:
        name = error.filename or run.path
        return StorageError(
            f"cannot write {name}: {error.strerror}. Check space, quota and permissions, then run it again."
        )
    return None


def _one_line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:500]
