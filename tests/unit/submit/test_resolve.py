"""What a config points to: found, made absolute, digested, or answered with which file to put where."""

from __future__ import annotations

import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from hpc_yolo.config import DataConfig, DigitsConfig
from hpc_yolo.errors import DataError
from hpc_yolo.submit import resolve
from hpc_yolo.submit.resolve import resolve_data, resolve_weights
from tests.unit.data_on_disk import make_data


def digest(file: Path) -> str:
    return resolve_data(DataConfig(yaml=str(file))).digest


def test_a_moved_data_set_is_the_same_data_set(tmp_path: Path) -> None:
    assert digest(make_data(tmp_path / "a")) == digest(make_data(tmp_path / "b" / "images"))


def test_a_relative_path_is_taken_from_the_yamls_own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make_data(tmp_path / "data", path=".")
    monkeypatch.chdir(tmp_path)

    found = resolve_data(DataConfig(yaml="data/data.yaml"))

    assert found.yaml == str(file)
    assert found.content["path"] == str(tmp_path / "data")


@pytest.mark.parametrize("change", ["image", "label", "bigger label", "name", "fewer"])
def test_a_changed_data_set_is_another_one(tmp_path: Path, change: str) -> None:
    before = digest(make_data(tmp_path))
    if change == "image":
        (tmp_path / "images" / "train" / "new.png").write_text("pixels")
    elif change == "label":
        (tmp_path / "labels" / "val" / "new.txt").write_text("")
    elif change == "bigger label":
        (tmp_path / "labels" / "val" / "0.txt").write_text("0 .5 .5 .1 .1\n" * 2)
    elif change == "fewer":
        (tmp_path / "images" / "val" / "0.jpg").unlink()

    after = digest(make_data(tmp_path, images=0, names={0: "cow"}) if change == "name" else tmp_path / "data.yaml")

    assert after != before


def test_what_training_writes_beside_the_data_changes_nothing(tmp_path: Path) -> None:
    before = digest(make_data(tmp_path))
    (tmp_path / "labels" / "train.cache").write_text("made by ultralytics")
    (tmp_path / "images" / "train" / "0.npy").write_text("made by cache=disk")

    assert digest(tmp_path / "data.yaml") == before


def test_a_list_of_images_is_a_data_set_too(tmp_path: Path) -> None:
    file = make_data(tmp_path, train="train.txt")
    (tmp_path / "train.txt").write_text("./images/train/0.jpg\n")
    before = digest(file)
    (tmp_path / "train.txt").write_text("./images/train/1.jpg\n")

    assert digest(file) != before


@pytest.mark.parametrize(
    ("changes", "answer"),
    [
        ({"path": "nowhere"}, "`path: nowhere` is no folder. Write the absolute path"),
        ({"train": "images/trian"}, "`train: images/trian` does not exist"),
        ({"val": "images/vla"}, "`val: images/vla` does not exist"),
        ({"val": None}, "`val:` is missing"),
        ({"train": "labels"}, "`train: labels` holds no images"),
        ({"names": None}, "`names:` is missing"),
    ],
)
def test_a_data_yaml_that_points_nowhere_names_the_key(tmp_path: Path, changes: dict[str, Any], answer: str) -> None:
    file = make_data(tmp_path, **changes)

    with pytest.raises(DataError) as refused:
        digest(file)

    assert str(file) in str(refused.value)
    assert answer in str(refused.value)


@pytest.mark.parametrize(("text", "answer"), [("train: [", "not readable as YAML"), ("- 1", "holds no mapping")])
def test_a_data_yaml_that_is_none_says_so(tmp_path: Path, text: str, answer: str) -> None:
    (tmp_path / "data.yaml").write_text(text)

    with pytest.raises(DataError, match=answer):
        digest(tmp_path / "data.yaml")


def test_a_hundred_thousand_files_are_digested_quickly(tmp_path: Path) -> None:
    file = make_data(tmp_path)
    for number in range(4_000):  # a twenty-fifth; a fixture of all would take longer than the test
        (tmp_path / "images" / "train" / f"many{number}.jpg").touch()
    started = time.process_time()

    digest(file)

    assert time.process_time() - started < 1.0


def test_the_digits_of_a_dry_run_have_the_digest_of_the_real_ones(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    data = DataConfig(digits=DigitsConfig(root=str(tmp_path / "datasets"), train_images=4, val_images=2))

    dry = resolve_data(data, is_dry_run=True)

    assert not (tmp_path / "datasets").exists()
    assert resolve_data(data) == dry


@pytest.mark.parametrize("name", ["yolo11n.yaml", "yolo26m.yaml", "yolov8s.yaml", "yolo11.yaml"])
def test_an_architecture_that_ultralytics_ships_keeps_its_plain_name(name: str) -> None:
    assert resolve_weights(name)[0] == name


def test_the_scale_is_part_of_an_architectures_digest_and_a_comment_is_not(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("nc: 3 # three\n")
    (tmp_path / "b.yaml").write_text("nc: 3\n")

    assert resolve_weights("yolo11n.yaml")[1] != resolve_weights("yolo11s.yaml")[1]
    assert resolve_weights(str(tmp_path / "a.yaml"))[1] == resolve_weights(str(tmp_path / "b.yaml"))[1]


def test_an_architecture_that_nobody_ships_is_refused() -> None:
    with pytest.raises(DataError, match=r"yolo99n.yaml does not exist, and ultralytics ships no architecture"):
        resolve_weights("yolo99n.yaml")


def test_weights_are_found_here_and_in_the_folder_for_machines_without_internet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    (shelf / "mine.pt").write_bytes(b"weights")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HPC_YOLO_WEIGHTS_DIR", str(shelf))

    on_the_shelf = resolve_weights("mine.pt")
    shutil.copy(shelf / "mine.pt", tmp_path / "renamed.pt")

    assert on_the_shelf[0] == str(shelf / "mine.pt")
    assert resolve_weights("renamed.pt")[1] == on_the_shelf[1]


def test_weights_whose_path_ultralytics_would_misread_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "Ada's.pt"
    file.write_bytes(b"weights")

    with pytest.raises(DataError, match=r"leaves out the ' of .*Ada's\.pt\. Move the file"):
        resolve_weights(str(file))


def test_weights_that_cannot_be_had_say_which_file_to_put_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPC_YOLO_WEIGHTS_DIR", str(tmp_path))
    monkeypatch.setattr(resolve.subprocess, "run", lambda *a, **k: None)  # the download is a process of its own

    with pytest.raises(DataError) as refused:
        resolve_weights("yolo11n.pt")

    assert "could not be downloaded" in str(refused.value)
    assert f"Put the file at {tmp_path / 'yolo11n.pt'}" in str(refused.value)
    assert "model.weights=yolo11n.yaml" in str(refused.value)


def test_a_frozen_data_yaml_is_plain_yaml(tmp_path: Path) -> None:
    content = resolve_data(DataConfig(yaml=str(make_data(tmp_path)))).content

    assert yaml.safe_load(yaml.safe_dump(content)) == content
