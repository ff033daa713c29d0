"""Runs of one experiment stay off a node that has failed one of them, for a while and within a budget."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from hpc_yolo.config import RetryConfig
from hpc_yolo.events import Kind
from hpc_yolo.rundir import RunDir, sick_nodes
from hpc_yolo.supervise.endings import Past
from hpc_yolo.supervise.policy import Decision, Next, leave_sick_node
from hpc_yolo.supervise.sick_nodes import NodeList, find, holding, note, take_back
from tests.unit.supervised import CRASH, FINISH, endings, events, make_run

NOW = 1_700_000_000.0
MOVED = Past(outcome="node_failure", next="requeue", cause="sick_node")
#: A supervisor on a cluster that hands its job back at once.
SUPERVISE = """
import sys
from hpc_yolo.supervise.allocation import HandBack, LocalAllocation
from tests.unit.supervised import FakeTask

class Cluster(LocalAllocation):
    has_other_nodes = True

    def hand_back(self, within_s):
        return HandBack(how="requeued")

class Task(FakeTask):
    def allocation(self):
        return Cluster()

Task(sys.argv[1])()
"""


def start(run: RunDir, node: str) -> int:
    """The exit code of one start of its job on that node."""
    environ = {**os.environ, "SLURMD_NODENAME": node, "PYTHONPATH": str(Path(__file__).parents[2])}
    return subprocess.run([sys.executable, "-c", SUPERVISE, str(run.path)], env=environ, check=False).returncode


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return sick_nodes(tmp_path)


def nodes(file: Path, now: float = NOW) -> list[str]:
    return [it.node for it in holding(file.read_text(), now)]


def test_a_node_is_kept_off_until_its_time_is_over(file: Path) -> None:
    note(file, "node3", "3f2a", "gpu_lost", NOW, hours=2)

    found = find(file, "node3", NOW + 7199)

    assert found is not None
    assert (found.run, found.why) == ("3f2a", "gpu_lost")
    assert find(file, "node3", NOW + 7200) is None
    assert find(file, "node4", NOW) is None


def test_without_a_list_no_node_is_sick(file: Path) -> None:
    assert find(file, "node3", NOW) is None
    take_back(file, "3f2a", NOW)
    assert not file.exists()


def test_a_run_takes_back_its_own_word_only(file: Path) -> None:
    for node, run in (("node3", "3f2a"), ("node4", "77d0"), ("node5", "3f2a")):
        note(file, node, run, "gpu_lost", NOW, hours=1)

    take_back(file, "3f2a", NOW)
    take_back(file, "3f2a", NOW)

    assert nodes(file) == ["node4"]
    assert len(file.read_text().splitlines()) == 4
    note(file, "node5", "3f2a", "gpu_lost", NOW, hours=1)
    assert nodes(file) == ["node4", "node5"]


def test_half_a_line_and_strange_ones_are_passed_over(file: Path) -> None:
    note(file, "node3", "3f2a", "gpu_lost", NOW, hours=1)
    with file.open("a") as end:
        end.write('{"node": 3, "until": 9e99}\n[1]\n{"node": "node5", "until": "soon"}\n{"node": "no')

    assert nodes(file) == ["node3"]


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        ([], True),
        ([MOVED] * 2, True),
        ([MOVED] * 3, False),
        ([*[MOVED] * 3, Past(outcome="failure", next="restart")], True),  # it has trained there meanwhile
        ([*[MOVED] * 2, Past(outcome="cancellation", next="stop", cause="sick_node"), MOVED], True),
    ],
)
def test_a_run_leaves_sick_nodes_three_times_in_a_row_at_most(past: list[Past], expected: bool) -> None:
    decision = leave_sick_node(past, "node3 has failed run 77d0 (gpu_lost)", RetryConfig())

    assert (decision is not None) is expected
    assert decision is None or (decision.next, decision.outcome, decision.cause) == (
        Next.REQUEUE,
        "node_failure",
        "sick_node",
    )


def test_a_list_that_cannot_be_read_or_written_keeps_nobody_from_training(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lr" / "3f2a", FINISH)
    sick_nodes(run.path.parent).mkdir()
    its_list = NodeList(run, can_move=True)

    assert its_list.leave([], RetryConfig()) is None
    its_list.tell(
        Decision(next=Next.REQUEUE, outcome="failure", exit_code=70, why="", is_node_sick=True), RetryConfig()
    )


def test_a_sick_node_is_left_by_its_run_and_at_once_by_the_others(tmp_path: Path) -> None:
    lost = {**CRASH, "error": "RuntimeError: CUDA error: uncorrectable ECC error encountered"}
    first = make_run(tmp_path / "lr" / "3f2a", lost, FINISH)
    second = make_run(tmp_path / "lr" / "77d0", FINISH)

    start(first, "node3")
    start(second, "node3")
    start(second, "node4")

    assert endings(first) == [("failure", "requeue")]
    assert endings(second) == [("node_failure", "requeue"), ("done", "done")]
    told = events(second, Kind.ATTEMPT_ENDED)[0].fields
    assert told["cause"] == "sick_node"
    assert told["why"] == "node3 has failed run 3f2a (gpu_memory_error); move 1 of 3"
    assert [e.fields["how"] for e in events(second, Kind.HANDED_BACK)] == ["requeued"]
    assert len(events(second, Kind.WORKER_STARTED)) == 1


def test_where_slurm_gives_no_other_node_it_trains_there_in_the_end(tmp_path: Path) -> None:
    run = make_run(tmp_path / "lr" / "3f2a", FINISH, max_moves=1)
    note(sick_nodes(run.path.parent), "node3", "77d0", "gpu_lost", 4e9, hours=1)

    codes = [start(run, "node3") for _ in range(2)]

    assert codes == [75, 0]
    assert endings(run) == [("node_failure", "requeue"), ("done", "done")]


def test_a_run_that_fails_in_the_end_takes_back_what_it_said(tmp_path: Path) -> None:
    run = make_run(
        tmp_path / "lr" / "3f2a", {**CRASH, "error": "No CUDA GPUs are available", "steps": 0}, max_restarts=1
    )
    file = sick_nodes(run.path.parent)

    start(run, "node3")
    before = nodes(file, 0)
    start(run, "node4")

    assert endings(run) == [("failure", "requeue"), ("failure", "fail")]
    assert (before, nodes(file, 0)) == (["node3"], [])
    assert json.loads(file.read_text().splitlines()[-1]) == {"run": "3f2a", "taken_back": True}


@pytest.mark.parametrize("can_move", [True, False])
def test_a_run_that_cannot_move_alone_leaves_the_list_alone(tmp_path: Path, can_move: bool) -> None:
    run = make_run(tmp_path / "lr" / "3f2a", FINISH)
    sick = Decision(next=Next.REQUEUE, outcome="failure", exit_code=70, why="", is_node_sick=True)

    NodeList(run, can_move=can_move).tell(sick, RetryConfig())
    NodeList(run, can_move=True).tell(sick, RetryConfig(exclude_h=0))

    assert sick_nodes(run.path.parent).exists() is can_move
