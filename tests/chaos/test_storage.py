"""Real processes on a storage that stops answering: they leave in time, with their state on the node, and go on from there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_yolo.events import Kind, read_events
from hpc_yolo.heartbeat import read_beat
from hpc_yolo.processes import read_stat
from hpc_yolo.rundir import RunDir
from hpc_yolo.snapshot.store import SnapshotStore
from tests import fault_fs
from tests.chaos.conftest import Factory, Run, assert_same_bits, end_processes, wait_until
from tests.fault_fs import FaultFs

pytestmark = pytest.mark.skipif(fault_fs.missing() is not None, reason=fault_fs.missing() or "")
_GRACE_S = 10
_SUPERVISE = "import sys; from hpc_yolo.supervise.task import TrainTask; TrainTask(sys.argv[1])()"


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultFs]:
    with fault_fs.mounted(tmp_path / "storage") as fs:
        yield fs


@pytest.fixture
def run(small: Factory, faulty: FaultFs, tmp_path: Path) -> Iterator[Run]:
    """A run on the faulty storage that may fall back to this node."""
    (tmp_path / "node").mkdir()
    options = (*small.options, f"snapshot.fallback_dir={tmp_path / 'node'}", f"retry.grace_s={_GRACE_S}")
    factory = Factory(faulty.path / "runs", options)
    yield factory("faulty")
    faulty.recover()
    end_processes(factory)


def fallback_of(run: Run, node: Path) -> SnapshotStore:
    return SnapshotStore(node / f"hpc-yolo-{run.dir.path.name}")


def cpu_s(pid: int) -> float:
    """What the process has worked so far: all that can be seen of one that writes nothing."""
    stat = read_stat(pid)
    assert stat is not None
    return (int(stat[11]) + int(stat[12])) / os.sysconf("SC_CLK_TCK")


def test_a_worker_warned_while_nothing_answers_leaves_in_time_and_goes_on_from_what_it_saved_to_the_node(
    run: Run, undisturbed: Run, faulty: FaultFs, tmp_path: Path
) -> None:
    behind = RunDir(faulty.behind / run.dir.path.relative_to(faulty.path))
    worker = run.start()
    run.wait_for_step(20)
    faulty.freeze()
    warned_at = time.monotonic()
    worker.send_signal(signal.SIGUSR1)
    code = worker.wait(_GRACE_S)

    assert (code, time.monotonic() - warned_at < _GRACE_S) == (74, True)
    saved = fallback_of(run, tmp_path / "node").entries()[-1].step
    beat = read_beat(behind.attempt(1).heartbeat)
    assert beat is not None
    assert saved >= beat.step
    faulty.recover()
    run.finish()
    (resumed,) = [it for it in read_events(run.dir.attempt(2).events) if it.kind is Kind.RESUMED]
    assert resumed.fields["step"] == saved
    assert_same_bits(run, undisturbed)
    assert not list((tmp_path / "node").iterdir())


@pytest.mark.matrix
def test_a_supervised_worker_saves_too_although_its_logs_lie_on_that_storage(
    run: Run, faulty: FaultFs, tmp_path: Path
) -> None:
    log = faulty.behind / run.dir.attempt(1).stdout.relative_to(faulty.path)
    supervisor = subprocess.Popen([sys.executable, "-c", _SUPERVISE, run.path], start_new_session=True)
    run.processes.append(supervisor)
    run.wait_for_step(20)
    assert "Starting training" in log.read_text()
    worker = run.beat().pid
    faulty.freeze()
    said = len(log.read_bytes())
    before = cpu_s(worker)
    wait_until(lambda: cpu_s(worker) > before + 1, "training that goes on, past an epoch's end")
    supervisor.send_signal(signal.SIGTERM)

    assert supervisor.wait(2 * _GRACE_S) == 75
    assert len(log.read_bytes()) == said
    assert fallback_of(run, tmp_path / "node").entries()[-1].step > 30


@pytest.mark.matrix
def test_a_thread_that_the_kernel_does_not_give_back_keeps_the_process_but_not_the_state(
    run: Run, faulty: FaultFs, tmp_path: Path
) -> None:
    """Not even SIGKILL ends such a process; its state is on the node all the same, and the exit code comes in the end."""
    worker = run.start()
    run.wait_for_step(20)
    faulty.fail("hang")
    worker.send_signal(signal.SIGUSR1)
    store = fallback_of(run, tmp_path / "node")
    wait_until(store.entries, "the state on the node")
    wait_until(lambda: (read_stat(worker.pid) or [""])[0] == "Z", "the worker's leaving")
    assert worker.poll() is None
    faulty.recover()

    assert worker.wait(30) == 74
