"""Owns the data set that forgets: every sample depends on its position only, never on what this process loaded before.

A class is derived from the data set's own class (ultralytics asks `isinstance`), and an existing object is moved into it.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

from hpc_yolo.exact.keys import key, seed_cpu
from hpc_yolo.exact.order import DataOrder, Slot


class Window:
    """Stands in for ultralytics' list of recently loaded images (`BaseDataset.buffer`), which mosaics draw from.

    The list is a function of the position. What it also does is to forget decoded images, but only those that no stream
    of this process can still draw: so an image is decoded about once a sample, as in stock ultralytics.
    """

    def __init__(self, order: DataOrder, images: list[Any]) -> None:
        self.order = order
        self._images = images  # the data set's decoded images; None where there is none
        self._candidates: list[int] = []
        self._members: dict[int, set[int]] = {}  # of each stream that this process serves
        self._loaded: set[int] = set()
        self._at: tuple[int, int] | None = None

    def move_to(self, slot: Slot) -> None:
        at = (slot.epoch, slot.batch)
        if at == self._at:
            return
        self._at = at
        self._candidates = self.order.window(*at)
        self._members[self.order.stream(*at)] = set(self._candidates)
        needed = set().union(*self._members.values())
        for index in self._loaded - needed:
            self._images[index] = None
        self._loaded &= needed

    def __iter__(self) -> Iterator[int]:
        return iter(self._candidates)

    def __contains__(self, index: object) -> bool:
        return index in self._loaded

    def __len__(self) -> int:
        return 0  # upstream evicts when the list is long; here it never has to

    def append(self, index: int) -> None:
        """Called by upstream's `load_image` for each image that it decoded and kept."""
        self._loaded.add(index)


def make_positioned(dataset: Any, order: DataOrder, seed: int) -> None:
    """Turn `dataset` (an ultralytics BaseDataset, augmenting) into its stateless self, in place."""
    dataset.exact_seed = seed
    if dataset.cache == "ram":  # everything is decoded already, and mosaics draw from the whole data set
        dataset.buffer = Window(order, [])
    else:
        dataset.buffer = Window(order, dataset.ims)
    dataset.__class__ = _derived(dataset.__class__)


@cache
def _derived(base: type) -> type:
    class Positioned(base):  # one base only: Python moves an object between classes of the same layout
        exact_seed: int
        buffer: Window

        def __getitem__(self, index: int) -> Any:
            if isinstance(index, Slot):
                seed_cpu(key(self.exact_seed, index.epoch, index.batch, index.slot, index.redo))
                self.buffer.move_to(index)
            return super().__getitem__(int(index))

        def __reduce__(self) -> tuple[Any, ...]:
            return _rebuild, (base, self.__dict__)  # spawned workers get it pickled

    Positioned.__name__ = f"Positioned{base.__name__}"
    return Positioned


def _rebuild(base: type, state: dict[str, Any]) -> Any:
    dataset: Any = object.__new__(_derived(base))
    dataset.__dict__.update(state)
    return dataset
