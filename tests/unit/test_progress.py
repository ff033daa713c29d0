"""The live view of `train`: lines where it is written to a file, one rewritten line on a terminal."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from hpc_yolo.report.history import read_attempt
from hpc_yolo.report.pace import eta_s
from hpc_yolo.report.progress import ProgressView
from hpc_yolo.rundir import RunDir
from tests.unit.runs_on_disk import AttemptOnDisk, begin, make_run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return make_run(tmp_path / "3f2a")


def end_epoch(attempt: AttemptOnDisk, epoch: int, step: int) -> None:
    attempt.tell(Kind.EPOCH_ENDED, epoch=epoch, step=step, metrics={"metrics/mAP50-95(B)": 0.25}, fitness=0.25)


def test_off_a_terminal_epochs_and_interruptions_are_lines(run: RunDir) -> None:
    out = io.StringIO()
    view = ProgressView(run, out)
    first = begin(run).start(host="node1").beat(10, alive=True)
    end_epoch(first, 0, 10)
    view.update()
    view.update()
    for by in ("supervisor", "worker"):  # both note it; it is told once
        first.tell(Kind.STOP_REQUESTED, signal="SIGUSR1", by=by)
    first.tell(Kind.STOPPED, step=12)
    first.beat(12).end("preemption", "restart", why="the worker alone was warned")
    second = begin(run, 2).start(resumed_at=12, epoch=1, host="node1").beat(100, epoch=9)
    second.tell(Kind.FINISHED, step=100, metrics={"metrics/mAP50-95(B)": 0.41})
    view.close()

    lines = out.getvalue().splitlines()
    assert [line.partition(" (process")[0] for line in lines] == [
        "attempt 1 started on node1",
        "epoch 1 ended at step 10, mAP50-95 0.25",
        "attempt 1 was asked to stop (SIGUSR1)",
        "attempt 1 stopped at step 12, its state is saved",
        "attempt 1 ended (the worker alone was warned): it is started again here",
        "attempt 2 started on node1",
        "attempt 2 resumed at step 12",
        f"done: epoch 10/10, step 100/100; mAP50-95 0.41; 1 interruption, 0 steps redone; {run.path}",
    ]


def test_attempts_of_an_earlier_submission_are_not_told_again(run: RunDir) -> None:
    begin(run).start().beat(12).tell(Kind.STOPPED, step=12).end("cancellation", "stop")
    out = io.StringIO()

    ProgressView(run, out).update()

    assert out.getvalue() == ""


def test_on_a_terminal_one_line_is_rewritten(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    out = Terminal()
    view = ProgressView(run, out)
    attempt = begin(run).start().beat(10, epoch=1, alive=True, loss=3.14159)
    view.update()
    view.update()
    attempt.beat(11, epoch=1, alive=True, loss=3.0)
    view.update()

    _, before, after = out.getvalue().split("\r\x1b[Kepoch 2/10  ")
    assert before.startswith("step 10/100  loss 3.142  ETA ")
    assert after.startswith("step 11/100  loss 3  ETA ")


def test_the_eta_follows_the_attempts_own_pace(run: RunDir) -> None:
    attempt = begin(run).start(resumed_at=20)
    resumed_at = attempt.clock
    attempt.beat(40)
    history = read_attempt(attempt.dir, resumed_at)
    assert history.beat is not None

    history.beat.time = resumed_at + 10  # 20 steps in 10 s, 60 to go
    assert eta_s(history) == pytest.approx(30)

    history.beat.time = resumed_at + 1  # too little to say
    assert eta_s(history) is None


def test_a_dumb_terminal_gets_plain_lines(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    out = Terminal()
    view = ProgressView(run, out)
    begin(run).start().beat(10, alive=True)
    view.close("cancelled")

    assert "\x1b" not in out.getvalue()
    assert out.getvalue().splitlines()[-1].startswith("cancelled: epoch 1/10, step 10/100")
