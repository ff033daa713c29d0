"""Owns the kinds of faults that a campaign strikes runs with: real ones, on a real Slurm, each until it has taken effect."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.events import Kind
from hpc_yolo.supervise.tree import descendants, send
from tests.chaos.conftest import hpc_yolo, wait_until
from tests.fault_fs import FaultFs
from tests.slurm.conftest import (
    Cluster,
    SlurmRun,
    held_up,
    is_ours,
    job_pids,
    restart_controller,
    run_command,
    step_pids,
)  # fmt: skip
from tests.slurm.test_ends import kill, kill_daemons_of, lose

#: For how long the storage misbehaves (seconds).
_STORAGE_S = 2.0


@dataclass
class Surroundings:
    """What faults are made with."""

    cluster: Cluster
    storage: FaultFs | None
    drawn: random.Random


class NotNowError(Exception):
    """The run is not where this fault could strike it: it has just ended, or has no data loaders."""


Strike = Callable[[Surroundings, SlurmRun], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind. After a warned one no step may be redone."""

    name: str
    strike: Strike
    is_warned: bool = False
    needs_storage: bool = False


def preempt(it: Surroundings, run: SlurmRun) -> None:
    """Somebody takes all of its node."""
    with _next_end(run):
        it.cluster.take(run.nodes[-1])
    it.cluster.give_back()


def preempt_with_sigterm_only(it: Surroundings, run: SlurmRun) -> None:
    it.cluster.launch("up", "--without-user-signal")
    try:
        preempt(it, run)
    finally:
        it.cluster.launch("up")


def warn(_it: Surroundings, run: SlurmRun) -> None:
    with _next_end(run):
        assert hpc_yolo("preempt", run.path).returncode == 0


def requeue(_it: Surroundings, run: SlurmRun) -> None:
    with _next_end(run):
        assert hpc_yolo("requeue", run.path).returncode == 0


def kill_worker(_it: Surroundings, run: SlurmRun) -> None:
    with _next_end(run):
        os.kill(_living(run, Kind.WORKER_STARTED), signal.SIGKILL)


def kill_supervisor(_it: Surroundings, run: SlurmRun) -> None:
    number = len(run.dir.attempts())
    os.kill(_living(run, Kind.ATTEMPT_STARTED), signal.SIGKILL)
    run.wait_for_attempt(number + 1, step=0)


def kill_loader(_it: Surroundings, run: SlurmRun) -> None:
    loaders = _loaders(run)
    with _next_end(run):
        os.kill(loaders[0], signal.SIGKILL)


def hang(_it: Surroundings, run: SlurmRun) -> None:
    """Its data loaders never answer again; where it has none, it stands still itself."""
    with suppress(NotNowError):
        with _next_end(run):
            send(_loaders(run), signal.SIGSTOP)
        return
    with _next_end(run):
        os.kill(_living(run, Kind.WORKER_STARTED), signal.SIGSTOP)


def kill_whole_step(_it: Surroundings, run: SlurmRun) -> None:
    """Memory, or an administrator: supervisor, worker and all below them at once."""
    number, pids = len(run.dir.attempts()), step_pids(run)
    if not pids:
        raise NotNowError
    kill(pids)
    run.wait_for_attempt(number + 1, step=0)


def kill_daemons(it: Surroundings, run: SlurmRun) -> None:
    """Those of Slurm that watch over the step: nobody would tell its processes to end, and its node is given up."""
    number, node, left = len(run.dir.attempts()), run.nodes[-1], step_pids(run)
    kill_daemons_of(run)
    kill(pid for pid in job_pids(run) if pid not in left)  # its script and srun
    run_command("scontrol", "update", f"nodename={node}", "state=down", "reason=drill")
    run.wait_for_attempt(number + 1, step=0)
    it.cluster.make_well()


def zombie(it: Surroundings, run: SlurmRun) -> None:
    """The same, while the zombie does not get on for a while: it comes back when another attempt has the run."""
    left = step_pids(run)
    if not left:
        raise NotNowError
    with held_up(left):
        kill_daemons(it, run)


def set_node_down(it: Surroundings, run: SlurmRun) -> None:
    with _next_end(run):
        run_command("scontrol", "update", f"nodename={run.nodes[-1]}", "state=down", "reason=drill")
    it.cluster.make_well()


