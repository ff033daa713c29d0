"""Owns the order of the data: which image stands in which slot of which batch, and what a mosaic may draw there. Pure.

Everything is a function of (seed, epoch, batch, slot), so a loader can start anywhere and with any number of workers.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any

from hpc_yolo.exact.keys import key, permutation
from hpc_yolo.exact.place import ALONE, Place


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
    """The order of one data set of `n` images in batches of `batch_size`, over all processes that train together.

    Args:
        shuffle: False keeps the file order in every epoch (rectangular training).
        streams: into how many interleaved streams the batches fall; a mosaic draws from its own stream only, so that with
            up to `streams` workers each image is decoded by the worker that needs it. A constant of the run, because it
            decides which images are drawn.
        lanes: into how many parts each batch falls; a mosaic draws from its own lane only, so that of as many processes
            each decodes what it needs and no more. As constant as the streams: another number of processes keeps it.
        window: how many recent images of its stream and lane a mosaic may draw from.
        place: whose part of each batch `slots` tells.
    """

    def __init__(
        self,
        n: int,
        batch_size: int,
        *,
        seed: int,
        shuffle: bool,
        drop_last: bool,
        streams: int,
        window: int,
        lanes: int = 1,
        place: Place = ALONE,
    ) -> None:
        self.n, self.batch_size, self.seed, self.shuffle, self.place = n, batch_size, seed, shuffle, place
        self.streams, self.lanes, self.window_size = streams, lanes, window
        self.batches = n // batch_size if drop_last else -(-n // batch_size)
        self._orders: dict[int, list[int]] = {}

    def batch(self, epoch: int, batch: int) -> list[int]:
        start = batch * self.batch_size
        return self._epoch(epoch)[start : start + self.batch_size]

    def slots(self, epoch: int, batch: int, redo: int) -> list[Slot]:
        """This process's part of a batch. A slot is a place in the whole batch, whatever the number of processes.

        Each process gets as many: what is missing in the last batch is taken from the beginning of the epoch, as
        torch's DistributedSampler does.
        """
        whole = self.batch(epoch, batch)
        part = -(-len(whole) // self.place.world)
        missing = part * self.place.world - len(whole)
        filled = whole + list(islice(cycle(self._epoch(epoch)), missing))
        first = part * self.place.rank
        return [Slot(filled[slot], epoch, batch, slot, redo) for slot in range(first, first + part)]

    def window(self, epoch: int, batch: int, lane: int = 0) -> list[int]:
        """The images that a mosaic at this position may draw: this batch's, and those before it in the same stream and lane.

        It reaches back into earlier epochs, so that its size is `window` but for the first batches of the run.
        """
        drawn: list[int] = []
        absolute = epoch * self.batches + batch
        while absolute >= 0 and len(drawn) < self.window_size:
            drawn.extend(self._lane_of_batch(*divmod(absolute, self.batches), lane))
            absolute -= self.streams
        return drawn[: self.window_size]

    def lane(self, slot: Slot) -> int:
        """As many processes as there are lanes have one each (see `slots`)."""
        return min(slot.slot // self._lane_size(len(self.batch(slot.epoch, slot.batch))), self.lanes - 1)

    def _lane_of_batch(self, epoch: int, batch: int, lane: int) -> list[int]:
        whole = self.batch(epoch, batch)
        size = self._lane_size(len(whole))
        return whole[lane * size : (lane + 1) * size]

    def _lane_size(self, images: int) -> int:
        return -(-images // self.lanes)

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
