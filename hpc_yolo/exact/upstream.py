"""Owns everything that is relied on inside ultralytics: the list of it, the check at start, and the patches.

Written against ultralytics 8.4.190. When `check` fails on a newer release, read its `engine/trainer.py` again before
widening anything here.
"""

from __future__ import annotations

import importlib.util
import inspect
import linecache
import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial, wraps
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.data import augment, base, build, dataset
from ultralytics.engine import trainer, validator
from ultralytics.models.yolo.depth import calibrate
from ultralytics.models.yolo.depth import train as depth
from ultralytics.models.yolo.world import train as world
from ultralytics.nn import tasks
from ultralytics.utils import SETTINGS, nms, torch_utils
from ultralytics.utils.callbacks import base as callbacks

from hpc_yolo.errors import ConfigError
from hpc_yolo.exact.loader import positioned_enumerate
from hpc_yolo.rundir import fsync_file
from hpc_yolo.staging import Stage

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
    (trainer.BaseTrainer._setup_train, "device_ids=[self.device.index]", 1),  # [None] on the CPU
    (trainer.BaseTrainer._do_train, "self._setup_ddp()", 1),
    (trainer.BaseTrainer._build_train_pipeline, "rank=LOCAL_RANK", 2),
    (validator.BaseValidator.__call__, "get_torch_device_backend(device_type).current_device()", 1),
    (validator.BaseValidator.__call__, 'self.run_callbacks("on_val_batch_end")', 1),
    (augment.Mosaic.get_indexes, "random.choices(list(self.dataset.buffer)", 1),
    (base.BaseDataset.__init__, "min((self.ni, self.batch_size * 8, 1000)) if self.augment", 1),  # window_size
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
    (callbacks.add_integration_callbacks, "if SETTINGS[key] is True:", 1),
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


def silence_trackers() -> list[str]:
    """Keep upstream's own callbacks for these trackers away: they begin an experiment at each start.

    Returns:
        Those that would have been at work, by their names.
    """
    ours = ("tensorboard", "mlflow", "wandb")
    found = [name for name in ours if SETTINGS[name] is True and importlib.util.find_spec(name) is not None]
    for name in ours:
        dict.__setitem__(SETTINGS, name, False)  # in this process; its own method writes the user's file
    return found


def patch_for_ranks() -> None:
    """Let upstream's code for several GPUs of one node train on whatever each process has: one GPU, or the CPU."""
    trainer.nn = _copy_of(nn, parallel=_copy_of(nn.parallel, DistributedDataParallel=_distributed))
    if not torch.cuda.is_available():
        validator.get_torch_device_backend = lambda _device: _NoDevice()
        if not isinstance(validator.AutoBackend, partial):
            validator.AutoBackend = partial(_on_cpu, validator.AutoBackend)


def _copy_of(module: ModuleType, **changes: Any) -> ModuleType:
    """A module with all of another's names (upstream looks through them), and some of its own."""
    made = ModuleType(module.__name__)
    made.__dict__.update({**module.__dict__, **changes})
    return made


def _distributed(module: Any, device_ids: list[Any], **options: Any) -> Any:
    """torch's wrapper, which takes no list of devices on the CPU; upstream gives it [None]."""
    devices = None if device_ids == [None] else device_ids
    return nn.parallel.DistributedDataParallel(module, device_ids=devices, **options)


class _NoDevice:
    def current_device(self) -> int:
        """Of a GPU that is not there; see `_on_cpu`."""
        return 0


def _on_cpu(make: Callable[..., Any], *args: Any, **options: Any) -> Any:
    return make(*args, **{**options, "device": torch.device("cpu")})


_ConcretePath: Any = type(Path())  # the platform's own class


def published(
    path: Path, publish: Callable[[Path, bytes], None], stage_of: Callable[[Path], Stage] = lambda it: Stage(it, 0)
) -> Any:
    """`path`, such that a file written below it with `write_bytes` is handed to `publish`; the loop goes on meanwhile.

    What replaces such a file by itself, below, does so through its `stage`.
    """

    class PublishedPath(_ConcretePath):
        def write_bytes(self, data: Any) -> int:
            publish(Path(self), bytes(data))
            return len(data)

        def mkdir(self, *_args: Any, **_options: Any) -> None:
            """Its stage makes the folder. Upstream makes it at every epoch's end, and would wait for a storage that hangs."""

        @property
        def stage(self) -> Stage:
            return stage_of(Path(self.parent))

    return PublishedPath(path)


class ResultsPath(_ConcretePath):
    """results.csv. Upstream removes what an earlier training left; a run that goes on keeps its rows."""

    def unlink(self, missing_ok: bool = False) -> None:
        pass


class _NoCheckpointError(Exception):
    """There was nothing to strip, and nothing was written."""


def _atomic_strip(strip: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, Any]]:
    @wraps(strip)
    def atomic(f: Any, s: str = "", updates: dict[str, Any] | None = None) -> dict[str, Any]:
        """Replaces `f`, which is published, whole; with `s`, and elsewhere, it is upstream's."""
        if s or not hasattr(f, "stage"):
            return strip(f, s=s, updates=updates)
        stripped: dict[str, Any] = {}
        with suppress(_NoCheckpointError), f.stage.replacing(Path(f)) as temporary:
            stripped = strip(f, s=str(temporary), updates=updates)
            if not stripped:
                raise _NoCheckpointError
            fsync_file(temporary)
        return stripped

    return atomic


def uncalibrated(file: Any) -> Any:
    """Where a published depth model is kept as it was before its calibration; published as well."""
    return file.with_name(f".{file.name}.uncalibrated")


def copy_published(source: Any, to: Any) -> None:
    """Make `to` what `source` is; both are published."""
    with to.stage.replacing(Path(to)) as temporary:
        shutil.copyfile(source, temporary)
        fsync_file(temporary)


def _repeatable_calibration(fit: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(fit)
    def repeatable(ckpt_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Replaces the file whole, and keeps what it was: a final evaluation that is begun again needs it."""
        copy_published(ckpt_path, uncalibrated(ckpt_path))
        with ckpt_path.stage.replacing(Path(ckpt_path)) as temporary:
            shutil.copyfile(ckpt_path, temporary)
            found = fit(temporary, *args, **kwargs)
            fsync_file(temporary)
        return found

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