def lose_node(it: Surroundings, run: SlurmRun) -> None:
    """A power cut: its daemon, its steps and all processes of the run are gone at once."""
    number, node = len(run.dir.attempts()), run.nodes[-1]
    lose(it.cluster, run, node)
    try:
        run.wait_for_attempt(number + 1, step=0)
    finally:
        it.cluster.launch("node-start", node)
        it.cluster.make_well()


def restart_slurmctld(it: Surroundings, _run: SlurmRun) -> None:
    restart_controller(it.cluster)


def fill_the_disk(it: Surroundings, _run: SlurmRun) -> None:
    _disturb(it, "ENOSPC")


def fail_writes(it: Surroundings, _run: SlurmRun) -> None:
    _disturb(it, "EIO")


def slow_down(it: Surroundings, _run: SlurmRun) -> None:
    assert it.storage is not None
    it.storage.slow_down(0.02)
    time.sleep(_STORAGE_S)
    it.storage.recover()


def truncate_newest(it: Surroundings, run: SlurmRun) -> None:
    """Right before the worker is gone without a word: a storage that has lost the end of a file."""
    _damage_newest(it, run, lambda file: os.truncate(file, file.stat().st_size // 2))


def flip_a_bit(it: Surroundings, run: SlurmRun) -> None:
    def flip(file: Path) -> None:
        data = bytearray(file.read_bytes())
        data[it.drawn.randrange(len(data))] ^= 1 << it.drawn.randrange(8)
        file.write_bytes(data)

    _damage_newest(it, run, flip)


FAULTS = (
    Fault("preemption", preempt, is_warned=True),
    Fault("preemption, SIGTERM only", preempt_with_sigterm_only, is_warned=True),
    Fault("user signal", warn, is_warned=True),
    Fault("scontrol requeue", requeue, is_warned=True),
    Fault("node set down", set_node_down, is_warned=True),
    Fault("SIGKILL of the worker", kill_worker),
    Fault("SIGKILL of the supervisor", kill_supervisor),
    Fault("SIGKILL of the whole step", kill_whole_step),
    Fault("SIGKILL of a data loader", kill_loader),
    Fault("SIGKILL of slurmstepd, node given up", kill_daemons),
    Fault("zombie on a node that was given up", zombie),
    Fault("node lost", lose_node),
    Fault("slurmctld restarted", restart_slurmctld),
    Fault("hang", hang),
    Fault("disk full for 2 s", fill_the_disk, needs_storage=True),
    Fault("writes fail for 2 s (EIO)", fail_writes, needs_storage=True),
    Fault("storage slow for 2 s (20 ms a call)", slow_down, needs_storage=True),
    Fault("newest snapshot truncated, worker killed", truncate_newest),
    Fault("bit flipped in newest snapshot, worker killed", flip_a_bit),
)


@contextmanager
def _next_end(run: SlurmRun) -> Iterator[None]:
    """Returns once an attempt that lives now has ended, or the run is done."""
    ended = len(run.events(Kind.ATTEMPT_ENDED))
    number = len(run.dir.attempts())
    yield
    wait_until(
        lambda: len(run.events(Kind.ATTEMPT_ENDED)) > ended or len(run.dir.attempts()) > number,
        "the end of the attempt",
        pause_s=0.05,
    )


def _living(run: SlurmRun, kind: Kind) -> int:
    pid = run.pid_of(kind)
    with suppress(OSError):
        if is_ours(Path(f"/proc/{pid}")):
            return pid
    raise NotNowError


def _loaders(run: SlurmRun) -> list[int]:
    found = descendants(_living(run, Kind.WORKER_STARTED))
    if not found:
        raise NotNowError
    return found


def _disturb(it: Surroundings, how: str) -> None:
    assert it.storage is not None
    it.storage.fail(how)
    time.sleep(_STORAGE_S)
    it.storage.recover()


def _damage_newest(it: Surroundings, run: SlurmRun, damage: Callable[[Path], None]) -> None:
    pid = _living(run, Kind.WORKER_STARTED)
    os.kill(pid, signal.SIGSTOP)  # so that it writes no newer one meanwhile
    files = sorted(run.dir.snapshots_dir.glob("step-*.safetensors"))
    if len(files) < 2:
        os.kill(pid, signal.SIGCONT)
        raise NotNowError
    with suppress(FileNotFoundError):
        damage(files[-1])
    with _next_end(run):
        os.kill(pid, signal.SIGKILL)
