"""A real photo data set: interrupted, with several dataloader workers, it ends with the same bits.

Named by HPC_YOLO_PHOTOS: a folder with images/{train,val} and labels/{train,val}.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.chaos.conftest import Factory, assert_same_bits, end_processes

PHOTOS = os.environ.get("HPC_YOLO_PHOTOS", "")

pytestmark = pytest.mark.skipif(not PHOTOS, reason="HPC_YOLO_PHOTOS names no folder with images/ and labels/")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Factory]:
    root = tmp_path_factory.mktemp("photos")
    source, copy = Path(PHOTOS), root / "data"
    kinds = set()
    for split in ("train", "val"):  # links: ultralytics writes labels.cache beside the labels
        for kind, suffix in (("images", "*"), ("labels", "*.txt")):
            (copy / kind / split).mkdir(parents=True)
            for file in sorted((source / kind / split).glob(suffix))[:24]:
                (copy / kind / split / file.name).symlink_to(file)
        kinds |= {
            line.split()[0] for file in (copy / "labels" / split).iterdir() for line in file.read_text().splitlines()
        }
    names = {number: f"kind {number}" for number in range(max(map(int, kinds)) + 1)}
    data = root / "photos.yaml"
    data.write_text(yaml.safe_dump({"path": str(copy), "train": "images/train", "val": "images/val", "names": names}))
    options = (
        f"data.yaml={data}", "model.weights=yolo11n.yaml", "train.imgsz=64", "train.epochs=2", "train.batch=4",
        "train.nbs=8", "train.device=cpu", "train.plots=false", "train.amp=false", "train.close_mosaic=1",
        "train.mixup=0.3", "train.workers=2", "exact=strict",
    )  # fmt: skip
    factory = Factory(root / "runs", options)
    yield factory
    end_processes(factory)


def test_a_run_on_photos_is_exact(photos: Factory) -> None:
    undisturbed, run = photos("undisturbed"), photos("interrupted")
    undisturbed.finish()
    assert run.warn_at_step(3, signal.SIGUSR1) == 75
    run.finish()

    assert_same_bits(run, undisturbed)
    assert run.status()["steps_redone"] == 0
