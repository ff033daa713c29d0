"""Owns the memory that snapshots are copied into: allocated once, filled in one pass, so that the training waits for a copy.

A buffer is one block of bytes; the tensors of a snapshot are views of it. It grows when the state does (momenta come with
the first step, gradients while they are accumulated), and is pinned and filled by a stream of its own where the state is on
a GPU.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

_ALIGNMENT = 64
#: Layouts remembered a buffer: with and without gradients, before and after the first step.
_MOST_LAYOUTS = 4

_Key = tuple[tuple[str, torch.dtype, torch.Size], ...]


class StateBuffer:
    """Memory for one state. Whoever holds its tensors must be done with them before `fill` is called again."""

    def __init__(self) -> None:
        self._block = torch.empty(0, dtype=torch.uint8)
        self._layouts: dict[_Key, dict[str, Tensor]] = {}
        self._copied: torch.cuda.Event | None = None
        self._stream: torch.cuda.Stream | None = None

    def fill(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Copy the tensors; returns the copies, on the CPU and contiguous. On a GPU they are valid after `wait`.

        On a GPU the copy is queued, and the GPU's own queue, not this thread, waits for it before it changes the state.
        """
        sources = [tensor.detach() for tensor in tensors.values()]
        is_cuda = any(it.is_cuda for it in sources)
        views = self._views(tensors, is_pinned=is_cuda)
        if is_cuda:
            self._copy_from_gpu(list(views.values()), sources)
        elif sources:
            torch._foreach_copy_(list(views.values()), sources)
        return views

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

    def _views(self, tensors: Mapping[str, Tensor], *, is_pinned: bool) -> dict[str, Tensor]:
        key = tuple((name, it.dtype, it.shape) for name, it in tensors.items())
        found = self._layouts.get(key)
        if found is None:
            found = self._lay_out(tensors, is_pinned=is_pinned)
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.pop(next(iter(self._layouts)))
            self._layouts[key] = found
        return found

    def _lay_out(self, tensors: Mapping[str, Tensor], *, is_pinned: bool) -> dict[str, Tensor]:
        places, end = {}, 0
        for name, it in tensors.items():
            places[name] = (end, end + it.numel() * it.element_size())
            end = -(-places[name][1] // _ALIGNMENT) * _ALIGNMENT
        if end > self._block.numel():
            self._layouts.clear()
            self._block = torch.empty(end, dtype=torch.uint8, pin_memory=is_pinned)
        return {
            name: self._block[begin:stop].view(tensors[name].dtype).view(tensors[name].shape)
            for name, (begin, stop) in places.items()
        }
