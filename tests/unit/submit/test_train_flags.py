"""`hpc-yolo train`: Hydra's flags, sweeps, what people mistype, and completion in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import yaml

from hpc_yolo.config import Exact
from hpc_yolo.errors import ConfigError, DataError, HpcYoloError
from hpc_yolo.events import Kind
from hpc_yolo.frozen import FrozenRun, load_launch, load_run
from hpc_yolo.rundir import RunDir
from hpc_yolo.submit.train_command import main
from tests.unit.data_on_disk import make_data
from tests.unit.runs_on_disk import begin

REPOSITORY = Path(__file__).parents[3]


@dataclass
class Launches:
    """Stands where processes begin: notes what was launched, and says how it ended."""

    outcomes: list[int] = field(default_factory=list)
    runs: list[RunDir] = field(default_factory=list)
    waits: list[bool] = field(default_factory=list)

    def __call__(self, run: RunDir, wait: bool) -> int:
        self.runs.append(run)
        self.waits.append(wait)
        return self.outcomes.pop(0) if self.outcomes else 0

    @property
    def frozen(self) -> list[FrozenRun]:
        return [load_run(run) for run in self.runs]


Train = Callable[..., int]


@pytest.fixture
def launches() -> Launches:
    return Launches()


@pytest.fixture
def train(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, launches: Launches) -> Train:
    make_data(tmp_path / "data")
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> int:
        return main(["model.weights=yolo11n.yaml", "data.yaml=data/data.yaml", *words], launches)

    return run


def end(run: RunDir) -> None:
    begin(run).start().beat(100).tell(Kind.FINISHED, step=100, metrics={})


def test_it_exits_with_the_runs_outcome_and_waits_unless_told_not_to(train: Train, launches: Launches) -> None:
    launches.outcomes = [75]

    assert train("wait=false") == 75
    assert launches.waits == [False]


def test_a_dry_run_prints_what_would_be_frozen_and_makes_nothing(
    train: Train, launches: Launches, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(tmp_path.rglob("*"))

    assert train("train.epochs=3", "dry_run=true") == 0

    run_yaml, launch_yaml = list(yaml.safe_load_all(capsys.readouterr().out.replace("\n# /", "\n---\n# /")))
    assert run_yaml["train"]["epochs"] == 3
    assert launch_yaml["exact"] == "warn"
    assert sorted(tmp_path.rglob("*")) == before
    assert launches.runs == []
    train("train.epochs=3")
    assert launches.frozen[0].id == run_yaml["id"]


def test_an_edited_run_yaml_is_refused(train: Train, launches: Launches) -> None:
    train()
    file = launches.runs[0].run_yaml
    file.write_text(file.read_text().replace("epochs: 100", "epochs: 101"))

    with pytest.raises(ConfigError, match="was edited"):
        train()


def test_a_sweep_trains_one_after_the_other_and_goes_on_after_a_failure(
    train: Train, launches: Launches, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    launches.outcomes = [0, 70, 0]

    assert train("-m", "train.lr0=0.01,0.02,5,0.03") == 70

    printed = capsys.readouterr()
    assert [frozen.train["lr0"] for frozen in launches.frozen] == [0.01, 0.02, 0.03]
    assert "hpc-yolo: train.lr0=5 must be 1 or less" in printed.err
    assert [line for line in printed.out.splitlines() if " of 4: " in line] == [
        "3 of 4: bad config (exit code 78)",  # at once, not after the hours that the others take
        "1 of 4: done",
        "2 of 4: bug (exit code 70)",
        "4 of 4: done",
    ]
    assert sorted(os.listdir(tmp_path)) == ["data", "runs"]


def test_points_that_are_one_run_are_trained_once_and_that_is_said_once(
    train: Train, launches: Launches, capsys: pytest.CaptureFixture[str]
) -> None:
    launches.outcomes = [75, 0]

    assert train("-m", "exact=warn,strict", "train.epochs=3,4", "retry.max_restarts=1,2") == 75

    told = capsys.readouterr().err
    assert [frozen.train["epochs"] for frozen in launches.frozen] == [3, 4]
    assert "8 points of this sweep are 2 runs: they differ only in exact, retry.max_restarts, which there" in told
    assert told.count("points of this sweep") == 1
    assert load_launch(launches.runs[0].launch_yaml).exact is Exact.WARN


@pytest.mark.parametrize("words", [["model=glob(yolo99*)"], ["train.epochs=range(3,3)"]])
def test_a_sweep_without_a_point_is_an_error(train: Train, launches: Launches, words: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"this sweep is empty: .* stands for no value") as told:
        train("-m", *words, "train.lr0=0.1,0.2")

    assert words[0] in str(told.value)
    assert "lr0" not in str(told.value)


def test_a_mistyped_group_option_is_told_before_the_first_run_of_a_sweep_begins(
    train: Train, launches: Launches
) -> None:
    with pytest.raises(ConfigError, match=r"model=yolo99n: there is no such option\. Did you mean model=yolo26n"):
        train("-m", "model=yolo11n,yolo99n")

    assert launches.runs == []


@pytest.mark.parametrize(
    ("words", "error", "answer"),
    [
        (["trian.epochs=3"], ConfigError, "trian.epochs is no key of the config. Did you mean train.epochs?"),
        (["train.epoch=3"], ConfigError, "Did you mean train.epochs?"),
        (["+train.epoch=3"], ConfigError, "Did you mean train.epochs?"),
        (["train.model=x.pt"], ConfigError, "use model.weights=..."),
        (["train.epochs=abc"], ConfigError, "train.epochs='abc' must be a whole number"),
        (["snapshot.evry_s=3"], ConfigError, "Did you mean snapshot.every_s?"),
        (["+snapshot.evry_s=3"], ConfigError, "Did you mean snapshot.every_s?"),
        (["snapshot.every_s=abc"], ConfigError, "snapshot.every_s=abc must be a number of seconds, or auto"),
        (["runs_dri=x"], ConfigError, "Did you mean runs_dir?"),
        (["+foo=1"], ConfigError, "foo is no key of the config"),
        (["modle=yolo11n"], ConfigError, "Did you mean model?"),
        (["model=yolo11"], ConfigError, "model=yolo11: there is no such option. Did you mean model=yolo11"),
        (["experiment=quickstrat"], ConfigError, "Did you mean experiment=quickstart?"),
        (["exact=maybe"], ConfigError, "exact=maybe must be warn or strict"),
        (["train.lr0"], ConfigError, "missing EQUAL"),
        (["data.yaml=nowhere.yaml"], DataError, "data.yaml=nowhere.yaml: there is no such file"),
        (["data.yaml=null"], ConfigError, "data.yaml is missing: name your data set"),
        (["--config-dir", "nowhere"], ConfigError, "not found"),
        (["name='two\nlines'", "model.weights=w.yaml"], ConfigError, r"'\n' in a path is read as something else"),
        (
            ["runs_dir='100%j'", "model.weights=w.yaml", "cluster=slurm"],
            ConfigError,
            "'%' in a path is read as something else",
        ),
        (
            ["cluster=slurm", "cluster.partition='low\ntouch x'"],
            ConfigError,
            "a line of the batch script cannot hold that",
        ),
        (
            ["cluster=slurm", "+cluster.sbatch.comment='a\nb'"],
            ConfigError,
            "a line of the batch script cannot hold that",
        ),
    ],
)
def test_what_is_wrong_is_told_in_one_line(
    train: Train,
    launches: Launches,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    error: type[HpcYoloError],
    answer: str,
) -> None:
    with pytest.raises(error) as refused:
        train(*words)

    assert answer in str(refused.value)
    assert "\n" not in str(refused.value)
    assert capfd.readouterr() == ("", "")
    assert launches.runs == []


def test_an_own_config_folder_is_searched_too(train: Train, launches: Launches, tmp_path: Path) -> None:
    folder = tmp_path / "mine" / "experiment"
    folder.mkdir(parents=True)
    (folder / "night.yaml").write_text("# @package _global_\nname: night\ntrain: {epochs: 7}\nexact: strict\n")

    train("--config-dir", "mine", "experiment=night")

    assert launches.frozen[0].train["epochs"] == 7
    assert launches.runs[0].path.parent.name == "night"


def test_help_names_the_groups_and_the_exit_codes(train: Train, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        train("--help")

    printed = capsys.readouterr().out
    assert left.value.code == 0
    assert "yolo11m, yolo11n" in printed
    assert "75 stopped with its state saved" in printed


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("train train.warmup_e", "train.warmup_epochs="),
        ("train model=yolo26", "model=yolo26n"),
        ("train snapshot.ev", "snapshot.every_s="),
        ("doctor cluster.part", "cluster.partition="),
        ("doctor --write-mb=1 cluster.part", "cluster.partition="),
        ("doctor cluster=slurm --no-j", "--no-job"),
    ],
)
def test_the_shell_completes_keys_and_options(tmp_path: Path, typed: str, offered: str) -> None:
    command = tmp_path / "hpc-yolo"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m hpc_yolo "$@"\n')
    command.chmod(0o755)
    script = f"""
        eval "$(hpc-yolo train -sc install=bash)"
        COMP_LINE="hpc-yolo {typed}" COMP_POINT={len("hpc-yolo " + typed)}
        COMP_WORDS=(hpc-yolo {typed}) COMP_CWORD={len(typed.split())}; _hpc_yolo; printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(REPOSITORY)}

    found = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert offered in found.stdout.split()
