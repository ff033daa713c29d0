"""Owns the dataloader that starts anywhere: positioned batches, counting from the right batch, workers deaf to warnings."""

from __future__ import annotations

import builtins
import signal
from collections.abc import Iterator
from functools import cache
from typing import Any

import torch
from torch.utils.data import BatchSampler, RandomSampler, SequentialSampler
from torch.utils.data.distributed import DistributedSampler
from ultralytics.data.build import ContiguousDistributedSampler

from hpc_yolo.errors import ConfigError
from hpc_yolo.exact.dataset import make_positioned, window_size
from hpc_yolo.exact.order import DataOrder, PositionedBatches
from hpc_yolo.exact.place import Place
from hpc_yolo.processes import signal_when_parent_dies

#: Upstream asks for a DistributedSampler where it shuffles, and for its own where it does not.
_SHUFFLING, _SEQUENTIAL = (RandomSampler, DistributedSampler), (SequentialSampler, ContiguousDistributedSampler)
_WARNINGS = (signal.SIGUSR1, signal.SIGTERM)


class WorkerInit:
    """Runs first in each worker: upstream's own initialisation, then a tie to the trainer's life."""

    def __init__(self, upstream: Any) -> None:
        self._upstream = upstream

    def __call__(self, worker: int) -> None:
        if self._upstream is not None:
            self._upstream(worker)
        signal_when_parent_dies(signal.SIGKILL)


def make_ordered(loader: Any) -> None:
    """Give a validation loader the order of the files, in place, where it shuffles (classification).

    Upstream's generator goes on from one validation to the next, so the mean of the losses would depend on how many there were.
    """
    if isinstance(loader.sampler, RandomSampler):
        repeat = type(loader.batch_sampler)  # upstream's own, which never ends
        in_order = BatchSampler(SequentialSampler(loader.dataset), loader.batch_size, drop_last=False)
        object.__setattr__(loader, "batch_sampler", repeat(in_order))  # DataLoader forbids the plain assignment
    make_quiet(loader)


def make_quiet(loader: Any) -> None:
    """Protect a loader's workers, in place."""
    loader.worker_init_fn = WorkerInit(loader.worker_init_fn)
    object.__setattr__(loader, "__class__", _quiet(loader.__class__))


def make_exact(loader: Any, *, seed: int, streams: int, lanes: int, place: Place) -> PositionedBatches:
    """Turn a training loader into one whose content is a function of position, in place.

    Args:
        streams, lanes: see DataOrder.
        place: of whose part of each batch; the loader's batch size is that of the part.

    Raises:
        ConfigError: its sampler is neither random nor sequential, so the order cannot be known.
    """
    dataset = loader.dataset
    if not isinstance(loader.sampler, (*_SHUFFLING, *_SEQUENTIAL)):
        raise ConfigError(
            f"exact training does not know the order of {type(loader.sampler).__name__}; "
            "please report the options that led here."
        )
    batch_size = loader.batch_size * place.world
    order = DataOrder(
        len(dataset),
        batch_size,
        seed=seed,
        shuffle=isinstance(loader.sampler, _SHUFFLING),
        drop_last=loader.drop_last,
        streams=streams,
        lanes=lanes,
        window=window_size(dataset, -(-batch_size // lanes)),
        place=place,
    )
    batches = PositionedBatches(order)
    make_positioned(dataset, order, seed)
    object.__setattr__(loader, "batch_sampler", batches)  # see make_ordered
    make_quiet(loader)
    return batches


def abandon(loader: Any) -> None:
    """Kill the workers of a loader that is left in the middle: deaf to SIGTERM, they would keep the process from ending."""
    iterator = getattr(loader, "iterator", None)
    workers = getattr(iterator, "_workers", ())
    if workers:
        torch._C._remove_worker_pids(id(iterator))  # else torch takes their end for a failure
    for worker in workers:
        worker.kill()


def positioned_enumerate(iterable: Any, start: int = 0) -> Iterator[tuple[int, Any]]:
    """Takes the place of `enumerate` in ultralytics' trainer module: a training loader is counted from its position.

    That one change puts the batch index, the warm-up, the running loss and the plots right after a resume in mid-epoch.
    """
    batches = getattr(iterable, "batch_sampler", None)
    if not isinstance(batches, PositionedBatches):
        return builtins.enumerate(iterable, start)
    return _from_position(iterable, batches)


def _from_position(loader: Any, batches: PositionedBatches) -> Iterator[tuple[int, Any]]:
    items = iter(loader)
    for index in range(batches.first, len(batches)):
        yield index, next(items)


@cache
def _quiet(base: type) -> type:
    class Quiet(base):  # one base only: see dataset.py
        """Bears its workers with the scheduler's warnings blocked.

        Slurm signals every process of a job step; a worker that dies of it fails the trainer in the middle of its save.
        """

        def _get_iterator(self) -> Any:
            before = signal.pthread_sigmask(signal.SIG_BLOCK, _WARNINGS)
            try:
                return super()._get_iterator()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

    Quiet.__name__ = f"Quiet{base.__name__}"
    return Quiet
