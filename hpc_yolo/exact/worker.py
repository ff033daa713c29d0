"""Owns one attempt from its first line to its exit code: the process that trains. Re-entrant; any scheduler can drive it.

Nothing here imports torch at the top: warnings must be heard, and the kernels pinned, before that long import begins.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import traceback
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpc_yolo.attempts import claim
from hpc_yolo.config import Exact
from hpc_yolo.errors import ConfigError, HpcYoloError, InexactError, StorageError
from hpc_yolo.events import Kind, Ledger
from hpc_yolo.exact import environment
from hpc_yolo.exact.data_here import check_data_here
from hpc_yolo.exact.earlier import Earlier
from hpc_yolo.exact.failures import meaning_of, one_line, type_of
from hpc_yolo.exact.journal import Journal
from hpc_yolo.exact.limits import inexact_options
from hpc_yolo.exact.output import relay_output
from hpc_yolo.exact.place import Place
from hpc_yolo.exact.stacks import tell_on_request
from hpc_yolo.exact.stop import StopRequest, StopTraining
from hpc_yolo.exact.tracking import TrackingProcess
from hpc_yolo.frozen import FrozenRun, Launch, load_launch, load_run
from hpc_yolo.heartbeat import Heart
from hpc_yolo.processes import node_name, signal_when_parent_dies
from hpc_yolo.rundir import AttemptDir, RunDir, write_text_atomic
from hpc_yolo.sources import check_weights, has_changed_data, weights_of
from hpc_yolo.staging import take_over
from hpc_yolo.trust import refuse_if_open
from hpc_yolo.types import SUPERVISOR_VARIABLE, ExitCode, Phase

if TYPE_CHECKING:
    from hpc_yolo.exact.session import Session
    from hpc_yolo.snapshot.format import Snapshot
    from hpc_yolo.snapshot.schedule import Interval
    from hpc_yolo.snapshot.store import SnapshotStore

#: How long the way out waits for the last events: of an end whose exit code says it all, and of one that must be told.
_LAST_WORDS_S, _FINISH_S = 2.0, 60.0
#: Of the batch that failed so many are named.
_MOST_IMAGES = 64
#: How long a run that is done waits for its trackers.
_TRACKERS_S = 60.0


@dataclass(frozen=True, slots=True)
class _Task:
    """What one attempt is to do."""

    run: RunDir
    attempt: AttemptDir
    frozen: FrozenRun
    launch: Launch
    stop: StopRequest
    journal: Journal
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
    if attempt is not None:
        relay_output()
    stop = StopRequest()
    parent = os.environ.get(SUPERVISOR_VARIABLE)
    if parent:
        signal_when_parent_dies(signal.SIGTERM, int(parent))  # pending until the handlers stand: it is blocked
    stop.arm()
    if attempt is not None:
        tell_on_request(_log_of(run.attempt(attempt)))
    if attempt is not None and Place.of().rank > 0:  # another process speaks for this one
        from hpc_yolo.exact.beside import train_beside

        return train_beside(run, run.attempt(attempt), stop)
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
    ledger.append(Kind.WORKER_STARTED, pid=os.getpid(), host=node_name(), ranks=Place.of().world)
    journal = Journal(ledger, Heart(claimed.heartbeat))
    return _run(_Task(run, claimed, frozen, launch, stop, journal, attempt is not None))


def _log_of(attempt: AttemptDir) -> Path:
    rank = Place.of().rank
    return attempt.rank_log(rank) if rank else attempt.stderr


def _run(task: _Task) -> int:
    try:
        return _outcome(task)
    finally:
        task.journal.settle(_LAST_WORDS_S)


def _outcome(task: _Task) -> int:
    """Train, and turn every way out into an event and an exit code."""
    tracking = TrackingProcess(task.run, task.attempt, task.launch.track)
    try:
        metrics = _train(task)
    except StopTraining:
        task.stop.disarm()
        task.journal.tell(Kind.STOP_REQUESTED, signal=task.stop.name, by="worker")
        task.journal.tell(Kind.STOPPED, step=task.journal.record.step)
        return ExitCode.STOPPED
    except Exception as error:  # the job's boundary: recorded, then raised
        task.stop.disarm()
        meant = meaning_of(error, task.run, task.attempt, task.frozen)
        code = meant.exit_code if isinstance(meant, HpcYoloError) else ExitCode.BUG
        said = str(meant) if isinstance(meant, HpcYoloError) else one_line(meant)
        batch = {} if isinstance(meant, HpcYoloError) else _batch_of(task)
        task.journal.tell(Kind.FAILED, error=said, exit_code=int(code), exception=type_of(error), **batch)
        # into the attempt's stderr.log; in the foreground --debug shows it
        if code is ExitCode.BUG and task.is_supervised:
            traceback.print_exc()
        if meant is error and not isinstance(error, OSError):
            raise
        # an OSError that is left here is not the storage's: whoever maps errors to exit codes would take it for that
        raise (meant if meant is not error else HpcYoloError(said)) from error
    task.stop.disarm()
    task.journal.tell(Kind.FINISHED, step=task.journal.record.step, metrics=metrics)
    if not task.journal.settle(_FINISH_S):
        raise StorageError(
            f"{task.run.path} is trained and saved, but that cannot be written to {task.attempt.events}. Check space, quota "
            "and permissions, then run it again: it ends at once."
        )
    tracking.finish(_TRACKERS_S)
    return ExitCode.DONE


def _batch_of(task: _Task) -> dict[str, Any]:
    images = task.journal.images
    return {"images": list(images[:_MOST_IMAGES])} if images else {}


def _train(task: _Task) -> dict[str, float]:
    for folder in (task.run.path, task.run.snapshots_dir, task.run.weights_dir):
        take_over(folder, task.attempt.number)
    check_weights(task.frozen)
    check_data_here(task.run, task.attempt, task.frozen)
    refuse_if_open(task.run.weights_dir, *weights_of(task.frozen))
    _check_fallback(task)
    capability = environment.pin_as_saved(task.frozen.cpu_threads, task.run.snapshots_dir)
    _leave_if_asked(task)

    environment.load_only_what_is_known(trust_weights=task.launch.trust_weights)
    with environment.imports_for_good():
        from hpc_yolo.exact import making
        from hpc_yolo.exact.node_check import check_node
        from hpc_yolo.snapshot.store import SnapshotStore

    making.check(task.frozen, task.launch)
    check_node(task.run, task.attempt, task.launch)
    store = SnapshotStore(task.run.snapshots_dir, keep=task.launch.snapshot.keep, config_hash=task.frozen.hash)
    fallback = _fallback(task)
    began = time.monotonic()
    found = _newest(task, store, fallback)
    read_s = round(time.monotonic() - began, 3)
    earlier = Earlier.of(task.run, task.attempt)
    has_end = found is not None and found[1].position.phase is Phase.DONE
    if not has_end and (finished := earlier.finished()) is not None:  # its last snapshot has expired, or was purged
        task.journal.record.step, metrics = finished
        return metrics
    snapshot = found[1] if found else None
    task.journal.tell(Kind.RESUMED, **_where(found), read_s=read_s)
    if snapshot is None and earlier.last_saved_step():
        _tell_of_lost_snapshots(task, earlier.last_saved_step())
    if snapshot is not None and snapshot.position.phase is Phase.DONE:
        task.journal.record.step = snapshot.position.step
        return dict(snapshot.plain["metrics"])
    session = _session(task, store, fallback, snapshot, capability, _interval(task, earlier))
    _check_exactness(task, session)
    _leave_if_asked(task)
    return _fit(task, session, found[0] if found else None)


def _newest(task: _Task, *stores: SnapshotStore | None) -> tuple[Path, Snapshot] | None:
    """The newest snapshot that verifies, in the run's folder or in what a stop saved to this node."""
    told = partial(_tell_quarantine, task)
    found = [it for store in stores if store is not None and (it := store.newest(on_quarantine=told)) is not None]
    return max(found, key=lambda it: it[1].position.step, default=None)


