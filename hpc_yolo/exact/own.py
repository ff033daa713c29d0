"""Owns the little that each rank has for itself: the running statistics of its normalisation layers, in model and EMA.

Gradients are shared, so weights, momenta and counters are the same bits on every rank. The statistics are of a rank's own
part of the batches; upstream does not share them but for the EMA's, before each validation.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from hpc_yolo.exact.place import Place
from hpc_yolo.exact.ranks import Ranks

_OWN = re.compile(r"^(model|ema)/.*running_(mean|var)$")
_PREFIX = "rank/"


def gather_own(ranks: Ranks, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What the other ranks have for themselves, on rank 0: `rank/<number>/<name>`. All ranks call it at the same batch."""
    own = {name: it for name, it in tensors.items() if _OWN.match(name)}
    if not own:
        return {}
    flat = torch.cat([it.detach().reshape(-1).float().cpu() for it in own.values()])
    found: dict[str, Tensor] = {}
    for rank, theirs in enumerate(ranks.gather(flat)):
        if rank:
            parts = theirs.split([it.numel() for it in own.values()])
            for (name, it), part in zip(own.items(), parts, strict=True):
                found[f"{_PREFIX}{rank}/{name}"] = part.reshape(it.shape)
    return found


def own_of_rank(place: Place, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state as this rank had it; that of rank 0, where the snapshot was saved by fewer."""
    mine = f"{_PREFIX}{place.rank}/"
    shared = {name: it for name, it in tensors.items() if not name.startswith(_PREFIX)}
    return {**shared, **{name.removeprefix(mine): it for name, it in tensors.items() if name.startswith(mine)}}
