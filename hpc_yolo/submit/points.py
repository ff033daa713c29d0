"""Owns the points of a sweep as they were typed: which of them are one run, and a sweep that has none. Pure."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from hpc_yolo.errors import ConfigError
from hpc_yolo.sweeps import split, varying

#: Words of Hydra's that may stand for no value at all.
_MAY_BE_EMPTY = re.compile(r"=.*\b(?:glob|range|choice|shuffle|sort|interval)\(")


def firsts(ids: Mapping[int, str]) -> dict[int, int]:
    """Of each point by its number the first one that is the same run; the point itself where it is the first."""
    seen: dict[str, int] = {}
    return {number: seen.setdefault(run, number) for number, run in ids.items()}


def remark(same: Mapping[int, int], overrides: Mapping[int, Sequence[str]]) -> str | None:
    """What a person is told whose sweep has points that are one run; None where it has none.

    Args:
        same: of each point the first that is the same run.
        overrides: of each point, what it was composed of.
    """
    groups: dict[int, list[int]] = {}
    for number, first in same.items():
        groups.setdefault(first, []).append(number)
    doubled = [numbers for numbers in groups.values() if len(numbers) > 1]
    if not doubled:
        return None
    keys = dict.fromkeys(key for numbers in doubled for key in _differences([overrides[it] for it in numbers]))
    points, runs = sum(map(len, doubled)), len(doubled)
    why = (
        f"they differ only in {', '.join(keys)}, which there changes nothing that is trained"
        if keys
        else "they are alike"
    )
    return (
        f"{points} points of this sweep are {'one run' if runs == 1 else f'{runs} runs'}: {why}. Of each run its first point "
        "counts."
    )


def empty(overrides: Sequence[str]) -> ConfigError:
    """The error for a sweep that has no point."""
    guilty = [word for word in overrides if _MAY_BE_EMPTY.search(word)] or list(overrides)
    return ConfigError(
        f"this sweep is empty: {', '.join(guilty)} stands for no value. `hpc-yolo train --help` lists each group's options; "
        "the end of a range is not part of it."
    )


def _differences(points: Sequence[Sequence[str]]) -> list[str]:
    return varying({str(number): dict(map(split, words)) for number, words in enumerate(points)})
