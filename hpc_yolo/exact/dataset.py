"""Owns the data set that forgets: every sample depends on its position only, never on what this process loaded before.

A class is derived from the data set's own class (ultralytics asks `isinstance`), and an existing object is moved into it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from ultralytics.data.base import BaseDataset
from ultralytics.data.dataset import ClassificationDataset, YOLOConcatDataset

from hpc_yolo.errors import ConfigError
from hpc_yolo.exact.keys import key, seed_cpu
from hpc_yolo.exact.order import DataOrder, Slot


class Window:
    """Stands in for ultralytics' list of recently loaded images (`BaseDataset.buffer`), which mosaics draw from.

    The list is a function of the position. What it also does is to forget decoded images, but only those that no stream
    of this process can still draw: so an image is decoded about once a sample, as in stock ultralytics.

    Args:
        images: the data set's decoded images; None where there is none.
        masks: decoded masks by index (semantic segmentation), which ultralytics keeps as long as their image.
        first: where the data set begins in `order`, which may span several (ultralytics' ConcatDataset).
    """

    def __init__(self, order: DataOrder, images: list[Any], masks: dict[int, Any], first: int, size: int) -> None:
        self.order = order
        self._images, self._masks = images, masks
        self._part = range(first, first + size)
        self._candidates: list[int] = []
        self._members: dict[tuple[int, int], set[int]] = {}  # of each stream and lane that this process serves
        self._loaded: set[int] = set()
        self._at: tuple[int, int, int] | None = None

    def move_to(self, slot: Slot) -> None:
        at = (slot.epoch, slot.batch, self.order.lane(slot))
        if at == self._at:
            return
        self._at = at
        self._candidates = [index - self._part.start for index in self.order.window(*at) if index in self._part]
        if not self._candidates and int(slot) in self._part:  # it fills up a last batch, out of another lane
            self._candidates, self._at = [int(slot) - self._part.start], None
        self._members[self.order.stream(*at[:2]), at[2]] = set(self._candidates)
        needed = set().union(*self._members.values())
        for index in self._loaded - needed:
            self._images[index] = None
            self._masks.pop(index, None)
        self._loaded &= needed

    def __iter__(self) -> Iterator[int]:
        return iter(self._candidates)

    def __contains__(self, index: object) -> bool:
        return index in self._loaded

    def __len__(self) -> int:
        return len(self._loaded)

    def append(self, index: int) -> None:
        """Called by upstream's `load_image` for each image that it decoded and kept."""
        self._loaded.add(index)


def window_size(dataset: Any, batch_size: int) -> int:
    """How many recent images its mosaics may draw from: as many as in stock ultralytics with batches of that size.

    Raises:
        ConfigError: it is of a kind whose history is not known.
    """
    if isinstance(dataset, YOLOConcatDataset):
        # a whole batch at least, so that a mosaic finds an image of its own part
        return max(sum(window_size(it, batch_size) for it in dataset.datasets), batch_size)
    if isinstance(dataset, ClassificationDataset):
        return 1  # no mosaic: every sample is made of its own image
    if isinstance(dataset, BaseDataset):
        return min(len(dataset), 8 * batch_size, 1000)
    raise ConfigError(
        f"exact training does not know the data set {type(dataset).__name__}; please report the options that led here."
    )


def make_positioned(dataset: Any, order: DataOrder, seed: int) -> None:
    """Turn `dataset` (of a kind that `window_size` knows, augmenting) into its stateless self, in place."""
    dataset.exact_seed = seed
    dataset.exact_windows = []
    first = 0
    for part in _parts(dataset):
        is_decoded = part.cache == "ram"  # then mosaics draw from the whole data set
        part.buffer = Window(order, [] if is_decoded else part.ims, getattr(part, "masks", {}), first, len(part))
        part.max_buffer_length = sys.maxsize  # upstream evicts from a list that is longer; Window does so itself
        dataset.exact_windows.append(part.buffer)
        first += len(part)
    dataset.__class__ = _derived(dataset.__class__)


def _parts(dataset: Any) -> list[Any]:
    """The data sets with a list of recent images: itself, those it consists of, or none."""
    if isinstance(dataset, YOLOConcatDataset):
        return list(dataset.datasets)
    return [dataset] if isinstance(dataset, BaseDataset) else []


@cache
def _derived(base: type) -> type:
    class Positioned(base):  # one base only: Python moves an object between classes of the same layout
        exact_seed: int
        exact_windows: list[Window]

        def __getitem__(self, index: int) -> Any:
            if isinstance(index, Slot):
                seed_cpu(key(self.exact_seed, index.epoch, index.batch, index.slot, index.redo))
                for window in self.exact_windows:
                    window.move_to(index)
            return super().__getitem__(int(index))

        def __reduce__(self) -> tuple[Any, ...]:
            return _rebuild, (base, self.__dict__)  # spawned workers get it pickled

    Positioned.__name__ = f"Positioned{base.__name__}"
    return Positioned


def _rebuild(base: type, state: dict[str, Any]) -> Any:
    dataset: Any = object.__new__(_derived(base))
    dataset.__dict__.update(state)
    return dataset
