"""What a worker says reaches its log by a thread: in order, later where the log takes nothing, and of too much the newest."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from hpc_yolo.exact.output import _MOST_BYTES, Relay


def test_a_pipe_that_nobody_reads_keeps_nobody_waiting() -> None:
    reader, writer = os.pipe()
    relay = Relay(writer)
    lines = [f"{n:07d}\n".encode() for n in range(2 * _MOST_BYTES // 8)]

    for line in lines:
        relay.write(line)  # more than a pipe takes, and more than is kept

    assert not relay.settle(0.1)
    got = b""
    while not got.endswith(lines[-1]):
        got += os.read(reader, 1 << 16)
    assert relay.settle(10)
    assert len(got) < 8 * len(lines)  # some was dropped


def test_all_that_a_process_and_its_children_say_is_in_the_log_when_it_has_ended(tmp_path: Path) -> None:
    script = (
        "import os, sys; from hpc_yolo.exact.output import relay_output; relay_output(); print('one'); "
        "print('two', end='', file=sys.stderr); pid = os.fork(); "
        "pid or (print('child', flush=True), os._exit(0)); os.waitpid(pid, 0); print('three'); sys.exit(3)"
    )
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.run([sys.executable, "-c", script], stdout=log, stderr=log, check=False, timeout=60)

    assert process.returncode == 3
    assert sorted((tmp_path / "log").read_text().replace("two", "two\n").split()) == ["child", "one", "three", "two"]


def test_who_leaves_at_once_has_said_all_that_it_said(tmp_path: Path) -> None:
    """As `hpc-yolo run` leaves: Python's own exit takes seconds, and a thread may not have come to its turn."""
    script = (
        "import os; from hpc_yolo.exact.output import end_output, relay_output; relay_output(); "
        "[print(n) for n in range(20000)]; print('last', end=''); end_output(); os._exit(0)"
    )
    with (tmp_path / "log").open("wb") as log:
        subprocess.run([sys.executable, "-c", script], stdout=log, check=True, timeout=60)

    assert (tmp_path / "log").read_text().endswith("19999\nlast")
