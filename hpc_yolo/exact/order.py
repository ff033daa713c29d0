"""Owns the order of the data: which image stands in which slot of which batch, and what a mosaic may draw there. Pure.

Everything is a function of (seed, epoch, batch, slot), so a loader can start anywhere and with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpc_yolo.exact.keys import key, permutation


class Slot(int):
    """A data set index that knows its position; it travels to the dataloader workers in place of the bare index."""

    epoch: int
    batch: int
    slot: int
    redo: int

    def __new__(cls, index: int, epoch: int, batch: int, slot: int, redo: int) -> Slot:
        self = super().__new__(cls, index)
        self.epoch, self.batch, self.slot, self.redo = epoch, batch, slot, redo
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return Slot, (int(self), self.epoch, self.batch, self.slot, self.redo)


class DataOrder:
    """The order of one data set of `n` images in batches of `batch_size`.

    Args:
        shuffle: False keeps the file order in every epoch (rectangular training).
        streams: into how many interleaved streams the batches fall; a mosaic draws from its own stream only, so that with
            up to `streams` workers each image is decoded by the worker that needs it. A constant of the run, because it
            decides which images are drawn.
        window: how many recent images of its stream a mosaic may draw from.
    """

    def __init__(
        self, n: int, batch_size: int, *, seed: int, shuffle: bool, drop_last: bool, streams: int, window: int
    ) -> None:
        self.n, self.batch_size, self.seed, self.shuffle = n, batch_size, seed, shuffle
        self.streams, self.window_size = streams, window
        self.batches = n // batch_size if drop_last else -(-n // batch_size)
        self._orders: dict[int, list[int]] = {}

    def batch(self, epoch: int, batch: int) -> list[int]:
        start = batch * self.batch_size
        return self._epoch(epoch)[start : start + self.batch_size]

    def slots(self, epoch: int, batch: int, redo: int) -> list[Slot]:
        return [Slot(index, epoch, batch, slot, redo) for slot, index in enumerate(self.batch(epoch, batch))]

    def window(self, epoch: int, batch: int) -> list[int]:
        """The images that a mosaic at this position may draw: this batch's, and those before it in the same stream.

        It reaches back into earlier epochs, so that its size is `window` but for the first batches of the run.
        """
        drawn: list[int] = []
        absolute = epoch * self.batches + batch
        while absolute >= 0 and len(drawn) < self.window_size:
            drawn.extend(self.batch(*divmod(absolute, self.batches)))
            absolute -= self.streams
        return drawn[: self.window_size]

    def stream(self, epoch: int, batch: int) -> int:
        return (epoch * self.batches + batch) % self.streams

    def _epoch(self, epoch: int) -> list[int]:
        if epoch not in self._orders:
            if len(self._orders) >= 4:  # a window spans few epochs; more are not kept
                self._orders.pop(min(self._orders))
            order = permutation(self.n, key(self.seed, epoch)) if self.shuffle else list(range(self.n))
            self._orders[epoch] = order
        return self._orders[epoch]


class PositionedBatches:
    """A batch sampler without history: it goes on for ever from `restart_at`, epoch after epoch.

    `sampler` is itself, because ultralytics' endless loader asks its batch sampler's sampler for the number of batches.
    """

    def __init__(self, order: DataOrder) -> None:
        self.order = order
        self.epoch = self.first = self.redo = 0

    @property
    def sampler(self) -> PositionedBatches:
        return self

    def restart_at(self, epoch: int, batch: int, redo: int) -> None:
        """Where the next iterator begins; a running one is not moved."""
        self.epoch, self.first, self.redo = epoch, batch, redo

    def __len__(self) -> int:
        return self.order.batches

    def __iter__(self) -> Iterator[list[Slot]]:
        epoch, first, redo = self.epoch, self.first, self.redo
        while True:
            for batch in range(first, self.order.batches):
                yield self.order.slots(epoch, batch, redo)
            epoch, first, redo = epoch + 1, 0, 0
