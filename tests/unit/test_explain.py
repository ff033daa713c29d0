"""`explain`: what ended each attempt, what recognised it, what was decided, and what one can do."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.cli import main
from hpc_yolo.config import RetryConfig
from hpc_yolo.events import Kind
from hpc_yolo.frozen import launch_text
from hpc_yolo.report.explain import End, explain
from hpc_yolo.report.history import read_history
from hpc_yolo.rundir import RunDir
from tests.unit.runs_on_disk import begin, make_run
from tests.unit.supervised import launch_of

QUOTA = "cannot write weights/last.pt: Disk quota exceeded."


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / "runs" / "digits" / "3f2a90c1")


def held(run: RunDir, number: int = 1) -> None:
    """An attempt that its supervisor holds for a full quota."""
    attempt = begin(run, number).start(resumed_at=40).beat(88)
    attempt.tell(Kind.FAILED, error=QUOTA, exit_code=74, exception="hpc_yolo.errors.StorageError")
    told: dict[str, Any] = {"outcome": "failure", "exit_code": 74, "next": "hold", "why": "it left with 74; full"}
    attempt.tell(Kind.ATTEMPT_ENDED, **told, cause="quota", by='"Disk quota exceeded" in its error')


def newest(run: RunDir) -> End:
    return explain(read_history(run)).attempts[-1]


def printed(run: RunDir, capsys: pytest.CaptureFixture[str], *words: str) -> str:
    assert main(["explain", str(run.path), *words]) == 0
    return capsys.readouterr().out


def test_a_failure_is_told_from_what_happened_to_what_one_can_do(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    held(run)

    told = printed(run, capsys)

    assert told.startswith(f"{run.path}: failed: quota: {QUOTA}\n\nattempt 1 on node7, ")
    assert ", steps 40 to 88: failure\n" in told
    assert told.partition("failure\n")[2] == (
        f"  happened  {QUOTA}\n"
        '  cause     quota, by "Disk quota exceeded" in its error\n'
        "  its rule  hold, after 1 restart in place: nothing is freed by trying again; what was saved is safe\n"
        "  decided   hold: it left with 74; full\n"
        "  you can   Free space (`hpc-yolo clean` shows what may go) or have the quota raised, then "
        f"`hpc-yolo resume {run.path}`.\n"
        "\n"
        "now: Free space (`hpc-yolo clean` shows what may go) or have the quota raised, then "
        f"`hpc-yolo resume {run.path}`.\n"
    )


def test_json_holds_the_same(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    held(run)

    told = json.loads(printed(run, capsys, "--json"))

    assert (told["state"], told["reason"]) == ("failed", f"quota: {QUOTA}")
    (end,) = told["attempts"]
    assert (end["outcome"], end["cause"], end["decided"]) == ("failure", "quota", "hold")
    assert (end["from_step"], end["to_step"], end["node"]) == (40, 88, "node7")
    assert end["ended"] > end["began"]


def test_what_slurm_said_of_a_warning_is_told(run: RunDir) -> None:
    attempt = begin(run).start().beat(9).tell(Kind.STOP_REQUESTED, signal="SIGTERM", by="supervisor")
    attempt.tell(Kind.STOP_EXPLAINED, reason="preemption", grace_s=10, said="JobState=RUNNING PreemptTime is set")
    attempt.tell(Kind.STOPPED, step=9).end("preemption", "requeue", "preemption; its state is saved")

    end = newest(run)

    assert end.happened == "it was warned; JobState=RUNNING PreemptTime is set"
    assert (end.cause, end.rule, end.decided) == (None, None, "requeue")
    assert end.advice == "Nothing: it comes back by itself."


def test_a_failure_that_no_rule_knows_leads_to_its_log(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    begin(run, 2).start().tell(Kind.FAILED, error="KeyError: 'cls'", exit_code=70).end("failure", "fail", "4 in a row")

    told = printed(run, capsys)

    assert "  cause     no rule knows it\n" in told
    assert f"`hpc-yolo logs {run.path} --attempt 2`" in told


def test_what_nobody_recognised_then_is_recognised_now(run: RunDir) -> None:
    """A worker in the foreground has no supervisor, and an earlier release had no table."""
    begin(run).start().tell(Kind.FAILED, error="RuntimeError: CUDA out of memory. Tried", exit_code=70)

    end = newest(run)

    assert (end.outcome, end.cause, end.decided) == ("failure", "cuda_out_of_memory", None)
    assert end.recognised_by == '"CUDA out of memory" in its error'


def test_a_rule_of_ones_own_is_told_as_it_was_frozen(run: RunDir) -> None:
    rule = {"when": [{"exit_code": 74}], "decision": "hold", "why": "it is Tuesday", "advice": "Wait for Wednesday."}
    held(run)
    launch = replace(launch_of(), retry=RetryConfig(rules={"quota": {"why": "it is Monday"}, "tuesday": rule}))
    run.attempt(1).launch_yaml.write_text(launch_text(launch))
    begin(run, 2).start().tell(Kind.FAILED, error="x", exit_code=74).dir.launch_yaml.write_text(launch_text(launch))

    first, second = explain(read_history(run)).attempts

    assert first.rule == "hold, after 1 restart in place: it is Monday"
    assert (second.cause, second.rule, second.advice) == ("tuesday", "hold: it is Tuesday", "Wait for Wednesday.")


def test_a_step_that_failed_twice_is_named_by_explain_and_status(
    run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    attempt = begin(run, 2).start().beat(8).tell(Kind.FAILED, error="KeyError: 'cls'", exit_code=70)
    told: dict[str, Any] = {"outcome": "failure", "exit_code": 70, "next": "fail", "why": "it left; step 9 ..."}
    attempt.tell(Kind.ATTEMPT_ENDED, **told, history="step 9 has failed twice")

    lines = printed(run, capsys).splitlines()

    assert lines[0] == f"{run.path}: failed: KeyError: 'cls'; step 9 has failed twice"
    assert lines[4:7] == ["  cause     no rule knows it", "  history   step 9 has failed twice", "  decided   fail"]


@pytest.mark.parametrize(
    ("is_alive", "outcome", "happened"),
    [(True, "running", "it is at step 9"), (False, "vanished", "its worker vanished at step 9, without a word")],
)
def test_an_attempt_that_nobody_has_ended(run: RunDir, is_alive: bool, outcome: str, happened: str) -> None:
    attempt = begin(run).start().beat(9, alive=is_alive)

    end = newest(run)

    assert (end.outcome, end.happened) == (outcome, happened)
    assert (end.ended is None) is is_alive
    assert attempt.dir.number == end.attempt


def test_the_rank_that_went_first_is_named(run: RunDir) -> None:
    attempt = begin(run).start(ranks=2).tell(Kind.RANK_LOST, rank=1, exit_code=-9)
    attempt.tell(Kind.FAILED, error="another rank is gone", exit_code=69).end("failure", "restart")

    assert newest(run).happened == "rank 1 was lost first (exit code -9); another rank is gone"


def test_the_end_that_was_told_for_a_lost_node_is_that_of_its_last_heartbeat(run: RunDir) -> None:
    attempt = begin(run).start().beat(9, at=1_700_001_500)
    told = {"outcome": "node_failure", "exit_code": None, "next": "requeue", "why": "its node was lost"}
    attempt.at(1_700_009_000).tell(Kind.ATTEMPT_ENDED, **told, cause="lost_node", by="state NODE_FAIL")

    end = newest(run)

    assert (end.ended, end.cause, end.happened) == (1_700_001_500, "lost_node", "its node was lost")


def test_of_many_attempts_the_newest_ten_are_told(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(1, 13):
        begin(run, number).start().end("preemption" if number > 1 else "node_failure", "requeue")

    told = printed(run, capsys)

    assert "2 earlier attempts (1 node failure, 1 preemption); --all shows them" in told
    assert told.count("\nattempt ") == 10
    assert printed(run, capsys, "--all").count("\nattempt ") == 12


def test_a_run_without_attempts_says_so(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert "It has made no attempt yet." in printed(run, capsys)


def test_a_name_that_means_no_run_is_told_in_one_line(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "3f2b", "--runs-dir", str(run.path.parents[1])]) == 2

    told = capsys.readouterr().err
    assert told.startswith("hpc-yolo: there is no run 3f2b")
    assert told.count(os.linesep) == 1
