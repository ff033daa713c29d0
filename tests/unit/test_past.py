"""What an attempt leaves behind for those who decide after the next one."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from hpc_yolo.rundir import RunDir
from hpc_yolo.supervise.endings import Past
from hpc_yolo.supervise.past import past_of
from tests.unit.runs_on_disk import begin, make_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / "3f2a")


def test_an_attempt_is_told_with_its_node_its_cause_and_where_it_failed(run: RunDir) -> None:
    attempt = begin(run).start(host="node7").beat(8)
    attempt.tell(Kind.SNAPSHOT_COMMITTED, file="x", step=5)
    attempt.tell(Kind.ATTEMPT_ENDED, outcome="failure", exit_code=70, next="restart", why="", cause="nccl", by="x")

    assert past_of(run, run.attempt(2)) == [
        Past(
            outcome="failure", next="restart", step=8, cause="nccl", node="node7", failed_at="step 9", has_saved=True
        )
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("phase", "place"),
    [
        ("start", ""),
        ("train", "step 9"),
        ("validate", "the validation after step 8"),
        ("final", "what follows step 8"),
        ("done", ""),
    ],
)
def test_where_it_stood_is_told_by_its_heartbeat(run: RunDir, phase: str, place: str) -> None:
    begin(run).start().beat(8, phase=phase)

    assert past_of(run, run.attempt(2))[0].failed_at == place


def test_one_whose_supervisor_vanished_has_told_nothing(run: RunDir) -> None:
    begin(run).start(resumed_at=None)

    assert past_of(run, run.attempt(2)) == [Past(node="node7")]
