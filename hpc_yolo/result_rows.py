"""Owns results.csv as a reader sees it: what each finished epoch came to."""

from __future__ import annotations

import csv
from contextlib import suppress
from pathlib import Path


def read_rows(results_csv: Path) -> dict[int, dict[str, float]]:
    """By epoch, counted from 1; {} where there is no file yet. A row or a cell that cannot be read is passed over."""
    rows: dict[int, dict[str, float]] = {}
    with (
        suppress(OSError, csv.Error),
        results_csv.open(encoding="utf-8", errors="replace", newline="") as file,
    ):
        for values in csv.DictReader(file, skipinitialspace=True):
            with suppress(ValueError, TypeError, KeyError):
                rows.setdefault(int(float(values["epoch"])), {}).update(_numbers(values))
    return rows


def _numbers(values: dict[str, str]) -> dict[str, float]:
    found = {}
    for name, text in values.items():
        with suppress(ValueError, TypeError):
            found[name.strip()] = float(text)
    return found
