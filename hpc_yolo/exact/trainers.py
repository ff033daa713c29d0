"""Owns which exact trainer trains what: one class for each family and task, made of the mixin and upstream's trainer."""

from __future__ import annotations

from ultralytics.models import yolo
from ultralytics.models.rtdetr.train import RTDETRTrainer

from hpc_yolo.exact.trainer import ExactMixin


class ExactDetectionTrainer(ExactMixin, yolo.detect.DetectionTrainer):
    """Boxes."""


class ExactSegmentationTrainer(ExactMixin, yolo.segment.SegmentationTrainer):
    """Boxes and masks of instances."""


class ExactSemanticTrainer(ExactMixin, yolo.semantic.SemanticSegmentationTrainer):
    """A class for every pixel."""


class ExactDepthTrainer(ExactMixin, yolo.depth.DepthTrainer):
    """A depth for every pixel."""


class ExactClassificationTrainer(ExactMixin, yolo.classify.ClassificationTrainer):
    """A class for every image."""


class ExactPoseTrainer(ExactMixin, yolo.pose.PoseTrainer):
    """Boxes and keypoints."""


class ExactOBBTrainer(ExactMixin, yolo.obb.OBBTrainer):
    """Turned boxes."""


class ExactRTDETRTrainer(ExactMixin, RTDETRTrainer):
    """Boxes, by a transformer."""


class ExactWorldTrainer(ExactMixin, yolo.world.WorldTrainer):
    """Boxes of classes that are named by a text."""


class ExactYOLOETrainer(ExactMixin, yolo.yoloe.YOLOETrainer):
    """Boxes of prompted classes."""


class ExactYOLOESegTrainer(ExactMixin, yolo.yoloe.YOLOESegTrainer):
    """Boxes and masks of prompted classes."""


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
