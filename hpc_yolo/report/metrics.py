"""Owns what a run's metrics are called, which one it is told by, and which way is better. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from hpc_yolo.report.history import AttemptHistory

#: What a run is told by, best first; of several, the first whose name contains it.
_HEADLINES = ("mAP50-95", "accuracy_top1", "mIoU", "fitness")
_Key = TypeVar("_Key")


def headline(metrics: dict[str, float]) -> str | None:
    """The name of the metric that a run is told by."""
    return next((name for wanted in _HEADLINES for name in metrics if wanted in name), next(iter(metrics), None))


def newest_metrics(attempts: Sequence[AttemptHistory]) -> dict[str, float]:
    """Those of the last validation, of whichever attempt; fitness among them."""
    for attempt in reversed(attempts):
        event = next((e for e in reversed(attempt.events) if e.fields.get("metrics")), None)
        if event is not None:
            fitness = event.fields.get("fitness")
            return {**event.fields["metrics"], **({"fitness": fitness} if fitness is not None else {})}
    return {}


def short_name(metric: str) -> str:
    """`metrics/mAP50-95(B)` is `mAP50-95` to a reader."""
    return metric.rpartition("/")[2].removesuffix("(B)")


def is_lower_better(metric: str) -> bool:
    return "loss" in metric


def best_of(values: Mapping[_Key, float], metric: str) -> _Key | None:
    """The key of the best value, the first of equals; None where there is no number among them."""
    numbers = {key: value for key, value in values.items() if not math.isnan(value)}
    if not numbers:
        return None
    return (min if is_lower_better(metric) else max)(numbers, key=lambda key: numbers[key])


def named(wanted: str, metrics: Iterable[str]) -> list[str]:
    """The metrics that a name means: the one of just this name, or else those whose short name it is."""
    every = list(dict.fromkeys(metrics))
    if wanted in every:
        return [wanted]
    return [name for name in every if short_name(name).lower() == wanted.lower()]
