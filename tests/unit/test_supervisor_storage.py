"""A supervisor on a storage that stops answering: the warning reaches the worker all the same, and both leave in time."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_yolo.types import ExitCode
from tests import fault_fs
from tests.fault_fs import FaultFs
from tests.unit.supervised import make_run, until

pytestmark = pytest.mark.skipif(fault_fs.missing() is not None, reason=fault_fs.missing() or "")

_SUPERVISE = """
import sys
from hpc_yolo.supervise.task import TrainTask

class Task(TrainTask):
    def worker_command(self, attempt):
        return [sys.executable, "-c", *sys.argv[2:]]

Task(sys.argv[1])()
"""
#: Needs no storage but the node's.
_WORKER = """
import pathlib, signal, sys
said = pathlib.Path(sys.argv[1])

def leave(*_):
    said.write_text("warned")
    sys.exit(74)

signal.signal(signal.SIGTERM, leave)
said.write_text("ready")
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
while True:
    signal.pause()
"""


@pytest.fixture
def faulty(tmp_path: Path) -> Iterator[FaultFs]:
    with fault_fs.mounted(tmp_path / "storage") as fs:
        yield fs


def waits_for_storage(pid: int) -> bool:
    return any("request_wait_answer" in file.read_text() for file in Path(f"/proc/{pid}/task").glob("*/wchan"))


def test_a_warning_is_passed_on_while_the_storage_hangs(faulty: FaultFs, tmp_path: Path) -> None:
    run = make_run(faulty.path / "run", grace_s=3)
    said = tmp_path / "said"
    supervisor = subprocess.Popen([sys.executable, "-c", _SUPERVISE, run.path, _WORKER, said])
    try:
        until(lambda: said.exists() and said.read_text() == "ready")
        faulty.freeze()
        until(lambda: waits_for_storage(supervisor.pid))
        supervisor.send_signal(signal.SIGTERM)

        until(lambda: said.read_text() == "warned", within_s=3)
        assert supervisor.wait(10) == ExitCode.STOPPED
    finally:
        supervisor.kill()
        supervisor.wait()
