"""Owns everything that is relied on inside ultralytics: the list of it, the check at start, and the patches.

Written against ultralytics 8.4.190. When `check` fails on a newer release, read its `engine/trainer.py` again before
widening anything here.
"""

from __future__ import annotations

import inspect
import linecache
import os
import shutil
from collections.abc import Callable
from functools import cache, partial, wraps
from pathlib import Path
from types import CodeType
from typing import Any

import ultralytics
from ultralytics.data import augment, base, build, dataset
from ultralytics.engine import trainer, validator
from ultralytics.models.yolo.depth import calibrate
from ultralytics.models.yolo.depth import train as depth
from ultralytics.models.yolo.world import train as world
from ultralytics.nn import tasks
from ultralytics.utils import nms, torch_utils

from hpc_yolo.errors import ConfigError
from hpc_yolo.exact.loader import positioned_enumerate
from hpc_yolo.rundir import atomic_file, fsync_dir, fsync_file

TESTED = "8.4.190"

#: (where, text, how often it must occur): the lines of upstream that exact resume leans on, and why.
RELIED_ON: tuple[tuple[Any, str, int], ...] = (
    (trainer.BaseTrainer, "enumerate(self.train_loader)", 2),  # the batch index comes from our enumerate
    (trainer.BaseTrainer._do_train, "ni = i + nb * epoch", 1),
    (trainer.BaseTrainer._do_train, "if ni - last_opt_step >= self.accumulate:", 1),  # our property reads 0 here
    (trainer.BaseTrainer._do_train, "acc0 = self.accumulate", 2),
    (trainer.BaseTrainer._do_train, 'self.run_callbacks("on_train_batch_start")', 1),
    (trainer.BaseTrainer._do_train, 'self.run_callbacks("on_train_batch_end")', 1),
    (trainer.BaseTrainer._do_train, "self.tloss[k] * i + v", 1),
    (trainer.BaseTrainer._do_train, "self.optimizer.zero_grad()", 3),
    (trainer.BaseTrainer._do_train, "if self._handle_nan_recovery(epoch):", 1),
    (trainer.BaseTrainer._setup_train, "self.resume_training(ckpt)", 1),  # where the state is put back
    (trainer.BaseTrainer._setup_train, "self.scheduler.last_epoch = self.start_epoch - 1", 1),
    (trainer.BaseTrainer._setup_train, "check_amp(self.model)", 1),
    (trainer.BaseTrainer.save_metrics, 'open(self.csv, "a"', 1),
    (trainer.BaseTrainer.read_results_csv, "self.csv.read_bytes()", 1),
    (trainer.BaseTrainer.__init__, "self.csv.unlink()", 1),
    (trainer.BaseTrainer.save_model, "self.last.write_bytes(serialized_ckpt)", 1),
    (trainer.BaseTrainer.save_model, "self.best.write_bytes(serialized_ckpt)", 1),
    (trainer.BaseTrainer.final_eval, "strip_optimizer(self.last)", 1),
    (trainer.BaseTrainer.__init__, "self.args.workers = 0", 1),  # undone on the CPU
    (validator.BaseValidator.__call__, 'self.run_callbacks("on_val_batch_end")', 1),
    (augment.Mosaic.get_indexes, "random.choices(list(self.dataset.buffer)", 1),
    (base.BaseDataset.load_image, "self.buffer.append(i)", 1),
    (base.BaseDataset.load_image, "1 < len(self.buffer)", 1),
    (build.InfiniteDataLoader, "self.batch_sampler.sampler", 1),
    (build.InfiniteDataLoader, "self._get_iterator()", 1),
    (nms.non_max_suppression, "time_limit = 2.0 + max_time_img * bs", 1),
    (torch_utils.select_device, "torch.set_num_threads(NUM_THREADS)", 1),
    (torch_utils.strip_optimizer, "torch.save(combined, s or f)", 1),
    (dataset.YOLODataset.cache_labels, "save_dataset_cache_file(", 1),
    (dataset.ClassificationDataset.verify_images, "save_dataset_cache_file(", 1),
    (dataset.ClassificationDataset.__getitem__, "self.torch_transforms(im)", 1),  # all of a sample's randomness
    (dataset.SemanticDataset.get_image_and_label, "if index in self.buffer:", 1),
    (dataset.SemanticDataset.get_image_and_label, "if len(self.masks) > len(self.buffer):", 1),  # never, here
    (dataset.YOLOConcatDataset, "for dataset in self.datasets:", 1),
    (build.build_dataloader, "shuffle=shuffle and sampler is None", 1),  # a random sampler means a shuffled loader
    (build.InfiniteDataLoader, "_RepeatSampler(self.batch_sampler)", 1),
    (trainer.BaseTrainer._do_train, 'if hasattr(unwrap_model(self.model).criterion, "update"):', 1),
    (tasks.BaseModel.loss, 'if getattr(self, "criterion", None) is None:', 1),  # so it may be None after a resume
    (depth.DepthTrainer.final_eval, "calibrate_checkpoint(", 1),
    (calibrate.calibrate_checkpoint, "torch.save(ckpt, ckpt_path)", 1),
    (world.WorldTrainer.generate_text_embeddings, "torch.save(txt_map, cache_path)", 1),
    (world.WorldTrainer.generate_text_embeddings, 'cache_dir / f"text_embeddings_', 1),
)


