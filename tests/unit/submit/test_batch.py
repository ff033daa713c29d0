"""Composing many points at once: each is the config, or the error, that Hydra alone gives; and Hydra does little of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl

from hpc_yolo.errors import HpcYoloError
from hpc_yolo.submit import train_command
from hpc_yolo.submit.batch import Point
from hpc_yolo.submit.freeze import plan
from tests.material import write_scenes

#: A sweep, and how often Hydra composes for it: its groups and what is unusual, not its values.
SWEEPS: dict[str, tuple[list[str], int]] = {
    "values": (["train.lr0=0.1,1,null", "train.cos_lr=true,false", "train.epochs=3"], 1),
    "ranges": (["train.seed=range(0,2)", "train.lrf=range(0,1,0.5)", "cluster.cpu_threads=1,2"], 1),
    "groups and values": (["model=tiny,rtdetr-l", "train.seed=1,2"], 2),
    "globs": (["model=glob(yolo26*,exclude=yolo26n-*)", "train.seed=1,2"], 3),
    "experiments": (["experiment=quickstart,overnight", "train.epochs=1,2", "cluster.cpu_threads=2"], 2),
    "schemas": (["cluster=slurm,local", "cluster.nodes=1,null", "snapshot.every_s=auto,7"], 2),
    "texts": (["name=a,'b c',\"d,e\",f\\,g", "train.optimizer=SGD,'null'"], 1),
    "numbers and texts": (["train.box=8,8.0,'8'", "train.epochs=1e2,100,'100'"], 1),
    "lists": (["train.classes=[0],[1,2]", "train.seed=1,2"], 2),
    "dicts": (["+cluster.sbatch={a:1},{b:2}", "cluster=slurm", "train.seed=1,2"], 2),
    "what is added": (["cluster=slurm", "+cluster.sbatch.begin=now,later", "train.seed=1,2"], 2),
    "a whole and its part": (["data=digits", "data.digits={root:x},{root:y}", "data.digits.seed=1,2"], 4),
    "what is taken away": (["~train.lrf", "train.lr0=0.1,0.2"], 1),
    "references": (["train.lrf=${train.lr0},0.5", "train.lr0=0.1,0.2"], 3),
    "references in files": (["experiment=mine", "train.lr0=0.1,0.2", "train.seed=1,2"], 1),
    "the moment": (["name=${now:%Y}-x", "train.seed=1,2"], 1),
    "a part of what is a reference": (["experiment=referring", "retry.max_restarts=4,5"], 2),
    "a group of one's own": (["+optimizer=fast,slow", "train.seed=1,2"], 2),
    "a group by a path": (["hydra.searchpath=[OWN]", "+optimizer=fast,slow", "train.seed=1,2"], 2),
    "one point": (["train.lr0=0.3"], 1),
    "points that are alike": (["train.seed=1,1"], 2),
    "what is nowhere": (["data.digits.seed=1,2"], 2),
    "values that do not fit": (["train.epochs=0,1", "exact=maybe,warn", "snapshot.keep=1,2"], 1),
    "what is not known": (["+train.moasic=1,2", "train.seed=1,2"], 2),
    "what Hydra refuses": (["cluster.nodes=1,x", "train.seed=1,2"], 2),
    "a choice that is none": (["model=tiny,tinny", "train.seed=1,2"], 4),
    "a group like a value": (["train=default,ultralytics", "train.lr0=1,2"], 2),
}


@dataclass
class Composed:
    outcomes: list[tuple[str, list[str]]]
    """Of each point its config or error, in words, and its overrides."""
    calls: int
    """How often Hydra composed a point."""


_FILES = {
    "experiment/mine": (
        "# @package _global_\ndefaults: [override /cluster: slurm]\nname: lr-${train.lr0}\ntrain: {lrf: '${train.lr0}'}\n"
    ),
    "experiment/referring": "# @package _global_\nretry: '${oc.create:{max_restarts: 1}}'\n",
    "optimizer/fast": "# @package train\nmomentum: 0.5\n",
    "optimizer/slow": "# @package train\nmomentum: 0.9\n",
}


@pytest.fixture
def own(tmp_path: Path) -> Path:
    for name, text in _FILES.items():
        file = tmp_path / f"{name}.yaml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return tmp_path


def no_trial(_points: Sequence[Point]) -> list[float | HpcYoloError]:
    raise AssertionError("Hydra's own sweeper needs no results")


def composed(words: list[str], monkeypatch: pytest.MonkeyPatch, *, by_hydra_alone: bool) -> Composed:
    calls = []
    real = ConfigLoaderImpl.load_sweep_config
    with monkeypatch.context() as patched:
        patched.setattr(
            ConfigLoaderImpl, "load_sweep_config", lambda self, *args: (calls.append(args), real(self, *args))[1]
        )
        if by_hydra_alone:
            patched.setattr(train_command, "is_hydras_own", lambda _master: False)
        try:
            jobs = train_command._compose(["-m", *words], no_trial)
        except (HpcYoloError, AssertionError) as error:  # OmegaConf asserts that there are groups on the way to a value
            return Composed([(f"{type(error).__name__}: {error}", [])], len(calls))
    return Composed([(_in_words(job), job.overrides) for job in jobs], len(calls))


def _in_words(job: train_command._Job) -> str:
    """Types too: 8, 8.0 and "8" are different values."""
    try:
        return repr(job.config())
    except HpcYoloError as error:
        return f"{type(error).__name__}: {error}"


@pytest.mark.parametrize("sweep", SWEEPS)
def test_points_are_what_hydra_alone_makes_of_them(sweep: str, own: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words, most = SWEEPS[sweep]
    data = [] if "data=digits" in words else ["data.yaml=/data/my.yaml"]
    path = [] if "OWN" in str(words) else [f"--config-dir={own}"]
    words = [*path, *data, *(word.replace("OWN", str(own)) for word in words)]

    expected = composed(words, monkeypatch, by_hydra_alone=True)
    found = composed(words, monkeypatch, by_hydra_alone=False)

    assert found.outcomes == expected.outcomes
    assert found.calls <= most


def test_ids_of_a_sweep_are_those_of_its_points_one_by_one(tmp_path: Path) -> None:
    data = write_scenes(tmp_path / "set", train=3, val=2)
    fixed = [f"data.yaml={data}", "model.weights=yolo11n.yaml", "dry_run=true"]
    sweep = train_command._compose(["-m", *fixed, "train.lr0=1,0.1", "train.box=8,9.5", "data.streams=8,4"], no_trial)
    alone = [
        job
        for lr0 in ("1", "0.1")
        for box in ("8", "9.5")
        for streams in ("8", "4")
        for job in train_command._compose(
            [*fixed, f"train.lr0={lr0}", f"train.box={box}", f"data.streams={streams}"], no_trial
        )
    ]

    ids = [plan(job.config()).frozen.id for job in sweep]
    assert ids == [plan(job.config()).frozen.id for job in alone]
    assert len(set(ids)) == 8


def test_where_somebody_is_to_be_called_at_each_job_hydra_does_it_all(monkeypatch: pytest.MonkeyPatch) -> None:
    told = "+hydra.callbacks.told={_target_:hydra.experimental.callbacks.LogJobReturnCallback}"
    words = ["data.yaml=/data/my.yaml", "train.seed=1,2,3"]

    assert composed([*words, told], monkeypatch, by_hydra_alone=False).calls == 3
    assert composed(words, monkeypatch, by_hydra_alone=False).calls == 1
