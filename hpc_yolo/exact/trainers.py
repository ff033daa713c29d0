"""Owns which exact trainer trains what: one class for each family and task, made of the mixin and upstream's trainer."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

from ultralytics.models import yolo
from ultralytics.models.rtdetr.train import RTDETRTrainer

from hpc_yolo.errors import ConfigError
from hpc_yolo.exact.trainer import ExactMixin
from hpc_yolo.exact.upstream import copy_published, uncalibrated


class ExactDetectionTrainer(ExactMixin, yolo.detect.DetectionTrainer):
    """Boxes."""


class ExactSegmentationTrainer(ExactMixin, yolo.segment.SegmentationTrainer):
    """Boxes and masks of instances."""


class ExactSemanticTrainer(ExactMixin, yolo.semantic.SemanticSegmentationTrainer):
    """A class for every pixel."""


class ExactDepthTrainer(ExactMixin, yolo.depth.DepthTrainer):
    """A depth for every pixel.

    The final evaluation calibrates best.pt and last.pt. Begun again after a kill, it starts from what they were before:
    calibrated ones would give other final metrics.
    """

    def final_eval(self) -> None:
        if self._ranks.place.rank == 0:
            self._session.settle()  # the writer may be about to replace the same files
            for file in (self.best, self.last):
                if (before := uncalibrated(file)).exists():
                    copy_published(before, file)
        super().final_eval()

    def _at_on_train_end(self) -> None:
        super()._at_on_train_end()
        if self._ranks.place.rank == 0:
            for file in (self.best, self.last):
                file.stage.remove(Path(uncalibrated(file)))


class ExactClassificationTrainer(ExactMixin, yolo.classify.ClassificationTrainer):
    """A class for every image."""


class ExactPoseTrainer(ExactMixin, yolo.pose.PoseTrainer):
    """Boxes and keypoints."""


class ExactOBBTrainer(ExactMixin, yolo.obb.OBBTrainer):
    """Turned boxes."""


class ExactRTDETRTrainer(ExactMixin, RTDETRTrainer):
    """Boxes, by a transformer."""

    family = "rtdetr"


class ExactWorldTrainer(ExactMixin, yolo.world.WorldTrainer):
    """Boxes of classes that are named by a text."""

    family = "world"

    def generate_text_embeddings(self, texts: list[str], batch: int, cache_dir: Path) -> Any:
        """Upstream's, cached in the run's own folder; upstream writes them beside the data set, not atomically.

        What lies beside the data set already is used, as upstream does.
        """
        cache = self.save_dir / "text_embeddings"
        cache.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as scratch:
            for folder in (cache_dir, cache):  # the run's own last: it wins
                for file in folder.glob("text_embeddings_*.pt"):
                    shutil.copyfile(file, Path(scratch) / file.name)
            found = super().generate_text_embeddings(texts, batch, Path(scratch))
            for file in Path(scratch).iterdir():
                file.replace(cache / file.name)
        return found


class ExactYOLOETrainer(ExactMixin, yolo.yoloe.YOLOETrainer):
    """Boxes of prompted classes."""

    family = "yoloe"


class ExactYOLOESegTrainer(ExactMixin, yolo.yoloe.YOLOESegTrainer):
    """Boxes and masks of prompted classes."""

    family = "yoloe"


#: By family and task, as in hpc_yolo.tasks.
TRAINERS: dict[tuple[str, str], type[ExactMixin]] = {
    ("yolo", "detect"): ExactDetectionTrainer,
    ("yolo", "segment"): ExactSegmentationTrainer,
    ("yolo", "semantic"): ExactSemanticTrainer,
    ("yolo", "depth"): ExactDepthTrainer,
    ("yolo", "classify"): ExactClassificationTrainer,
    ("yolo", "pose"): ExactPoseTrainer,
    ("yolo", "obb"): ExactOBBTrainer,
    ("rtdetr", "detect"): ExactRTDETRTrainer,
    ("world", "detect"): ExactWorldTrainer,
    ("yoloe", "detect"): ExactYOLOETrainer,
    ("yoloe", "segment"): ExactYOLOESegTrainer,
}


def check_packages(family: str) -> None:
    """Refuse a family whose text encoder cannot be had; upstream would try to install it in the middle of a job.

    Raises:
        ConfigError: with the command that installs it.
    """
    if family in ("world", "yoloe") and importlib.util.find_spec("clip") is None:
        raise ConfigError(
            f"model.family={family} needs the package clip, which is not installed here. Install it where there is internet: "
            "pip install git+https://github.com/ultralytics/CLIP.git"
        )
