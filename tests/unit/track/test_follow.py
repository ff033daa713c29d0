"""The process beside a worker, and `hpc-yolo track`: what is missing is sent, and what fails costs the run nothing."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from hpc_yolo.cli import main
from hpc_yolo.config import TrackConfig
from hpc_yolo.events import Kind
from hpc_yolo.exact.tracking import TrackingProcess
from hpc_yolo.frozen import run_text, write_launch
from hpc_yolo.rundir import RunDir
from hpc_yolo.track import follow
from hpc_yolo.track.follow import Sender
from hpc_yolo.types import RunState
from tests.tracked import by_tensorboard
from tests.unit.runs_on_disk import HEADER, AttemptOnDisk, begin
from tests.unit.test_frozen import FROZEN, LAUNCH

METRIC = "metrics/mAP50-95(B)"
TENSORBOARD = TrackConfig(tensorboard=True)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "runs" / "digits" / "3f2a90c1")
    made.path.mkdir(parents=True)
    made.run_yaml.write_text(run_text(FROZEN))
    write_launch(made, replace(LAUNCH, track=TENSORBOARD))
    return made


def start(run: RunDir, number: int = 1) -> AttemptOnDisk:
    attempt = begin(run, number).start()
    write_launch(RunDir(attempt.dir.path), replace(LAUNCH, track=TENSORBOARD))
    return attempt


def write_rows(run: RunDir, epochs: int) -> None:
    run.results_csv.write_text(HEADER + "".join(f"{i},{i}.5,1.{i},0.{i}\n" for i in range(1, epochs + 1)))


def wait_until(condition: Callable[[], Any]) -> None:
    until = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_rows_are_sent_while_the_worker_trains_and_the_rest_at_its_end(run: RunDir) -> None:
    attempt = start(run)
    write_rows(run, 2)
    beside = TrackingProcess(run, attempt.dir, TENSORBOARD)
    wait_until(lambda: by_tensorboard(run.tensorboard_dir).get(METRIC) == [1, 2])
    write_rows(run, 3)
    attempt.tell(Kind.FINISHED, step=9, metrics={METRIC: 0.4})

    beside.finish(60)

    assert by_tensorboard(run.tensorboard_dir) == {
        "train/box_loss": [1, 2, 3], METRIC: [1, 2, 3], "final/mAP50-95(B)": [3],
    }  # fmt: skip


def test_a_warning_that_every_process_gets_does_not_end_it(run: RunDir) -> None:
    attempt = start(run)
    beside = TrackingProcess(run, attempt.dir, TENSORBOARD)
    assert beside._process is not None
    for signum in (signal.SIGUSR1, signal.SIGTERM, signal.SIGINT):
        os.kill(beside._process.pid, signum)
    write_rows(run, 1)
    attempt.tell(Kind.FINISHED, step=9, metrics={})

    beside.finish(60)

    assert beside._process.returncode == 0
    assert by_tensorboard(run.tensorboard_dir)[METRIC] == [1]


def test_a_node_without_the_tracker_s_address_sends_nothing_and_says_so(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    attempt, mlflow = start(run), TrackConfig(mlflow=True)
    write_launch(RunDir(attempt.dir.path), replace(LAUNCH, track=mlflow))

    TrackingProcess(run, attempt.dir, mlflow).finish(60)

    told = capfd.readouterr().err.splitlines()
    assert "MLFLOW_TRACKING_URI is not set" in told[0]
    assert "not all metrics" in told[1]


def test_one_whose_attempt_was_superseded_sends_nothing(run: RunDir) -> None:
    attempt = start(run)
    start(run, 2)
    write_rows(run, 2)

    TrackingProcess(run, attempt.dir, TENSORBOARD).finish(60)

    assert by_tensorboard(run.tensorboard_dir) == {}


def test_without_a_tracker_there_is_no_process(run: RunDir) -> None:
    assert TrackingProcess(run, start(run).dir, TrackConfig())._process is None


class Away:
    """A tracker whose server cannot be reached until told so."""

    is_back = False

    def send(self, rows: Mapping[int, Mapping[str, float]]) -> int:
        if not self.is_back:
            raise ConnectionError("cannot reach http://ada:secret@server:5000/api")
        return len(rows)

    def close(self, state: RunState, final: Mapping[str, float]) -> None:
        pass


def test_a_tracker_that_is_away_is_told_once_without_secrets_and_asked_less_and_less(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    away, now, opened = Away(), [0.0], []
    monkeypatch.setattr(follow, "open_tracker", lambda *_args: opened.append(now[0]) or away)
    write_rows(run, 2)
    sender = Sender("mlflow", run, FROZEN, clock=lambda: now[0])
    while now[0] < 200:
        assert sender.send() == 0
        now[0] += 5
    said = capsys.readouterr().err
    away.is_back = True
    now[0] += 600

    assert opened == [0, 30, 90]
    assert said.count("\n") == 1
    assert "was not sent to mlflow (ConnectionError: cannot reach http://server:5000/api)" in said
    assert "secret" not in said
    assert sender.send() == 2
    assert sender.end(RunState.DONE, {})


def test_track_sends_what_is_missing_and_says_how_much(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    start(run).end("preemption", "stop")
    write_rows(run, 3)

    assert main(["track", str(run.path)]) == 0
    first = capsys.readouterr().out
    assert main(["track", str(run.path), "--to", "tensorboard", "--json"]) == 0
    (second,) = json.loads(capsys.readouterr().out)

    assert "tensorboard: 3 epochs sent" in first
    assert (second["epochs"], second["is_whole"]) == (0, True)
    assert by_tensorboard(run.tensorboard_dir)[METRIC] == [1, 2, 3]


def test_track_leaves_a_run_that_is_trained_to_its_own_attempt(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    start(run).beat(3, alive=True)
    write_rows(run, 1)

    assert main(["track", str(run.path)]) == 0

    assert "is being trained, and its attempt sends by itself" in capsys.readouterr().out
    assert not run.tensorboard_dir.exists()


def test_track_asks_for_a_tracker_where_no_config_names_one(run: RunDir, capsys: pytest.CaptureFixture[str]) -> None:
    write_launch(run, LAUNCH)

    assert main(["track", str(run.path)]) == 78

    assert "Name one: --to tensorboard, mlflow or wandb." in capsys.readouterr().err


def test_track_of_what_cannot_be_reached_fails(
    run: RunDir, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(follow, "open_tracker", lambda *_args: Away())
    write_rows(run, 1)

    assert main(["track", str(run.path)]) == 76

    assert "not all of them" in capsys.readouterr().out
