"""What tasks other than detection point to: folders of classes, masks, teachers; found, digested, or refused with advice."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpc_yolo.config import DataConfig, DigitsConfig, ModelConfig
from hpc_yolo.errors import ConfigError, DataError
from hpc_yolo.submit.resolve import resolve_data, resolve_model, resolve_train_files
from tests import tasks_material as material
from tests.unit.data_on_disk import make_data


def digest(path: Path, task: str) -> str:
    return resolve_data(DataConfig(yaml=str(path)), task).digest


def test_a_classification_set_is_a_folder_wherever_it_lies(tmp_path: Path) -> None:
    first, second = material.write_kinds(tmp_path / "a"), material.write_kinds(tmp_path / "b")
    found = resolve_data(DataConfig(yaml=str(first)), "classify")

    assert found.content["names"] == {0: "blue", 1: "green", 2: "red"}
    assert (found.content["path"], found.content["val"]) == (str(first), "val")
    assert digest(second, "classify") == found.digest


def test_images_and_classes_decide_a_classification_set_s_digest(tmp_path: Path) -> None:
    folder = material.write_kinds(tmp_path)
    digests = [digest(folder, "classify")]
    (folder / "train.cache").write_text("ultralytics writes this")
    assert digest(folder, "classify") == digests[0]
    (folder / "val" / "red" / "000.png").unlink()
    digests.append(digest(folder, "classify"))
    (folder / "train" / "violet").mkdir()
    digests.append(digest(folder, "classify"))

    assert len(set(digests)) == 3


@pytest.mark.parametrize("name", ["validation", "valid", "test"])
def test_the_validation_folder_has_the_names_that_ultralytics_knows(tmp_path: Path, name: str) -> None:
    folder = material.write_kinds(tmp_path)
    (folder / "val").rename(folder / name)

    assert resolve_data(DataConfig(yaml=str(folder)), "classify").content["val"] == name


def test_a_folder_that_is_no_classification_set_says_how_it_should_look(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has no folder train/.* takes a folder with train/CLASS/"):
        digest(tmp_path, "classify")
    (tmp_path / "train").mkdir()
    with pytest.raises(DataError, match=r"has no folder val/"):
        digest(tmp_path, "classify")
    (tmp_path / "val").mkdir()
    with pytest.raises(DataError, match=r"has no folder for any class"):
        digest(tmp_path, "classify")
    with pytest.raises(DataError, match=r"is no folder"):
        digest(make_data(tmp_path / "boxes"), "classify")


def test_a_folder_is_for_classification_only(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is a folder, which only model.task=classify takes. Give its YAML"):
        digest(tmp_path, "detect")


@pytest.mark.parametrize(("task", "folder"), [("semantic", "masks"), ("depth", "depth")])
def test_masks_and_depths_count(tmp_path: Path, task: str, folder: str) -> None:
    write = {"semantic": material.write_masks, "depth": material.write_depths}[task]
    file = write(tmp_path)
    before = digest(file, task)
    one = next((tmp_path / folder / "train").iterdir())
    one.write_bytes(one.read_bytes() + b"more")

    assert digest(file, task) != before
    (tmp_path / folder).rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=rf"{task} learns from files in .*{folder}/train, which is no folder"):
        digest(file, task)


def test_keypoints_without_their_number_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="`kpt_shape:` is missing"):
        digest(make_data(tmp_path), "pose")


def test_the_digits_are_for_detection() -> None:
    with pytest.raises(DataError, match=r"holds boxes only, but model.task=segment"):
        resolve_data(DataConfig(digits=DigitsConfig()), "segment")


@pytest.mark.parametrize(
    ("weights", "kind"),
    [
        ("tiny.yaml", ("yolo", "detect")),
        ("yolo11n-seg.yaml", ("yolo", "segment")),
        ("yolo26n-depth.yaml", ("yolo", "depth")),
        ("rtdetr-l.yaml", ("rtdetr", "detect")),
        ("yolov8s-worldv2.yaml", ("world", "detect")),
        ("yoloe-11s-seg.yaml", ("yoloe", "segment")),
    ],
)
def test_an_architecture_tells_what_it_is_trained_as(weights: str, kind: tuple[str, str]) -> None:
    found = resolve_model(ModelConfig(weights=weights))

    assert (found.family, found.task) == kind


def test_an_architecture_that_is_asked_for_another_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"Set model.family=yolo model.task=segment"):
        resolve_model(ModelConfig(weights="yolo11n-seg.yaml", task="detect"))


def test_a_teacher_counts_by_its_content(tmp_path: Path) -> None:
    teacher = tmp_path / "teacher.pt"
    teacher.write_bytes(b"one")
    files, digests = resolve_train_files({"distill_model": str(teacher), "pretrained": True, "lr0": 0.1})
    teacher.write_bytes(b"two")

    assert files == {"distill_model": str(teacher)}
    assert resolve_train_files({"distill_model": str(teacher)})[1] != digests


def test_a_teacher_that_is_nowhere_names_its_key(tmp_path: Path) -> None:
    with pytest.raises(DataError) as refused:
        resolve_train_files({"distill_model": str(tmp_path / "none.pt")}, may_download=False)

    assert str(refused.value).startswith(f"train.distill_model={tmp_path / 'none.pt'} is not on this machine")
    assert "from nothing" not in str(refused.value)
