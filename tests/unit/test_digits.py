"""The demonstration's data set: exact boxes, no handwriting in both halves, the same bytes every time."""

from __future__ import annotations

import builtins
import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from hpc_yolo import digits
from hpc_yolo.digits import digits_yaml, ensure_digits
from hpc_yolo.errors import ConfigError
from hpc_yolo.types import ExitCode

SMALL: dict[str, Any] = {"train_images": 6, "val_images": 3, "imgsz": 64, "seed": 0}
IMGSZ = SMALL["imgsz"]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return ensure_digits(tmp_path_factory.mktemp("digits"), **SMALL)


def boxes_of(label_file: Path) -> list[tuple[int, int, int, int, int]]:
    """Class, left, top, right, bottom in whole pixels."""
    found = []
    for line in label_file.read_text().splitlines():
        label, x, y, width, height = (float(word) for word in line.split())
        corners = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
        found.append((int(label), *(round(corner * IMGSZ) for corner in corners)))
    return found


def bytes_of(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "digits.yaml")
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_it_is_a_yolo_data_set_with_an_absolute_path(data: Path) -> None:
    content = yaml.safe_load(data.read_text())

    assert Path(content["path"]) == data.parent
    assert content["names"] == {n: str(n) for n in range(10)}
    for split, count in (("train", 6), ("val", 3)):
        images = sorted((data.parent / content[split]).glob("*.png"))
        labels = sorted((data.parent / "labels" / split).glob("*.txt"))
        assert [path.stem for path in images] == [path.stem for path in labels]
        assert len(images) == count
        assert {Image.open(path).size for path in images} == {(IMGSZ, IMGSZ)}


def test_boxes_lie_in_the_scene_and_do_not_overlap(data: Path) -> None:
    for file in data.parent.glob("labels/*/*.txt"):
        covered = np.zeros((IMGSZ, IMGSZ), dtype=int)
        boxes = boxes_of(file)
        assert boxes
        for label, left, top, right, bottom in boxes:
            assert 0 <= label <= 9
            assert 0 <= left < right <= IMGSZ
            assert 0 <= top < bottom <= IMGSZ
            covered[top:bottom, left:right] += 1
        assert covered.max() == 1


def test_boxes_are_exact_the_ink_touches_each_side_and_leaves_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(digits, "_background", lambda imgsz, rng: np.zeros((imgsz, imgsz, 3), dtype=np.float32))
    folder = ensure_digits(tmp_path, **SMALL).parent

    for file in folder.glob("labels/*/*.txt"):
        picture = Path(str(file).replace("/labels/", "/images/")).with_suffix(".png")
        ink = np.asarray(Image.open(picture)).max(axis=2) > 0
        outside = ink.copy()
        for _, left, top, right, bottom in boxes_of(file):
            box = ink[top:bottom, left:right]
            assert all(side.any() for side in (box[0], box[-1], box[:, 0], box[:, -1]))
            outside[top:bottom, left:right] = False
        assert not outside.any()


def test_the_same_parameters_give_the_same_bytes(data: Path, tmp_path: Path) -> None:
    assert bytes_of(ensure_digits(tmp_path, **SMALL).parent) == bytes_of(data.parent)


@pytest.mark.parametrize("change", [{"seed": 1}, {"imgsz": 96}, {"train_images": 7}, {"val_images": 4}])
def test_other_parameters_have_a_folder_of_their_own(change: dict[str, int]) -> None:
    assert digits_yaml(Path("d"), **{**SMALL, **change}).parent != digits_yaml(Path("d"), **SMALL).parent


def test_another_seed_gives_other_scenes(data: Path, tmp_path: Path) -> None:
    other = bytes_of(ensure_digits(tmp_path, **{**SMALL, "seed": 1}).parent)

    assert not set(other.values()) & set(bytes_of(data.parent).values())


def test_the_second_call_makes_nothing(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digits, "_publish", lambda *args: pytest.fail("made again"))
    before = data.stat().st_mtime_ns

    assert ensure_digits(data.parent.parent, **SMALL) == data
    assert data.stat().st_mtime_ns == before


def test_no_handwriting_is_in_both_halves() -> None:
    halves = digits._split_sources(digits._read_digits(), seed=0)
    ids = {split: {id(digit) for digit in half} for split, half in halves.items()}
    train, val = halves["train"], halves["val"]

    assert len(train) + len(val) == 1797
    assert not ids["train"] & ids["val"]
    assert {digit.label for digit in val} == set(range(10))


def test_what_a_kill_left_behind_is_not_taken_for_the_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(digits, "_deal", die)
        with pytest.raises(KeyboardInterrupt):
            ensure_digits(tmp_path, **SMALL)
    assert list(tmp_path.iterdir()) == []

    assert ensure_digits(tmp_path, **SMALL).is_file()


def test_a_moved_folder_gets_its_path_put_right(data: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere"
    made = ensure_digits(tmp_path / "first", **SMALL)
    made.parent.parent.rename(moved)

    again = ensure_digits(moved, **SMALL)

    assert yaml.safe_load(again.read_text())["path"] == str(moved / data.parent.name)


def test_two_at_once_end_with_one_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = digits._deal
    raced = False

    def race(*args: Any) -> Any:
        nonlocal raced
        if not raced:  # the other process is quicker
            raced = True
            monkeypatch.setattr(digits.os, "getpid", lambda: 1)
            ensure_digits(tmp_path, **SMALL)
        return ours(*args)

    monkeypatch.setattr(digits, "_deal", race)
    made = ensure_digits(tmp_path, **SMALL)

    assert made.is_file()
    assert [path.name for path in tmp_path.iterdir()] == [made.parent.name]


def test_without_scikit_learn_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_sklearn(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.startswith("sklearn"):
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_sklearn)
    with pytest.raises(ConfigError, match=r"pip install 'hpc-yolo\[demo\]'") as caught:
        ensure_digits(tmp_path, **SMALL)
    assert caught.value.exit_code is ExitCode.BAD_CONFIG


@pytest.mark.parametrize("change", [{"train_images": 0}, {"val_images": 0}, {"imgsz": 8}])
def test_a_parameter_out_of_range_is_refused(tmp_path: Path, change: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=f"data.digits.{next(iter(change))}=.* Set "):
        ensure_digits(tmp_path, **{**SMALL, **change})
