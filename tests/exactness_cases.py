"""Owns how a training and its interruptions are drawn at large, and the verdict on one: same bits as undisturbed, or not.

Knows neither hypothesis nor the benchmark; both hand in how to choose. A case is plain values, so that it can be repeated.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from hpc_yolo.snapshot.schedule import EverySteps
from tests.lab import Lab, StopWhen, ask_to_stop, give_up
from tests.material import ARCHITECTURE, write_scenes
from tests.tasks_material import CASES, Case, made

T = TypeVar("T")
#: Chooses one of several; the first is the plainest.
Choose = Callable[[Sequence[T]], T]

TRAINED: dict[str, Case] = {
    "detect": Case("detect", lambda root: write_scenes(root, val=10), ARCHITECTURE),
    "detect-end2end": Case(
        "detect", lambda root: write_scenes(root, val=10), {**ARCHITECTURE, "end2end": True, "reg_max": 1}
    ),
    **CASES,
}

_ANY: dict[str, tuple[Any, ...]] = {
    "optimizer": ("SGD", "auto", "AdamW", "Adam", "Adamax", "MuSGD", "NAdam", "RAdam", "RMSProp"),
    "epochs": (2, 3, 1),
    "batch": (4, 3, 7),
    "nbs": (8, 4, 32),
    "warmup_epochs": (1.5, 0.0, 0.5, 3.0),
    "close_mosaic": (1, 0, 2),
    "cos_lr": (False, True),
    "freeze": (None, 1, [0, 2]),
    "cache": (False, "ram", "disk"),
    "fraction": (1.0, 0.8),
    "val": (True, False),
    "patience": (100, 1),
    "seed": (0, 7),
    "save": (True, False),
    "save_period": (-1, 1),
}
_IMAGES: dict[str, tuple[Any, ...]] = {
    "mosaic": (1.0, 0.0, 0.5),
    "mixup": (0.0, 0.5),
    "cutmix": (0.0, 0.5),
    "multi_scale": (0.0, 0.5),
    "degrees": (0.0, 10.0),
    "rect": (False, True),
}
_BOXES: dict[str, tuple[Any, ...]] = {"single_cls": (False, True), "classes": (None, [0, 2]), "cls_pw": (0.0, 0.5)}
_MASKS: dict[str, tuple[Any, ...]] = {"copy_paste": (0.0, 0.5), "overlap_mask": (True, False), "mask_ratio": (4, 2)}
_KINDS: dict[str, tuple[Any, ...]] = {
    "dropout": (0.0, 0.3),
    "auto_augment": ("randaugment", "autoaugment", "augmix"),
    "erasing": (0.4, 0.0),
}
_OF_TASK: dict[str, dict[str, tuple[Any, ...]]] = {
    "detect": {**_IMAGES, **_BOXES},
    "detect-end2end": {**_IMAGES, **_BOXES},
    "segment": {**_IMAGES, **_BOXES, **_MASKS},
    "pose": _IMAGES,
    "obb": {**_IMAGES, **_BOXES},
    "classify": _KINDS,
    "semantic": _IMAGES,
    "semantic-polygons": _IMAGES,
    "depth": {"flipud": (0.0, 0.5)},
    "rtdetr": {**_IMAGES, "rect": (False,)},
    "world": _IMAGES,
    "yoloe": _IMAGES,
    "yoloe-segment": {**_IMAGES, **_MASKS},
}

#: Where an attempt can be interrupted, in the order of a run: an event of ultralytics, or a method of the trainer's, after it.
MOMENTS: dict[str, str] = {
    "while the state is put back": "resume_training",
    "as a batch begins": "on_train_batch_start",
    "after the forward pass": "preprocess_batch",
    "after the optimizer was called": "optimizer_step",
    "as a batch ends": "on_train_batch_end",
    "as an epoch ends": "on_train_epoch_end",
    "in validation": "on_val_batch_end",
    "between the csv row and last.pt": "save_metrics",
    "after last.pt": "on_model_save",
    "after validation": "on_fit_epoch_end",
    "in the final evaluation": "on_val_batch_end",
    "at the end": "on_train_end",
}
_OF_A_BATCH = tuple(MOMENTS)[1:5]
_FIRST, _LAST = tuple(MOMENTS)[:1], tuple(MOMENTS)[-2:]


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """One attempt's end: asked to stop, or killed, at a moment that it need not reach."""

    moment: str
    epoch: int
    batch: int
    is_kill: bool
    workers: int

    def when(self) -> StopWhen:
        return MOMENTS[self.moment], self._is_time

    def place(self) -> tuple[int, int, int, int]:
        """Sorts by when it comes to pass, so that one is not waited for in vain after another."""
        at = list(MOMENTS).index(self.moment)
        part = (self.moment not in _FIRST) + (self.moment in _LAST)
        return part, self.epoch, self.batch if self.moment in _OF_A_BATCH else 99, at

    def _is_time(self, trainer: Any) -> bool:
        if self.moment in _FIRST:
            return True
        if self.moment in _LAST:
            return bool(trainer._is_final)
        if trainer._is_final or trainer.epoch != self.epoch:
            return False
        return self.moment not in _OF_A_BATCH or trainer._batch == self.batch


