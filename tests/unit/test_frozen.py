"""run.yaml and launch.yaml."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from hpc_yolo.config import ClusterConfig, Exact, RetryConfig, SnapshotConfig
from hpc_yolo.errors import ConfigError
from hpc_yolo.frozen import FrozenRun, Launch, load_launch, load_run, run_text, write_launch
from hpc_yolo.rundir import RunDir
from hpc_yolo.types import RunId

FROZEN = FrozenRun(
    id=RunId("abc"),
    name="mine",
    task="detect",
    weights="/w/yolo11n.pt",
    weights_digest="1",
    data_yaml="/d/my.yaml",
    data_digest="2",
    data={"path": "/d", "names": {0: "a"}},
    train={"lr0": 1e-05, "freeze": None, "scale": [0.5, 1.5]},
    cpu_threads=2,
    streams=8,
)
LAUNCH = Launch(
    train={"workers": 2, "device": None},
    exact=Exact.STRICT,
    snapshot=SnapshotConfig(every_s=5),
    retry=RetryConfig(max_restarts=1),
    cluster=ClusterConfig(),
)


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    it = RunDir(tmp_path)
    it.run_yaml.write_text(run_text(FROZEN))
    return it


def test_a_frozen_run_reads_back_as_it_was(run: RunDir) -> None:
    assert load_run(run) == FROZEN
    assert load_run(run).hash == FROZEN.hash


def test_a_launch_reads_back_as_it_was(run: RunDir) -> None:
    write_launch(run, LAUNCH)
    assert load_launch(run.launch_yaml) == LAUNCH


def test_the_hash_knows_what_decides_the_weights_and_no_places() -> None:
    assert replace(FROZEN, name="x", weights="/elsewhere.pt", data_yaml="/e.yaml", data={}).hash == FROZEN.hash
    assert replace(FROZEN, cpu_threads=1).hash != FROZEN.hash
    assert replace(FROZEN, family="rtdetr").hash != FROZEN.hash
    assert replace(FROZEN, train={**FROZEN.train, "lr0": 2e-05}).hash != FROZEN.hash


def test_the_hash_is_that_of_releases_which_knew_no_families() -> None:
    assert FROZEN.hash == "439cb60f5310f7928756c9d4f3de339784105edf2cf2ff41eb8dd1c08aff0563"


def test_a_file_that_an_argument_names_counts_by_its_content() -> None:
    taught = replace(FROZEN, train={**FROZEN.train, "distill_model": "/w/big.pt"}, train_digests={"distill_model": "3"})
    moved = replace(taught, train={**taught.train, "distill_model": "/elsewhere/big.pt"})

    assert moved.hash == taught.hash
    assert replace(taught, train_digests={"distill_model": "4"}).hash != taught.hash


@pytest.mark.parametrize(
    ("spoil", "answer"),
    [
        (lambda text: text.replace("cpu_threads: 2", "cpu_threads: 4"), "was edited"),
        (lambda text: text.replace("format: 1", "format: 9"), "format 9"),
        (lambda text: text[: len(text) // 2] + "\n[", "not readable as YAML"),
        (lambda _text: "just words", "holds no mapping"),
    ],
)
def test_a_spoiled_run_yaml_is_refused(run: RunDir, spoil: object, answer: str) -> None:
    run.run_yaml.write_text(spoil(run.run_yaml.read_text()))  # type: ignore[operator]
    with pytest.raises(ConfigError, match=answer):
        load_run(run)


def test_a_missing_run_yaml_is_answered(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        load_run(RunDir(tmp_path / "nowhere"))


def test_a_launch_yaml_of_something_else_is_refused(run: RunDir) -> None:
    run.launch_yaml.write_text("exact: warn\n")
    with pytest.raises(ConfigError, match="is not a launch config"):
        load_launch(run.launch_yaml)
