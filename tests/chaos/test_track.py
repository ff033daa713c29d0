"""A training that is preempted and killed goes on in one experiment at every tracker, with the bits of one that was not."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpc_yolo.events import Kind
from hpc_yolo.result_rows import read_rows
from tests.chaos.conftest import Factory, Run, assert_same_bits, wait_until
from tests.chaos.terminal import Terminal, end, preempt
from tests.tracked import by_mlflow, by_tensorboard, by_wandb, mlflow_runs

METRIC = "metrics/mAP50-95(B)"


@pytest.fixture
def tracked(small: Factory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    """Stores of files stand in for the servers of MLflow and W&B; the clients are theirs."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("WANDB_MODE", "offline")
    it = Terminal(small, "tracked")
    yield it
    it.close()


def test_every_tracker_has_one_experiment_and_each_epoch_once(tracked: Terminal, undisturbed: Run) -> None:
    process = tracked.train("track.tensorboard=true", "track.mlflow=true", "track.wandb=true")
    run = tracked.run
    run.wait_for_step(20)  # an epoch has 15
    preempt(run)
    wait_until(lambda: len(run.dir.attempts()) > 1, "the next attempt")
    run.wait_for_step(33)
    os.kill(tracked.pid_of(Kind.WORKER_STARTED), signal.SIGKILL)
    code, out = end(process)

    assert code == 0, out
    assert_same_bits(run, undisturbed)
    epochs = list(read_rows(run.dir.results_csv))
    assert epochs == [1, 2, 3, 4]
    in_files = by_tensorboard(run.dir.tensorboard_dir)
    assert in_files["train/box_loss"] == in_files[METRIC] == epochs
    (only,) = mlflow_runs("tracked")
    held = by_mlflow(only.info.run_id)
    assert held["train/box_loss"] == held["metrics/mAP50-95B"] == epochs
    assert held["final/mAP50-95B"] == in_files["final/mAP50-95(B)"] == [4]
    assert only.info.status == "FINISHED"
    ids, of_wandb = by_wandb(run.dir.path)
    assert len(ids) == 1
    assert of_wandb["train/box_loss"] == of_wandb[METRIC] == epochs
