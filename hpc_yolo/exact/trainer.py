"""Owns exact resume over ultralytics' own training loop: a mixin that overrides its seams and copies none of it.

The loop stays upstream's. What it would remember between batches is a function of the position here (order.py, keys.py),
and the rest is captured and restored (state.py). Upstream's lines that this leans on are listed in upstream.py.
"""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from ultralytics.utils.checks import check_amp

from hpc_yolo.errors import DataError
from hpc_yolo.events import Kind
from hpc_yolo.exact import state, upstream
from hpc_yolo.exact.cadence import steps_in
from hpc_yolo.exact.companion import Companion
from hpc_yolo.exact.keys import key, seed_all
from hpc_yolo.exact.loader import abandon, make_exact, make_ordered
from hpc_yolo.exact.own import gather_own, own_of_rank
from hpc_yolo.exact.ranks import Alone, Ranks, Wish
from hpc_yolo.exact.session import Session
from hpc_yolo.exact.stop import StopTraining
from hpc_yolo.snapshot.format import Position, Snapshot
from hpc_yolo.tasks import check_head
from hpc_yolo.types import Phase

# What a key is for; apart from each other and from the slots of samples.
_STEP, _VALIDATION, _FINAL = -1, -2, -3
_FORK_S = 10.0

#: What upstream raises where images, labels or the YAML are not what the task needs.
_BAD_DATA = (ValueError, KeyError, RuntimeError, FileNotFoundError, NotImplementedError)


if TYPE_CHECKING:
    from ultralytics.engine.trainer import BaseTrainer as _Upstream
else:
    _Upstream = object


