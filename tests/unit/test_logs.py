"""`logs`: one attempt's output, or that of all attempts as they come."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import pytest

from hpc_yolo.cli import main
from hpc_yolo.events import Kind
from hpc_yolo.report.logs import LogPrinter, follow_logs
from hpc_yolo.rundir import RunDir
from tests.unit.runs_on_disk import begin, make_run


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = make_run(tmp_path / "3f2a")
    for number, text in enumerate(("first\n", "second\n"), start=1):
        attempt = begin(run, number).start(host=f"node{number}").beat(1, host=f"node{number}")
        attempt.dir.stdout.write_text(text)
    return run


def test_the_newest_attempt_is_printed(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    run.attempt(2).stderr.write_text("a warning\n")

    assert main(["logs", str(run.path)]) == 0

    shown = capsys.readouterr()
    assert shown.out == "── attempt 2 on node2 ──\nsecond\n"
    assert shown.err == "a warning\n"


def test_an_older_attempt_can_be_asked_for(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", str(run.path), "--attempt", "1"]) == 0
    assert capsys.readouterr().out == "── attempt 1 on node1 ──\nfirst\n"


@pytest.mark.parametrize(
    ("attempt", "message"), [("7", "has no attempt 7; there are 1 to 3"), ("3", "has no log: it wrote to the terminal")]
)
def test_an_attempt_without_a_log_is_explained(
    run: RunDir, attempt: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(run, 3).start()

    assert main(["logs", str(run.path), "--attempt", attempt]) == 2
    assert message in capsys.readouterr().err


def test_a_run_never_started_has_no_log(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["logs", str(make_run(tmp_path / "77d0").path)]) == 2
    assert "has not been started yet" in capsys.readouterr().err


def test_following_goes_across_attempts_until_the_run_is_done(run: RunDir) -> None:
    running = begin(run, 3).start(resumed_at=1, host="node3").beat(1, alive=True, host="node3")
    running.dir.stdout.write_text("third ")

    def preempted() -> None:
        running.dir.stdout.write_text("third goes\n")
        running.tell(Kind.STOPPED, step=1).end("preemption", "requeue")

    def finished() -> None:
        last = begin(run, 4).start(host="node4").beat(9, host="node4")
        last.dir.stdout.write_text("fourth\n")
        last.tell(Kind.FINISHED, step=9, metrics={})

    assert followed(run, None, [preempted, finished]) == (
        "── attempt 3 on node3 ──\nthird goes\n── attempt 4 on node4 ──\nfourth\n"
    )


def test_following_waits_a_little_for_a_failed_run_to_be_started_again(run: RunDir) -> None:
    def restarted() -> None:
        last = begin(run, 3).start(host="node3").beat(9, host="node3")
        last.dir.stdout.write_text("third\n")
        last.tell(Kind.FINISHED, step=9, metrics={})

    assert followed(run, None, [lambda: None, restarted]).endswith("── attempt 3 on node3 ──\nthird\n")


def test_following_one_attempt_ends_with_it(run: RunDir) -> None:
    assert followed(run, 1, []) == "── attempt 1 on node1 ──\nfirst\n"


def followed(run: RunDir, number: int | None, happenings: list[Callable[[], None]]) -> str:
    """What `logs -f` prints while these happen one after the other, a second apart."""
    out, now = io.BytesIO(), [0.0]

    def sleep(_seconds: float) -> None:
        now[0] += 1
        if happenings:
            happenings.pop(0)()

    follow_logs(run, number, LogPrinter(out, io.BytesIO()), sleep=sleep, clock=lambda: now[0])
    return out.getvalue().decode()
