"""TensorBoard, MLflow and W&B, by their own libraries: whatever is begun again goes on in one experiment, each epoch once."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path

import pytest

from hpc_yolo.config import TrackConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import FrozenRun
from hpc_yolo.rundir import RunDir
from hpc_yolo.track import tracker
from hpc_yolo.track.to_mlflow import MLflowRun
from hpc_yolo.track.to_tensorboard import TensorBoardFiles
from hpc_yolo.track.tracker import check_trackers, key_of
from hpc_yolo.types import RunState
from tests.tracked import by_mlflow, by_tensorboard, by_wandb, mlflow_runs
from tests.unit.test_frozen import FROZEN

METRIC = "metrics/mAP50-95(B)"
FINAL = {"final/mAP50-95(B)": 0.5}
_UNDER_WAY = RunState.RUNNING


def rows(epochs: int) -> dict[int, dict[str, float]]:
    return {i: {"epoch": i, "time": 3.0 * i, "train/box_loss": 2.0 / i, METRIC: i / 10} for i in range(1, epochs + 1)}


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "3f2a90c1")
    made.path.mkdir()
    return made


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """MLflow's store of files stands in for its server; the client is the same."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"file://{tmp_path}/mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_EXPERIMENT_NAME", raising=False)
    return FROZEN.name


def test_tensorboard_has_each_epoch_once_over_all_attempts(run: RunDir) -> None:
    first = TensorBoardFiles(run)
    assert first.send(rows(2)) == 2
    assert first.send(rows(2)) == 0  # killed here: nobody closes it
    second = TensorBoardFiles(run)
    assert second.send(rows(4)) == 2
    second.close(_UNDER_WAY, {})
    third = TensorBoardFiles(run)
    third.close(RunState.DONE, FINAL)
    TensorBoardFiles(run).close(RunState.DONE, FINAL)

    assert by_tensorboard(run.tensorboard_dir) == {
        "train/box_loss": [1, 2, 3, 4], METRIC: [1, 2, 3, 4], "final/mAP50-95(B)": [4],
    }  # fmt: skip
    assert len(list(run.tensorboard_dir.iterdir())) == 3  # a start that sends nothing leaves no file


def test_a_tensorboard_file_that_a_kill_cut_short_is_gone_on_from(run: RunDir) -> None:
    writer = TensorBoardFiles(run)
    writer.send(rows(3))
    writer.close(_UNDER_WAY, {})
    (file,) = run.tensorboard_dir.iterdir()
    file.write_bytes(file.read_bytes()[:-7])  # in the middle of epoch 3

    assert TensorBoardFiles(run).send(rows(4)) == 2

    assert by_tensorboard(run.tensorboard_dir)[METRIC] == [1, 2, 3, 4]


def test_mlflow_goes_on_in_one_run_with_each_epoch_once(server: str) -> None:
    first = MLflowRun("key", FROZEN)
    assert first.send(rows(2)) == 2
    assert first.send(rows(2)) == 0
    second = MLflowRun("key", FROZEN)
    assert second.send(rows(4)) == 2
    assert [it.info.status for it in mlflow_runs(server)] == ["RUNNING"]
    second.close(RunState.FAILED, {})
    assert [it.info.status for it in mlflow_runs(server)] == ["FAILED"]
    third = MLflowRun("key", FROZEN)
    assert [it.info.status for it in mlflow_runs(server)] == ["RUNNING"]
    third.close(RunState.DONE, FINAL)
    MLflowRun("key", FROZEN).close(RunState.DONE, FINAL)

    (only,) = mlflow_runs(server)
    assert by_mlflow(only.info.run_id) == {
        "train/box_loss": [1, 2, 3, 4], "metrics/mAP50-95B": [1, 2, 3, 4], "final/mAP50-95B": [4],
    }  # fmt: skip
    assert only.info.status == "FINISHED"
    assert only.data.params["hpc_yolo_run"] == FROZEN.id
    assert only.data.params["lr0"] == "1e-05"


def test_what_mlflow_got_of_an_epoch_before_a_kill_is_not_sent_again(server: str) -> None:
    MLflowRun("key", FROZEN).send({1: {"train/box_loss": 2.0}})

    MLflowRun("key", FROZEN).send(rows(1))

    (only,) = mlflow_runs(server)
    assert by_mlflow(only.info.run_id) == {"train/box_loss": [1], "metrics/mAP50-95B": [1]}


def test_a_run_of_another_key_is_another_run_of_the_experiment(server: str) -> None:
    MLflowRun("key", FROZEN).send(rows(1))

    MLflowRun("other", FROZEN).send(rows(1))

    assert len(mlflow_runs(server)) == 2


def test_wandb_goes_on_under_one_id_with_each_epoch_once(run: RunDir, monkeypatch: pytest.MonkeyPatch) -> None:
    from hpc_yolo.track.to_wandb import WandbRun

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    for name in ("WANDB_DIR", "WANDB_PROJECT", "WANDB_RUN_ID"):
        monkeypatch.delenv(name, raising=False)
    for epochs, state in ((2, _UNDER_WAY), (2, _UNDER_WAY), (4, RunState.DONE)):
        it = WandbRun(run, FROZEN)
        it.send(rows(epochs))
        it.close(state, FINAL)
        time.sleep(1.1)  # W&B names an attempt's folder by the second

    ids, held = by_wandb(run.path)
    assert ids == {key_of(run)}
    assert held["train/box_loss"] == held[METRIC] == held["epoch"] == [1, 2, 3, 4]


def test_the_key_stays_with_the_run_and_another_run_has_another(run: RunDir, tmp_path: Path) -> None:
    anew = RunDir(tmp_path / "anew" / run.path.name)
    anew.path.mkdir(parents=True)

    assert key_of(run) == key_of(run) != key_of(anew)


@pytest.mark.parametrize("name", ["tensorboard", "mlflow", "wandb"])
def test_a_tracker_whose_package_is_missing_is_refused_with_the_command_that_installs_it(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(tracker.importlib.util, "find_spec", lambda _name: None)

    with pytest.raises(
        ConfigError, match=rf"track.{name}=true needs the package {name}.*pip install 'hpc-yolo\[{name}\]'"
    ):
        check_trackers(TrackConfig(**{name: True}))


def test_mlflow_without_an_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI is not set"):
        check_trackers(TrackConfig(mlflow=True))


def test_a_long_parameter_is_cut_where_servers_would_refuse_it(server: str) -> None:
    MLflowRun("key", _with_long_classes(FROZEN))

    (only,) = mlflow_runs(server)
    assert len(only.data.params["classes"]) == 500


def _with_long_classes(frozen: FrozenRun) -> FrozenRun:
    return replace(frozen, train={**frozen.train, "classes": list(range(1000))})