def _check_fallback(task: _Task) -> None:
    """Before torch is imported: what must be mended is told at once.

    Raises:
        ConfigError: the folder is not there on this node.
    """
    folder = task.launch.snapshot.fallback_dir
    if folder is not None and not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(
            f"snapshot.fallback_dir={folder} is no folder on {node_name()} that can be written to. Name one that every node "
            "has, such as /tmp, or null for none."
        )


def _fallback(task: _Task) -> SnapshotStore | None:
    """Where a stop saves to while the run's own storage fails."""
    from hpc_yolo.snapshot.store import SnapshotStore

    folder = task.launch.snapshot.fallback_dir
    if folder is None:
        return None
    return SnapshotStore(Path(folder) / f"hpc-yolo-{task.frozen.id}", keep=2, config_hash=task.frozen.hash)


def _tell_of_lost_snapshots(task: _Task, step: int) -> None:
    """A purged scratch: what earlier attempts saved is gone. Said at once; the bits are the same from step 0.

    Raises:
        InexactError: under `exact=strict`, where a person shall decide.
    """
    task.journal.tell(Kind.SNAPSHOTS_GONE, step=step)
    text = f"{step} steps were saved in {task.run.snapshots_dir}, but no snapshot there can be used any more"
    if task.launch.exact is Exact.STRICT:
        raise InexactError(
            f"exact=strict: {text}. Put them back, or submit it again with exact=warn: it starts from step 0, and ends with "
            "the same bits."
        )
    print(f"hpc-yolo: {text}; starting again from step 0", file=sys.stderr, flush=True)