@dataclass(frozen=True, kw_only=True)
class DrawnCase:
    """A training with its interruptions. Its text is JSON, from which it can be made again."""

    trained: str
    options: dict[str, Any]
    snapshot_every_steps: int | None
    interruptions: tuple[Interruption, ...]

    def __str__(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def parse(cls, text: str) -> DrawnCase:
        values = json.loads(text)
        return cls(**{**values, "interruptions": tuple(Interruption(**it) for it in values["interruptions"])})

    def unusual(self) -> dict[str, Any]:
        usual = {name: values[0] for name, values in {**_ANY, **_OF_TASK[self.trained]}.items()}
        return {name: value for name, value in self.options.items() if value != usual[name]}

    def told(self) -> str:
        """In words, without what is as usual."""
        options = [f"{name}={value}" for name, value in self.unusual().items()]
        moments = [
            f"{'killed' if it.is_kill else 'stopped'} {it.moment} ({it.epoch}, {it.batch})" for it in self.interruptions
        ]
        return f"{self.trained} {' '.join(options)}: {', '.join(moments)}"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What differs at the end, and how many of the interruptions came to pass."""

    differences: list[str]
    interruptions: int


def draw(choose: Choose[Any], trained: str) -> DrawnCase:
    options = {name: choose(values) for name, values in {**_ANY, **_OF_TASK[trained]}.items()}
    drawn = [_draw_interruption(choose, options) for _ in range(choose((1, 2, 3)))]
    return DrawnCase(
        trained=trained,
        options=options,
        snapshot_every_steps=choose((None, 1, 2)),
        interruptions=tuple(sorted(drawn, key=Interruption.place)),
    )


def draw_from_seed(seed: int) -> DrawnCase:
    choose = random.Random(seed).choice
    return draw(choose, choose(tuple(TRAINED)))


def judge(case: DrawnCase, root: Path) -> Verdict:
    """Train it undisturbed and interrupted below `root`, and compare the ends."""
    root.mkdir(parents=True, exist_ok=True)
    chosen = made(TRAINED[case.trained], root, **case.options)
    lab = Lab(root / "runs", Path(chosen["data"]), Path(chosen["model"]))
    assert lab.attempt("undisturbed", **chosen) == "done"
    if case.snapshot_every_steps is not None:
        lab.session_options = {"interval": EverySteps(case.snapshot_every_steps)}
    reached = 0
    for it in case.interruptions:
        ends = give_up if it.is_kill else ask_to_stop
        if lab.attempt("interrupted", it.when(), ends=ends, **{**chosen, "workers": it.workers}) == "done":
            break
        reached += 1
    else:
        assert lab.attempt("interrupted", **chosen) == "done"
    return Verdict(lab.differences("undisturbed", "interrupted"), reached)


def _draw_interruption(choose: Choose[Any], options: dict[str, Any]) -> Interruption:
    """One that the run can reach, as far as its options tell."""
    images = int(14 * options["fraction"])
    is_kill = choose((False, True))
    never = {"in validation"} if not options["val"] else set()
    never |= {"at the end"} if not is_kill else set()  # then it is done, whatever is asked
    return Interruption(
        moment=choose([it for it in MOMENTS if it not in never]),
        epoch=choose(range(options["epochs"])),
        batch=choose(range(-(-images // options["batch"]))),
        is_kill=is_kill,
        workers=choose((0, 0, 0, 1)),
    )
