"""Owns randomness as a function of position: a key from (seed, epoch, batch, slot, ...) and the generators set from it."""

from __future__ import annotations

import random

import numpy as np
import torch

_MASK = (1 << 64) - 1


def key(*parts: int) -> int:
    """Mix integers into 64 bits, with SplitMix64's finaliser after each part (Steele, Lea, Flood 2014)."""
    state = 0x9E3779B97F4A7C15
    for part in parts:
        state = (state + 0x9E3779B97F4A7C15 + (part & _MASK)) & _MASK
        state = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        state = ((state ^ (state >> 27)) * 0x94D049BB133111EB) & _MASK
        state ^= state >> 31
    return state


def seed_cpu(value: int) -> None:
    """Set Python's, NumPy's and torch's CPU generator (9 us; `torch.manual_seed` would visit every device, 97 us)."""
    random.seed(value)
    np.random.seed(value & 0xFFFFFFFF)  # noqa: NPY002 (ultralytics draws from the legacy generator)
    torch.default_generator.manual_seed(value)


def seed_all(value: int, device: torch.device) -> None:
    """`seed_cpu`, and the generator of the device that trains."""
    seed_cpu(value)
    if device.type == "cuda":
        torch.cuda.manual_seed(value)


def permutation(n: int, value: int) -> list[int]:
    """A permutation of range(n). RandomState, because NumPy promises that its streams never change (NEP 19)."""
    order: list[int] = np.random.RandomState(value & 0xFFFFFFFF).permutation(n).tolist()
    return order
