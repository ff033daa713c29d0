"""Owns the memory that snapshots are copied into: allocated once, filled in one pass, so that the training waits for a copy.

A buffer is one block of bytes; the tensors of a snapshot are views of it. It grows when the state does (momenta come with
the first step, gradients while they are accumulated), and is pinned and filled by a stream of its own where the state is on
a GPU.

Of a small network, handling a thousand tensors one by one takes longer than copying them. So those that were the same
objects the last time are joined into the block by a single call of torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import compress
from operator import is_
from typing import TypeGuard

import torch
from torch import Tensor

from hpc_yolo.snapshot.format import Form

_ALIGNMENT = 64
#: Layouts remembered a buffer: with and without gradients, before and after the first step.
_MOST_LAYOUTS = 4
#: How names begin that stand for other tensors each time. They are not held on to: they may be as large as the network.
_PASSING = ("grad/", "loss/")

_Key = tuple[tuple[str, ...], tuple[torch.dtype, ...], tuple[torch.Size, ...]]


@dataclass(slots=True)
class _Joined:
    """Tensors of one type, side by side in the block."""

    names: list[str]
    target: Tensor
    flat: list[Tensor] = field(default_factory=list)


@dataclass(slots=True)
class _Layout:
    """Where each tensor of one state has its place."""

    views: dict[str, Tensor]
    joined: list[_Joined]
    single: list[str]
    names: list[str]
    lasts: list[bool]
    """Which of them are the same tensors each time."""
    form: Form
    seen: list[Tensor] = field(default_factory=list)
    """The lasting tensors of the last time, of which `flat` are views."""
    addresses: list[int] = field(default_factory=list)


class StateBuffer:
    """Memory for one state. Whoever holds its tensors must be done with them before `fill` is called again."""

    def __init__(self) -> None:
        self._block = torch.empty(0, dtype=torch.uint8)
        self._layouts: dict[_Key, _Layout] = {}
        self._last: _Layout | None = None
        self._filled: _Layout | None = None
        self._copied: torch.cuda.Event | None = None
        self._stream: torch.cuda.Stream | None = None

    def fill(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy the tensors; returns the copies, on the CPU and contiguous. On a GPU they are valid after `wait`.

        On a GPU the copy is queued, and the GPU's own queue, not this thread, waits for it before it changes the state.
        """
        with torch.no_grad():
            if _is_as_seen(self._last, tensors):
                _copy(self._last, tensors)
                self._filled = self._last
            elif any(it.is_cuda for it in tensors.values()):
                self._filled = self._layout(tensors, is_pinned=True)
                self._copy_from_gpu(list(self._filled.views.values()), list(tensors.values()))
            else:
                self._filled = self._look_anew(tensors)
                _copy(self._filled, tensors)
        return self._filled.views

    @property
    def form(self) -> Form | None:
        """Of what it was filled with last."""
        return None if self._filled is None else self._filled.form

    def wait(self) -> None:
        """Until the copy is there."""
        if self._copied is not None:
            self._copied.synchronize()

    def _copy_from_gpu(self, views: list[Tensor], sources: list[Tensor]) -> None:
        training = torch.cuda.current_stream()
        self._stream = self._stream or torch.cuda.Stream()
        self._stream.wait_stream(training)
        with torch.cuda.stream(self._stream):
            torch._foreach_copy_(views, sources, non_blocking=True)
            self._copied = torch.cuda.Event()
            self._copied.record(self._stream)
        training.wait_event(self._copied)

    def _look_anew(self, tensors: Mapping[str, Tensor]) -> _Layout:
        """Find the layout by names, types and shapes, and remember the objects for the next time."""
        self._last = layout = self._layout(tensors, is_pinned=False)
        layout.seen = list(compress(tensors.values(), layout.lasts))
        layout.addresses = list(map(Tensor.data_ptr, layout.seen))
        for part in layout.joined:
            part.flat = [tensors[name].detach().reshape(-1) for name in part.names]
        return layout

    def _layout(self, tensors: Mapping[str, Tensor], *, is_pinned: bool) -> _Layout:
        held = tensors.values()
        key = (
            tuple(tensors),
            tuple([it.dtype for it in held]),
            tuple([it.shape for it in held]),
        )  # lists: they are quicker
        found = self._layouts.get(key)
        if found is None:
            found = self._lay_out(tensors, is_pinned=is_pinned)
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.pop(next(iter(self._layouts)))
            self._layouts[key] = found
        return found

    def _lay_out(self, tensors: Mapping[str, Tensor], *, is_pinned: bool) -> _Layout:
        """Lasting tensors of one type lie side by side; each other one begins at a multiple of 64 bytes."""
        kinds: dict[torch.dtype, list[str]] = {}
        single = []
        for name, it in tensors.items():
            if name.startswith(_PASSING) or not it.is_contiguous():
                single.append(name)
            else:
                kinds.setdefault(it.dtype, []).append(name)
        places: dict[str, tuple[int, int]] = {}
        spans, end = [], 0
        for names in [*kinds.values(), *([name] for name in single)]:
            begin = end
            for name in names:
                places[name] = (end, end + tensors[name].numel() * tensors[name].element_size())
                end = places[name][1]
            spans.append((begin, end))
            end = -(-end // _ALIGNMENT) * _ALIGNMENT
        self._make_room(end, is_pinned=is_pinned)
        views = {name: self._view(places[name], it).view(it.shape) for name, it in tensors.items()}
        joined = [
            _Joined(names, self._view(span, tensors[names[0]]))
            for names, span in zip(kinds.values(), spans, strict=False)
        ]
        lasts = [not name.startswith(_PASSING) for name in tensors]
        return _Layout(views, joined, single, list(tensors), lasts, Form(views))

    def _view(self, place: tuple[int, int], like: Tensor) -> Tensor:
        return self._block[place[0] : place[1]].view(like.dtype)

    def _make_room(self, size: int, *, is_pinned: bool) -> None:
        if size > self._block.numel():
            self._layouts.clear()
            self._last = None
            self._block = torch.empty(size, dtype=torch.uint8, pin_memory=is_pinned)


def _is_as_seen(layout: _Layout | None, tensors: Mapping[str, Tensor]) -> TypeGuard[_Layout]:
    """Whether these are the tensors of the last time, with their memory where it was; passing ones have their form still."""
    if layout is None or list(tensors) != layout.names:
        return False
    lasting = list(compress(tensors.values(), layout.lasts))
    return (
        all(map(is_, lasting, layout.seen))
        and list(map(Tensor.data_ptr, lasting)) == layout.addresses
        and all(_has_form(tensors[name], layout.views[name]) for name in layout.single)
    )


def _has_form(one: Tensor, other: Tensor) -> bool:
    return bool(one.dtype == other.dtype and one.shape == other.shape)


def _copy(layout: _Layout, tensors: Mapping[str, Tensor]) -> None:
    for part in layout.joined:
        torch.cat(part.flat, out=part.target)
    _copy_each(layout.views, tensors, layout.single)


def _copy_each(views: Mapping[str, Tensor], tensors: Mapping[str, Tensor], names: Iterable[str]) -> None:
    chosen = list(names)
    if chosen:
        torch._foreach_copy_([views[name] for name in chosen], [tensors[name] for name in chosen])