def check() -> None:
    """Refuse an ultralytics whose inner shape is not the one relied on.

    Raises:
        ConfigError: naming the first line that is missing.
    """
    for where, text, times in RELIED_ON:
        found = _source(where).count(text)
        if found != times:
            name = getattr(where, "__qualname__", str(where))
            raise ConfigError(
                f"ultralytics {ultralytics.__version__} is built differently inside: `{text}` occurs {found} times in {name}, "
                f"expected {times}. Exact resume was written for {TESTED}: pip install 'ultralytics=={TESTED}'."
            )


@cache
def _source(where: Any) -> str:
    """The lines of a function, or of a class's methods. `inspect.getsource` parses for them: 0.3 s at each start in all."""
    if isinstance(where, type):
        return "".join(_source(member) for member in vars(where).values() if inspect.isfunction(member))
    code = inspect.unwrap(where).__code__
    return "".join(linecache.getlines(code.co_filename)[code.co_firstlineno - 1 : _last_line(code)])


def _last_line(code: CodeType) -> int:
    inner = [_last_line(it) for it in code.co_consts if isinstance(it, CodeType)]
    return max([line for _, _, line in code.co_lines() if line is not None] + inner)


def patch(check_amp: Callable[[Any], bool], cpu_threads: int) -> None:
    """Put our pieces into upstream's modules, for this process. Calling it again changes nothing more.

    Args:
        check_amp: decides about mixed precision in place of upstream's test, which may answer differently elsewhere.
        cpu_threads: what upstream sets whenever it selects the CPU, in place of a number that follows the machine.
    """
    torch_utils.NUM_THREADS = cpu_threads
    trainer.enumerate = positioned_enumerate  # shadows the builtin in that module only
    trainer.check_amp = check_amp
    if not hasattr(trainer.strip_optimizer, "__wrapped__"):
        trainer.strip_optimizer = _atomic_strip(trainer.strip_optimizer)
        dataset.save_dataset_cache_file = _atomic_cache(dataset.save_dataset_cache_file)
        calibrate.calibrate_checkpoint = _repeatable_calibration(calibrate.calibrate_checkpoint)
        # validation must not depend on how quick this machine is: no time limit
        nms.non_max_suppression = partial(nms.non_max_suppression, max_time_img=float("inf"))


_ConcretePath: Any = type(Path())  # the platform's own class


def published(path: Path, publish: Callable[[Path, bytes], None]) -> Any:
    """`path`, such that a file written below it with `write_bytes` is handed to `publish`; the loop goes on meanwhile."""

    class PublishedPath(_ConcretePath):
        def write_bytes(self, data: Any) -> int:
            publish(Path(self), bytes(data))
            return len(data)

    return PublishedPath(path)


class ResultsPath(_ConcretePath):
    """results.csv. Upstream removes what an earlier training left; a run that goes on keeps its rows."""

    def unlink(self, missing_ok: bool = False) -> None:
        pass


def _atomic_strip(strip: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @wraps(strip)
    def atomic(f: str | Path = "best.pt", s: str = "", updates: dict[str, Any] | None = None) -> dict[str, Any]:
        final = Path(s or f)
        temporary = final.with_name(f".{final.name}.strip")
        stripped = strip(f, s=str(temporary), updates=updates)
        if stripped:  # empty: `f` was no checkpoint, and nothing was written
            fsync_file(temporary)
            temporary.replace(final)
            fsync_dir(final.parent)
        return stripped

    return atomic


def uncalibrated(file: Path) -> Path:
    """Where a depth model's weights are kept as they were before their calibration."""
    return file.with_name(f".{file.name}.uncalibrated")


def _repeatable_calibration(fit: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fit)
    def repeatable(ckpt_path: str | Path, *args: Any, **kwargs: Any) -> Any:
        """Replaces the file whole, and keeps what it was: a final evaluation that is begun again needs it."""
        final = Path(ckpt_path)
        with atomic_file(uncalibrated(final)) as kept:
            shutil.copyfile(final, kept)
        with atomic_file(final) as temporary:
            shutil.copyfile(final, temporary)
            return fit(temporary, *args, **kwargs)

    return repeatable


def _atomic_cache(save: Callable[..., None]) -> Callable[..., None]:
    @wraps(save)
    def atomic(prefix: str, path: Path, x: dict[str, Any], version: str) -> None:
        """Jobs that start together write the same labels.cache: each under its own name, then by rename."""
        temporary = path.with_name(f".{path.name}.{os.getpid()}")
        save(prefix, temporary, x, version)
        if temporary.exists():
            temporary.replace(path)

    return atomic
