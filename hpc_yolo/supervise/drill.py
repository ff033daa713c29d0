"""Owns warning a run as a scheduler would, and stopping it. Signals only what it has proven to be the run's."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass

from hpc_yolo.attempts import is_done
from hpc_yolo.errors import BusyError, ConfigError
from hpc_yolo.events import Kind
from hpc_yolo.heartbeat import is_alive, read_beat
from hpc_yolo.processes import boot_id, is_same_process, node_name
from hpc_yolo.rundir import RunDir
from hpc_yolo.supervise import tree
from hpc_yolo.supervise.past import is_awaited, last_event

_POLL_S = 0.1
#: For how long the next attempt of a requeued run is awaited.
_GAP_S = 10.0


@dataclass(frozen=True, slots=True)
class Target:
    """Who is to be signalled: a supervisor, or a worker that has none."""

    pid: int
    attempt: int
    is_supervisor: bool


def preempt(run: RunDir) -> str:
    """Warn every process of the run with SIGUSR1, as Slurm warns every process of a job step.

    Returns:
        One line for the user: who was warned.

    Raises:
        BusyError: the run is not running, or not on this machine.
    """
    target = _await_target(run, "warn")
    if target.is_supervisor and os.getpgid(target.pid) == target.pid:
        os.killpg(target.pid, signal.SIGUSR1)
    else:
        tree.send([target.pid, *tree.descendants(target.pid)], signal.SIGUSR1)
    who = "supervisor" if target.is_supervisor else "worker"
    then = "It saves its state and starts again." if target.is_supervisor else "It saves its state and leaves with 75."
    return f"warned attempt {target.attempt} of {run.path} ({who} {target.pid} and its processes). {then}"


def stop(run: RunDir) -> str:
    """Ask the run with SIGTERM to save its state and to stay stopped.

    Raises:
        BusyError: the run is not running, or not on this machine.
    """
    target = _await_target(run, "stop")
    os.kill(target.pid, signal.SIGTERM)
    return f"asked attempt {target.attempt} of {run.path} to stop; `hpc-yolo run {run.path}` goes on with it later"


def find_target(run: RunDir) -> Target | None:
    """The living process that answers for the newest attempt, or None.

    A pid alone proves nothing, for it may have been given out anew: the start time that the process told about itself
    must be that of the living one, in the same boot of this machine.
    """
    attempts = run.attempts()
    started = last_event(attempts[-1], Kind.ATTEMPT_STARTED) if attempts else None
    if started is None:
        return None
    number, fields = attempts[-1].number, started.fields
    if fields.get("role") == "supervisor":
        return Target(int(fields["pid"]), number, True) if is_same_process(fields) else None
    beat = read_beat(attempts[-1].heartbeat)
    is_it = beat is not None and beat.boot == boot_id() and is_alive(beat)
    return Target(beat.pid, number, False) if beat is not None and is_it else None


def _await_target(run: RunDir, verb: str) -> Target:
    """The target, waited for as long as the next attempt is due."""
    deadline = time.monotonic() + _GAP_S
    while (target := find_target(run)) is None and is_awaited(run) and time.monotonic() < deadline:
        time.sleep(_POLL_S)
    if target is None:
        raise _nobody(run, verb)
    return target


def _nobody(run: RunDir, verb: str) -> BusyError | ConfigError:
    attempts = run.attempts()
    beat = read_beat(attempts[-1].heartbeat) if attempts else None
    if beat is not None and beat.host != node_name() and is_alive(beat):
        return BusyError(f"{run.path} runs on {beat.host}, not here. To {verb} it, use the same command there.")
    if is_done(run):
        return ConfigError(f"{run.path} is done: there is nothing to {verb}.")
    return ConfigError(
        f"{run.path} is not running: there is nothing to {verb}. `hpc-yolo run {run.path}` goes on with it."
    )
