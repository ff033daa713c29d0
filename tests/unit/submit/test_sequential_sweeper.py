"""Sweepers that choose their next points by what the last ones came to: waited for, told the objective, taken up again."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper

from hpc_yolo.errors import ConfigError, HpcYoloError
from hpc_yolo.events import Kind
from hpc_yolo.frozen import load_run
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.train_command import train
from tests.material import write_architecture, write_scenes
from tests.unit.runs_on_disk import begin

MODULE = "hydra_plugins.climbing_for_tests"


class Climbing(Sweeper):
    """Two points a batch; each batch begins at the better one of the last, and the third is the last."""

    told: list[Any]

    def setup(self, *, hydra_context: Any, task_function: Any, config: Any) -> None:
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> Any:
        best = 0.01
        for batch in range(3):
            points = [best, best / 2]
            returned = self.launcher.launch(
                [[*arguments, f"train.lr0={lr}"] for lr in points], initial_job_idx=2 * batch
            )
            values = [it.return_value for it in returned]
            Climbing.told.append(dict(zip(points, values, strict=True)))
            best = max(zip(values, points, strict=True))[1]


@pytest.fixture(autouse=True)
def climbing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a package of a user's would bring it."""
    name, _, last = MODULE.partition(".")
    package, module = types.ModuleType(name), types.ModuleType(MODULE)
    package.__path__ = []
    monkeypatch.setattr(Climbing, "__module__", MODULE)
    monkeypatch.setattr(Climbing, "told", [], raising=False)
    module.Climbing = Climbing  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, name, package)
    monkeypatch.setitem(sys.modules, MODULE, module)
    monkeypatch.setattr(package, last, module, raising=False)
    Plugins.instance().register(Climbing)
    conf = tmp_path / "conf" / "hydra" / "sweeper"
    conf.mkdir(parents=True)
    (conf / "climbing.yaml").write_text(f"_target_: {MODULE}.Climbing\n")


@pytest.fixture
def words(tmp_path: Path) -> list[str]:
    data, weights = write_scenes(tmp_path / "data", train=4, val=2), write_architecture(tmp_path / "tiny.yaml")
    return [
        "-m", "--config-dir", str(tmp_path / "conf"), "hydra/sweeper=climbing", f"data.yaml={data}", f"model.weights={weights}",
        "train.device=cpu", f"runs_dir={tmp_path / 'runs'}",
    ]  # fmt: skip


class Trainer:
    """In place of a training: the smaller the learning rate, the better; better in the first epoch than in the second."""

    def __init__(self) -> None:
        self.trained: list[float] = []
        self.ends_with: dict[float, int] = {}

    def __call__(self, run: RunDir, wait: bool) -> int:
        assert wait
        lr = float(load_run(run).train["lr0"])
        self.trained.append(lr)
        if self.ends_with.get(lr):
            return self.ends_with[lr]
        attempt = begin(run).start()
        for epoch, mean in enumerate((1 - lr, 0.5 - lr)):
            metrics = {"metrics/mAP50-95(B)": mean, "val/box_loss": lr + epoch}
            attempt.tell(Kind.EPOCH_ENDED, epoch=epoch, step=epoch + 1, metrics=metrics, fitness=mean)
        attempt.tell(Kind.FINISHED, step=2, metrics=metrics).end("done", "done")
        return 0


def test_each_batch_is_trained_before_the_next_is_chosen(words: list[str]) -> None:
    trainer = Trainer()
    runs, codes = train(words, trainer)

    assert trainer.trained == [0.01, 0.005, 0.0025, 0.00125]
    assert Climbing.told[0] == pytest.approx({0.01: 0.99, 0.005: 0.995})
    assert Climbing.told[2] == pytest.approx({0.0025: 0.9975, 0.00125: 0.99875})
    assert codes == [0] * 6
    assert len(runs) == 4  # the better one of a batch is in the next batch again, and is not trained again


def test_a_sweep_that_was_broken_off_goes_on_where_it_was(words: list[str]) -> None:
    trainer = Trainer()
    trainer.ends_with = {0.0025: 75}
    with pytest.raises(HpcYoloError, match="came to nothing"):
        train(words, trainer)
    trainer.ends_with, Climbing.told = {}, []
    before = list(trainer.trained)
    train(words, trainer)

    assert before == [0.01, 0.005, 0.0025]
    assert trainer.trained[len(before) :] == [0.0025, 0.00125]
    assert len(Climbing.told) == 3


@pytest.mark.parametrize(
    ("objective", "value"), [("val/box_loss", 0.01), ("mAP50-95", 0.99), ("metrics/mAP50-95(B)", 0.99)]
)
def test_the_objective_is_the_best_epoch_s(words: list[str], objective: str, value: float) -> None:
    train([*words, f"objective='{objective}'"], Trainer())

    assert Climbing.told[0][0.01] == pytest.approx(value)


def test_a_metric_that_is_not_there_is_named_with_those_that_are(words: list[str]) -> None:
    with pytest.raises(HpcYoloError, match=r"objective=mAP51: there is no metric 'mAP51'.*mAP50-95"):
        train([*words, "objective=mAP51"], Trainer())


@pytest.mark.parametrize("word", ["wait=false", "dry_run=true"])
def test_what_cannot_give_a_result_is_refused_before_anything_is_trained(
    words: list[str], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = Trainer()
    with pytest.raises(HpcYoloError):
        train([*words, word], trainer)

    assert trainer.trained == []
    assert f"Leave out {word}" in capsys.readouterr().err


def test_hydra_s_own_sweeper_is_told_nothing_and_everything_is_composed_first(words: list[str]) -> None:
    own = [word for word in words if not word.startswith("hydra/sweeper")]
    trainer = Trainer()
    with pytest.raises(ConfigError, match="imgsz"):
        train([*own, "wait=true", "train.lr0=0.01,0.02", "train.imgszz=64"], trainer)

    assert trainer.trained == []