def _session(
    task: _Task,
    store: SnapshotStore,
    fallback: SnapshotStore | None,
    snapshot: Snapshot | None,
    capability: str,
    interval: Interval,
) -> Session:
    from hpc_yolo.exact import making
    from hpc_yolo.exact.session import Session
    from hpc_yolo.snapshot.retention import Series

    now = making.record_environment(task.frozen, task.launch, capability)
    write_text_atomic(task.attempt.environment, json.dumps(now, indent=1) + "\n")
    return Session(
        run=task.run,
        attempt=task.attempt,
        config_hash=task.frozen.hash,
        stop=task.stop,
        journal=task.journal,
        store=store,
        interval=interval,
        environment=now,
        resumed=snapshot,
        fallback=fallback,
        series=None if task.launch.snapshot.series is None else Series.parse(task.launch.snapshot.series),
        keeps_best=task.launch.snapshot.keep_best,
        stop_patience_s=task.launch.retry.grace_s / 2,
    )


def _interval(task: _Task, earlier: Earlier) -> Interval:
    from hpc_yolo.snapshot.schedule import Advice, Advised, EverySeconds, EverySteps, Past

    def tell(advice: Advice) -> None:
        task.journal.tell(Kind.INTERVAL_CHOSEN, seconds=advice.seconds, why=advice.why)

    asked = task.launch.snapshot
    if asked.every_steps is not None:
        return EverySteps(asked.every_steps)
    if asked.every_s == "auto":
        return Advised(asked.interruption_h, Past(*earlier.lived()), tell)
    interval = EverySeconds(asked.every_s, tell)
    interval.learn(0.0, earlier.last_write_s())
    return interval


def _fit(task: _Task, session: Session, snapshot: Path | None) -> dict[str, float]:
    from hpc_yolo.exact import making

    session.open()
    session.start_pulse()
    data = making.write_data(task.frozen, task.attempt)
    ranks = making.meet_others(task.attempt, session.environment, task.stop)
    if ranks.place.world > 1:
        task.journal.tell(Kind.RANKS_MET, hosts=list(ranks.hosts))
    ranks.tell({"snapshot": None if snapshot is None else str(snapshot), "data": data})
    trainer = making.make_trainer(task.run, task.frozen, task.launch, session, ranks, data)
    trainer.train()
    if session.fallback is not None:
        session.fallback.remove_all()
    session.close()
    return {name: float(value) for name, value in trainer.metrics.items()}


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
    task.journal.tell(Kind.INEXACT, from_step=step, differences=found)
    text = "; ".join(found)
    if task.launch.exact is Exact.STRICT:
        raise InexactError(
            f"exact=strict: from step {step} on the result would not be bit-identical ({text}). "
            "Run it where the difference is gone, or submit it again with exact=warn."
        )
    print(f"hpc-yolo: not exact from step {step} on: {text}", file=sys.stderr, flush=True)


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
    task.journal.tell(Kind.SNAPSHOT_QUARANTINED, file=path.name, why=why)
    print(f"hpc-yolo: {path} is put aside ({why}); going on from the snapshot before it", file=sys.stderr, flush=True)
