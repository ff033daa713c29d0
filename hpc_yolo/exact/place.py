"""Owns which of the processes that train together this one is. Knows neither torch nor what they do."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Place:
    """Process `rank` of `world`; of each batch the part with that number is its own."""

    rank: int = 0
    world: int = 1

    @classmethod
    def of(cls, environ: Mapping[str, str] = os.environ) -> Place:
        """From RANK and WORLD_SIZE, as a supervisor and torch set them."""
        world = int(environ.get("WORLD_SIZE") or 1)
        return cls(int(environ.get("RANK") or 0), world) if world > 1 else cls()


ALONE = Place()
