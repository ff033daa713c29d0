"""A run that starts checks that what it was frozen with is still there."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from hpc_yolo.errors import DataError
from hpc_yolo.frozen import FrozenRun
from hpc_yolo.sources import check_weights, digest_of_data, digest_of_weights, has_changed_data
from hpc_yolo.types import RunId
from tests.material import write_architecture, write_scenes


@pytest.fixture
def frozen(tmp_path: Path) -> FrozenRun:
    data = write_scenes(tmp_path / "data", train=3, val=2)
    content = yaml.safe_load(data.read_text())
    weights = write_architecture(tmp_path / "tiny.yaml")
    return FrozenRun(
        id=RunId("x"),
        name="x",
        task="detect",
        weights=str(weights),
        weights_digest=digest_of_weights(weights),
        data_yaml=str(data),
        data_digest=digest_of_data(data, data.parent, content),
        data=content,
        train={},
        cpu_threads=1,
        streams=1,
    )


def test_what_did_not_change_is_fine(frozen: FrozenRun) -> None:
    check_weights(frozen)
    assert not has_changed_data(frozen)
    (Path(frozen.data["path"]) / "labels" / "train.cache").write_text("ultralytics writes this")
    assert not has_changed_data(frozen)


def test_start_weights_that_changed_are_refused(frozen: FrozenRun) -> None:
    write_architecture(Path(frozen.weights), nc=7)
    with pytest.raises(DataError, match="has changed since the run was frozen"):
        check_weights(frozen)


@pytest.mark.parametrize("argument", ["distill_model", "pretrained"])
def test_a_file_that_an_argument_names_is_refused_once_it_changed(
    frozen: FrozenRun, tmp_path: Path, argument: str
) -> None:
    """No snapshot carries the teacher, so its file must still be the one that the run was frozen with."""
    file = tmp_path / "teacher.pt"
    file.write_bytes(b"one")
    taught = replace(frozen, train={argument: str(file)}, train_digests={argument: digest_of_weights(file)})
    check_weights(taught)
    file.write_bytes(b"two")

    with pytest.raises(DataError, match=rf"train.{argument}=.*teacher.pt has changed since the run was frozen"):
        check_weights(taught)


def test_start_weights_that_are_gone_are_named(frozen: FrozenRun) -> None:
    Path(frozen.weights).unlink()
    with pytest.raises(DataError, match=r"tiny.yaml is gone"):
        check_weights(frozen)
    with pytest.raises(DataError, match="is gone"):
        check_weights(replace(frozen, weights="yolo99n.yaml"))


def test_a_data_set_that_changed_is_noticed(frozen: FrozenRun) -> None:
    (Path(frozen.data["path"]) / "labels" / "val" / "001.txt").unlink()
    assert has_changed_data(frozen)


def test_a_data_set_that_is_gone_is_named(frozen: FrozenRun) -> None:
    with pytest.raises(DataError, match="folder /nowhere is gone"):
        has_changed_data(replace(frozen, data={"path": "/nowhere"}))