class ExactMixin(_Upstream):
    """Put before an ultralytics trainer class. `session.resumed` is where it goes on from, or None for a fresh start.

    Safe points are the ends of batches and the gaps between validation batches: there the state is saved, and a stop
    request is obeyed by raising StopTraining. Accumulated gradients are part of the state, so a stop need not wait for the
    next optimizer step.
    """

    family = "yolo"  # as in hpc_yolo.tasks

    def __init__(
        self,
        *,
        session: Session | Companion,
        overrides: dict[str, Any],
        cpu_threads: int,
        streams: int,
        ranks: Ranks | None = None,
    ) -> None:
        self._session = session
        self._ranks = ranks or Alone()
        self._resumed = session.resumed  # until the first batch (or the end of the epoch) has taken over what it holds
        self._streams = streams
        self._lanes = self._ranks.place.world if self._resumed is None else int(self._resumed.plain["lanes"])
        self._nominal_accumulate = 1
        self._in_batch = False
        self._last_opt_step = -1
        self._step = 0  # optimizer steps done
        self._batch = 0  # batches done in this epoch
        self._loader_epoch = 0  # where a running loader goes on by itself
        self._is_final = False
        self._seconds_before = 0.0
        self._tensors: state.StateTensors | None = None  # of this epoch
        self.rows = ""  # results.csv, whose truth is here: the file follows
        workers = overrides.get("workers")
        upstream.patch(self._decide_amp, cpu_threads)
        if self._ranks.place.world > 1:
            upstream.patch_for_ranks()
        super().__init__(overrides=overrides)
        if workers is not None:
            self.args.workers = workers  # upstream sets 0 on the CPU
        torch.set_num_threads(cpu_threads)  # upstream sets it on the CPU only; 1 and 2 threads give different bits
        self.wdir: Any = upstream.published(self.save_dir, session.publish, session.stage) / "weights"
        self.last, self.best = self.wdir / "last.pt", self.wdir / "best.pt"
        self.add_callback("on_val_batch_end", self._after_validation_batch)
        if self._resumed is not None:
            self.args.__dict__.update(self._resumed.plain["args"])
            self.batch_size = self.args.batch

    # --- seams of the loop -------------------------------------------------------------------------------------------

    @property
    def accumulate(self) -> int:
        """Batches a step. Reads 0 inside a batch, so that upstream calls `optimizer_step` every time and we decide."""
        return 0 if self._in_batch else self._nominal_accumulate

    @accumulate.setter
    def accumulate(self, value: int) -> None:
        self._nominal_accumulate = value

    @property
    def world_size(self) -> int:
        """As upstream means it: 0 without several processes. It would count the devices of this one."""
        world = self._ranks.place.world
        return world if world > 1 else self._devices

    @world_size.setter
    def world_size(self, value: int) -> None:
        self._devices = value

    def _setup_ddp(self) -> None:
        """The ranks have met, and each has one device (ranks.py)."""

    def train(self) -> None:
        try:
            super().train()
        except BaseException as error:
            if not isinstance(error, StopTraining):
                self._session.journal.images = self._images_of_batch()
            for loader in (getattr(self, "train_loader", None), getattr(self, "test_loader", None)):
                abandon(loader)
            raise

    def _images_of_batch(self) -> tuple[str, ...]:
        """Of the batch under way, those of all ranks; a mosaic draws others to them."""
        made = (getattr(self, name, None) for name in ("train_loader", "_batches", "epoch"))
        loader, batches, epoch = made  # as far as it came: whatever failed may have failed before
        if loader is None or batches is None or epoch is None or self._batch >= len(loader):
            return ()
        files = getattr(loader.dataset, "im_files", None) or [it[0] for it in getattr(loader.dataset, "samples", ())]
        return tuple(str(files[index]) for index in batches.order.batch(epoch, self._batch) if index < len(files))

    def optimizer_step(self) -> None:
        self._in_batch = False
        ni = self._batch + len(self.train_loader) * self.epoch
        if ni - self._last_opt_step >= self._nominal_accumulate:
            super().optimizer_step()
            self._last_opt_step = ni
            self._step += 1

    def run_callbacks(self, event: str) -> None:
        super().run_callbacks(event)
        ours = getattr(self, f"_at_{event}", None)
        if ours is not None:
            ours()

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> Any:
        if isinstance(cfg, dict):  # out of a .pt, which nobody has opened before
            check_head(cfg["head"][-1][2], weights=self.args.model, family=self.family, task=self.args.task)
        return super().get_model(cfg, weights, verbose)

    def build_dataset(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().build_dataset(*args, **kwargs)
        except _BAD_DATA as error:
            why = " ".join(str(error).split())
            raise DataError(f"the data set {self.args.data} cannot be trained on: {why}") from error

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        loader = super().get_dataloader(dataset_path, batch_size, rank, mode)
        if mode == "train":
            place = self._ranks.place
            self._batches = make_exact(
                loader, seed=self.args.seed, streams=self._streams, lanes=self._lanes, place=place
            )
        else:
            make_ordered(loader)
        return loader

    def _build_train_pipeline(self) -> None:
        self._in_batch = False
        self._last_opt_step = -1  # upstream builds it again when memory ran out, and then counts anew
        super()._build_train_pipeline()

    def auto_batch(self, *args: Any, **kwargs: Any) -> int:
        if self._resumed is not None:
            return int(self._resumed.plain["args"]["batch"])
        return int(super().auto_batch(*args, **kwargs))

    def _decide_amp(self, model: Any) -> bool:
        if self._resumed is not None:
            return bool(self._resumed.plain["amp"])
        return bool(check_amp(model))

    def resume_training(self, ckpt: Any) -> None:
        super().resume_training(ckpt)
        if self._resumed is None:
            return
        state.restore(self, own_of_rank(self._ranks.place, self._resumed.tensors), self._resumed.plain)
        position = self._resumed.position
        self.start_epoch, self._batch, self._step = position.epoch, position.batch, position.step
        self._last_opt_step = self._resumed.plain["last_opt_step"]
        self._seconds_before = self._resumed.plain["seconds"]

    def _handle_nan_recovery(self, epoch: int) -> bool:
        if not _is_finite(self.loss) or not _is_finite(self.fitness):
            self._session.settle()  # it reads last.pt
        is_redone = bool(super()._handle_nan_recovery(epoch))
        if is_redone:
            self._last_opt_step = -1
        return is_redone

    def validate(self) -> Any:
        seed_all(key(self.args.seed, self.epoch, 0, _VALIDATION, self.nan_recovery_attempts), self.device)
        return super().validate()

    @property
    def csv(self) -> Any:
        return self._csv

    @csv.setter
    def csv(self, path: Path) -> None:
        self._csv = upstream.ResultsPath(path)

    def save_metrics(self, metrics: Any) -> None:
        with self._rows_at_hand():
            super().save_metrics(metrics)
        self._session.publish(Path(self.csv), self.rows.encode())

    def read_results_csv(self) -> Any:
        with self._rows_at_hand():
            return super().read_results_csv()

    @contextmanager
    def _rows_at_hand(self) -> Iterator[None]:
        """Give upstream a results.csv of this machine's own: the run's storage may be slow, full or away."""
        public = self.csv
        with tempfile.TemporaryDirectory(prefix="hpc-yolo-") as scratch:
            local = Path(scratch) / "results.csv"
            if self.rows:
                local.write_text(self.rows, encoding="utf-8")
            self.csv = local
            try:
                yield
                self.rows = local.read_text(encoding="utf-8") if local.exists() else ""
            finally:
                self.csv = public

    def final_eval(self) -> None:
        self._is_final = True
        self._note(Phase.FINAL)
        self._session.settle()  # it reads last.pt and best.pt
        self._session.check_fence_now()
        self._ranks.wait_for_all()
        seed_all(key(self.args.seed, self.epoch, 0, _FINAL), self.device)
        super().final_eval()

    # --- what happens at upstream's events ---------------------------------------------------------------------------

    def _at_on_pretrain_routine_end(self) -> None:
        if self._may_leave():
            raise StopTraining

    def _at_on_train_start(self) -> None:
        self.train_time_start = time.time() - self._seconds_before
        record, nb = self._session.journal.record, len(self.train_loader)
        record.epochs, record.batches = self.epochs, nb
        record.steps_total = steps_in(nb * self.epochs, self._get_warmup_iterations(nb), self._nominal_accumulate)

    def _at_on_train_epoch_start(self) -> None:
        """Put the loader where this epoch begins: at batch 0, or in its middle in the first epoch after a resume."""
        if self._will_fork():
            self._session.settle(within_s=_FORK_S)  # best without a writer at work
        self.start_epoch = 0  # upstream treats its first epoch differently; a resumed one is not the first
        resumed = self._resumed
        self._batch = resumed.position.batch if resumed else 0
        if self.train_loader.iterator is not None and self._loader_epoch != self.epoch:
            self.train_loader.reset()  # an epoch is redone (NaN recovery): the running loader is past it
        self._batches.restart_at(self.epoch, self._batch, self.nan_recovery_attempts)
        self._loader_epoch = self.epoch + 1
        self._tensors = None
        if resumed:
            state.restore_gradients(self, resumed.tensors)
        self._note(Phase.TRAIN)

    def _at_on_train_batch_start(self) -> None:
        resumed = self._resumed
        # it came after the last batch ended: in validation's tail, or before the first batch; several ranks agree later
        if self._session.stop.is_set and self._ranks.place.world == 1:
            self._leave(save=resumed is None and (self._step > 0 or self._batch > 0 or self.epoch > 0))
        if resumed:
            self._take_over(resumed)
        seed_all(key(self.args.seed, self.epoch, self._batch, _STEP, self.nan_recovery_attempts), self.device)
        self._in_batch = True

    def _at_on_train_batch_end(self) -> None:
        self._batch += 1
        is_last = self._batch == len(self.train_loader)
        self._note(Phase.VALIDATE if is_last else Phase.TRAIN)
        self._session.check_fence()
        agreed = self._ranks.agree(self._wish())
        if agreed is Wish.STOP:
            self._leave(save=True)
        if is_last or agreed is Wish.SAVE:
            self._save("epoch" if is_last else "interval")

    def _at_on_train_epoch_end(self) -> None:
        resumed = self._resumed
        if resumed:  # stopped in validation: no batch was left, so nothing has set again what the last batches had set
            state.restore_learning_rates(self.optimizer, resumed.plain)
            self.lr = {f"lr/pg{i}": group["lr"] for i, group in enumerate(self.optimizer.param_groups)}
            self._take_over(resumed)
        self._note(Phase.VALIDATE)

    def _after_validation_batch(self, _validator: Any) -> None:
        self._session.check_fence()
        if self._may_leave():  # nothing has changed since the snapshot at the end of the epoch
            self._leave(save=False)

    def _at_on_fit_epoch_end(self) -> None:
        if self._is_final:
            return
        metrics = {k: float(v) for k, v in (self.metrics or {}).items()}
        fitness = None if self.fitness is None else float(self.fitness)
        if self._session.keeps_best and fitness is not None and self.best_fitness == self.fitness:
            self._session.note_best(self._step)
        self._session.tell(Kind.EPOCH_ENDED, epoch=self.epoch, step=self._step, metrics=metrics, fitness=fitness)
        self._note(Phase.VALIDATE, metric=fitness)

    def _at_on_train_end(self) -> None:
        self._save("done", Phase.DONE)
        self._session.settle()
        self._note(Phase.DONE)

    # --- saving and leaving ------------------------------------------------------------------------------------------

    def _take_over(self, resumed: Snapshot) -> None:
        """The last of what a snapshot holds, which the loop clears at an epoch's start; then its copy is let go."""
        self.tloss = state.running_loss(self, resumed.tensors)
        resumed.tensors.clear()  # the session holds the snapshot as long as the run: up to gigabytes for nothing
        self._resumed = None

    def _wish(self) -> Wish:
        if self._session.stop.is_set:
            return Wish.STOP
        return Wish.SAVE if self._session.interval.is_due(self._step) else Wish.NONE

    def _may_leave(self) -> bool:
        """Where there is nothing to save, rank 0 leaves, and whoever started the others ends them: they may wait for it."""
        return self._session.stop.is_set and self._ranks.place.rank == 0

    def _leave(self, *, save: bool) -> None:
        if save:
            self._save("stop")
        self._session.settle()
        raise StopTraining

    def _save(self, cause: str, phase: Phase | None = None) -> None:
        self._tensors = self._tensors or state.StateTensors(self)
        tensors = self._tensors.gather()
        if self._ranks.place.world > 1 and phase is not Phase.DONE:
            tensors.update(gather_own(self._ranks, tensors))
        if self._ranks.place.rank > 0:
            return
        plain = {
            **state.capture_plain(self),
            "ranks": self._ranks.place.world,
            "lanes": self._lanes,
            "last_opt_step": self._last_opt_step,
            "seconds": round(time.time() - self.train_time_start, 3),
            "environment": self._session.environment,
        }
        self._session.save(self._position(phase), tensors, plain, cause)

    def _will_fork(self) -> bool:
        """Whether this epoch starts dataloader workers: the first one, one that is redone, and where mosaic is closed."""
        if not self.args.workers:
            return False
        is_closing = self.epoch == self.epochs - self.args.close_mosaic
        return self.train_loader.iterator is None or self._loader_epoch != self.epoch or is_closing

    def _position(self, phase: Phase | None = None) -> Position:
        if phase is None:
            phase = Phase.VALIDATE if self._batch == len(self.train_loader) else Phase.TRAIN
        return Position(step=self._step, epoch=self.epoch, batch=self._batch, phase=phase)

    def _note(self, phase: Phase, metric: float | None = None) -> None:
        loss = None
        if self.device.type == "cpu" and self.tloss is not None:  # on a GPU reading it would wait for the device
            loss = round(float(sum(v.sum() for v in self.tloss.values())), 5)
        self._session.note_position(self._position(phase), loss=loss, metric=metric)


def _is_finite(value: Any) -> bool:
    return value is None or math.isfinite(float(value.detach() if hasattr(value, "detach") else value))
