"""Owns into how many arrays a sweep is divided: by the largest array, and by what the site still lets in. Pure."""

from __future__ import annotations


class Room:
    """How much of what shares a partition, an account and a QOS may still be submitted; learns from refusals.

    Nobody says beforehand how many jobs are let in: limits of associations and QOS nest, and other jobs count as well. So a
    refused number is halved, and halved again between what is in and what was too much: that costs some ten calls of
    sbatch, once an invocation.

    Args:
        array_size: how many tasks an array may have; each is a job.
    """

    def __init__(self, array_size: int) -> None:
        self._array_size = array_size
        self._in = 0
        self._most: int | None = None
        self.refusal = ""
        """What Slurm said when it refused for the first time; empty where it has not."""

    def next(self, wanted: int) -> int:
        """How many to try next; 0 where there is no more room."""
        size = _evenly(wanted, self._array_size)
        if self._most is None:
            return size
        return min(size, (self._most - self._in + 1) // 2)

    def take(self, count: int) -> None:
        """So many were let in."""
        self._in += count

    def refuse(self, count: int, said: str) -> None:
        """So many were too many."""
        self._most = self._in + count - 1
        self.refusal = self.refusal or said

    def shrink(self, count: int) -> bool:
        """So many were too many for one array. False where even one was."""
        self._array_size = max(1, count // 2)
        return count > 1


def share(parallelism: int | None, before: int, count: int, of: int) -> int | None:
    """How many of an array's tasks may run at once, where `parallelism` of all arrays together may.

    The shares add up to `parallelism` as long as that is no less than the number of arrays: each needs one.

    Args:
        before: how many tasks are in the arrays before it.
        count: how many are in this one.
        of: how many there are in all.
    """
    if parallelism is None:
        return None
    return max(1, parallelism * (before + count) // of - parallelism * before // of)


def _evenly(wanted: int, most: int) -> int:
    """The first of as few portions as possible that are as alike as possible."""
    if wanted <= 0:
        return 0
    portions = -(-wanted // most)
    return -(-wanted // portions)
