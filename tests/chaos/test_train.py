"""`hpc-yolo train` with its supervisor: preempted, killed, interrupted at the keyboard, it ends with the same bits."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from hpc_yolo.events import Kind, read_events
from hpc_yolo.processes import process_start
from hpc_yolo.rundir import find_runs
from hpc_yolo.supervise.tree import descendants, send
from tests.chaos.conftest import Factory, Run, assert_same_bits, hpc_yolo, wait_until
from tests.chaos.terminal import Terminal, at_work_for, end, preempt


@pytest.fixture
def terminal(small: Factory, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    it = Terminal(small, request.node.name.replace("test_", "", 1))
    yield it
    it.close()
    runs = list(find_runs(small.root / it.name))
    for pid in it.pids() if runs else ():
        if process_start(pid) is not None:
            os.kill(pid, signal.SIGKILL)


def assert_story(run: Run, **told: Any) -> None:
    status = run.status()
    assert {key: status[key] for key in told} == told


def test_preempted_twice_with_dataloader_workers(terminal: Terminal, undisturbed: Run) -> None:
    process = terminal.train("train.workers=2")
    run = terminal.run
    for attempt, step in ((1, 12), (2, 33)):
        run.wait_for_step(step)
        preempt(run)
        wait_until(lambda attempt=attempt: len(run.dir.attempts()) > attempt, "the next attempt")
    code, out = end(process)

    assert code == 0, out
    assert_same_bits(run, undisturbed)
    assert_story(run, state="done", attempts=3, preemptions=2, steps_redone=0)
    assert "2 interruptions, 0 steps redone" in out


def test_preempted_while_it_imports(terminal: Terminal, undisturbed: Run) -> None:
    process = terminal.train()
    run = terminal.run
    wait_until(lambda: any(read_events(a.events) for a in run.dir.attempts()), "the first attempt")
    preempt(run)
    code, out = end(process)

    assert code == 0, out
    assert_same_bits(run, undisturbed)
    assert_story(run, state="done", steps_redone=0)


def test_a_killed_worker_is_restarted_in_place(terminal: Terminal, undisturbed: Run) -> None:
    process = terminal.train()
    run = terminal.run
    run.wait_for_step(20)
    os.kill(terminal.pid_of(Kind.WORKER_STARTED), signal.SIGKILL)
    code, out = end(process)

    assert code == 0, out
    assert_same_bits(run, undisturbed)
    assert_story(run, state="done", attempts=2, preemptions=0)


def test_a_killed_supervisor_leaves_no_orphan_and_run_goes_on(terminal: Terminal, undisturbed: Run) -> None:
    process = terminal.train()
    run = terminal.run
    run.wait_for_step(20)
    os.killpg(process.pid, signal.SIGKILL)
    os.kill(terminal.pid_of(Kind.ATTEMPT_STARTED), signal.SIGKILL)
    process.wait()
    wait_until(lambda: not at_work_for(run), "everybody's end", pause_s=0.2)
    if run.status()["state"] != "done":
        run.finish()

    assert_same_bits(run, undisturbed)
    assert_story(run, state="done", steps_redone=0)  # the kernel warned the worker, and it saved


def test_ctrl_c_saves_and_stops_and_the_same_command_goes_on(terminal: Terminal, undisturbed: Run) -> None:
    process = terminal.train()
    run = terminal.run
    run.wait_for_step(15)
    process.send_signal(signal.SIGINT)
    code, out = end(process)
    stopped = run.status()
    again, _ = end(terminal.train())

    assert code == 75, out
    assert stopped["state"] == "cancelled"
    assert again == 0
    assert_same_bits(run, undisturbed)
    assert_story(run, state="done", attempts=2, steps_redone=0)


def test_ctrl_c_twice_kills_and_nothing_is_lost(terminal: Terminal, undisturbed: Run) -> None:
    process = terminal.train()
    run = terminal.run
    run.wait_for_step(25)
    process.send_signal(signal.SIGINT)
    process.send_signal(signal.SIGINT)
    code, out = end(process)
    assert code != 0, out
    wait_until(lambda: not at_work_for(run), "everybody's end", pause_s=0.2)
    again, out = end(terminal.train())

    assert again == 0, out
    assert_same_bits(run, undisturbed)
    assert_story(run, state="done")


def test_a_config_that_can_never_work_fails_at_once_with_its_code(terminal: Terminal) -> None:
    code, out = end(terminal.train("train.device=7"))

    assert code == 78, out
    assert_story(terminal.run, state="failed", attempts=1)
    assert "asks for a GPU" in terminal.run.status()["reason"]


def test_in_the_background_it_goes_on_without_the_terminal(terminal: Terminal, undisturbed: Run) -> None:
    code, out = end(terminal.train("wait=false"))
    run = terminal.run

    assert code == 0, out
    wait_until(lambda: run.status()["state"] == "done", "the end", pause_s=0.5)
    assert_same_bits(run, undisturbed)
    assert json.loads(hpc_yolo("fingerprint", run.path, "--json").stdout)


def test_a_worker_that_hangs_tells_where_and_is_restarted_in_place(terminal: Terminal, undisturbed: Run) -> None:
    """Its data loaders are stopped: it waits for them, for ever."""
    process = terminal.train("train.workers=2", "retry.hang_s=2")
    run = terminal.run
    run.wait_for_step(20)
    send(descendants(terminal.pid_of(Kind.WORKER_STARTED)), signal.SIGSTOP)
    code, out = end(process)

    assert code == 0, out
    assert_same_bits(run, undisturbed)
    assert_story(run, state="done", attempts=2, interruptions={"failure": 1})
    (hung,) = run.events(Kind.HUNG)
    assert 20 <= hung.fields["step"] < 60
    stacks = run.dir.attempt(1).stderr.read_text()
    assert "(most recent call first)" in stacks
    assert "torch/utils/data/dataloader.py" in stacks
    assert "cause     hang, by the worker got no further in" in hpc_yolo("explain", run.path, "--all").stdout
