"""Owns what came out of the runs of a sweep: their parameters, how each ended, which was the best, and by what. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpc_yolo.events import Kind
from hpc_yolo.report.history import AttemptHistory, RunHistory
from hpc_yolo.report.metrics import best_of, headline, is_lower_better, named, short_name
from hpc_yolo.report.selection import UnknownChoiceError
from hpc_yolo.report.status import RunStatus, status_of
from hpc_yolo.rundir import RunDir
from hpc_yolo.sweeps import varying

#: They say where a run lies and who waits for it, not what it is.
_NO_PARAMETERS = frozenset({"name", "runs_dir", "wait", "dry_run"})
_KEYS = ("best", "final", "run", "state")
Epochs = dict[int, dict[str, float]]


@dataclass(kw_only=True, frozen=True, slots=True)
class Result:
    """One run. Epochs count from 1."""

    status: RunStatus
    parameters: dict[str, str | None]
    final: float | None
    """The metric at the last epoch that was validated."""
    best: float | None
    best_epoch: int | None
    weights: str | None
    """Path of `best.pt`; None where there is none yet."""
    weights_epoch: int | None
    """The epoch that `best.pt` is of, the one of the best fitness, where that is not the metric's best."""


@dataclass(kw_only=True, frozen=True, slots=True)
class Results:
    metric: str | None
    """None where no run has been validated yet."""
    parameters: list[str]
    """The overrides in which the runs differ."""
    rows: list[Result]

    @property
    def best(self) -> Result | None:
        """The best run, whatever the rows are sorted by."""
        found = best_of({i: it.best for i, it in enumerate(self.rows) if it.best is not None}, self.metric or "")
        return None if found is None else self.rows[found]


def results_of(
    histories: Sequence[RunHistory],
    overrides: Mapping[Path, Mapping[str, str]],
    *,
    metric: str | None = None,
    sort: str = "best",
    is_there: Callable[[Path], bool] = Path.is_file,
) -> Results:
    """What came out of these runs, sorted.

    Args:
        overrides: of each run that a record was kept of, by its directory; of the others run.yaml's values are compared.
        metric: its name, or its short one; the one that `status` tells runs by, where it is None.
        sort: best, final, run, state, or a parameter; best first, else ascending.

    Raises:
        UnknownChoiceError: there is no such metric or key, or the name means several.
    """
    epochs = {history.path: epochs_of(history.attempts) for history in histories}
    name = _metric(metric, epochs.values())
    keys, values = _parameters(histories, overrides)
    rows = [_result(it, values[it.path], epochs[it.path], name, is_there) for it in histories]
    return Results(metric=name, parameters=keys, rows=_sorted(rows, sort, keys, name))


def epochs_of(attempts: Iterable[AttemptHistory]) -> Epochs:
    """The metrics of each validated epoch, fitness among them; of one that was validated twice, those of the later time."""
    found: Epochs = {}
    for event in (event for attempt in attempts for event in attempt.events if event.kind is Kind.EPOCH_ENDED):
        fitness = event.fields.get("fitness")
        values = {**(event.fields.get("metrics") or {}), **({} if fitness is None else {"fitness": fitness})}
        found[int(event.fields.get("epoch") or 0) + 1] = values
    return dict(sorted(found.items()))


def _metric(wanted: str | None, runs: Iterable[Epochs]) -> str | None:
    known = {name: 0.0 for epochs in runs for values in epochs.values() for name in values}
    if wanted is None:
        return headline(known)
    found = named(wanted, known)
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownChoiceError(f"--metric {wanted} means several: {', '.join(found)}. Give the whole name.")
    there = (
        f"There is: {', '.join(map(short_name, known))}." if known else "No epoch of these runs has been validated yet."
    )
    raise UnknownChoiceError(f"there is no metric {wanted!r} in these runs. {there}")


def _parameters(
    histories: Sequence[RunHistory], overrides: Mapping[Path, Mapping[str, str]]
) -> tuple[list[str], dict[Path, dict[str, str | None]]]:
    """Keys in which the runs differ, and each run's values. What was not typed is what run.yaml has of it."""
    recorded = {str(it.path): overrides[it.path] for it in histories if it.path in overrides}
    keys = varying(recorded)
    if len(recorded) < len(histories):
        keys += varying({str(it.path): it.settings for it in histories})
    values = {
        it.path: {key: overrides.get(it.path, {}).get(key, it.settings.get(key)) for key in dict.fromkeys(keys)}
        for it in histories
    }
    differing = [
        key
        for key in dict.fromkeys(keys)
        if key not in _NO_PARAMETERS and len({found[key] for found in values.values()}) > 1
    ]
    return differing, {path: {key: found[key] for key in differing} for path, found in values.items()}


def _result(
    history: RunHistory,
    parameters: dict[str, str | None],
    epochs: Epochs,
    metric: str | None,
    is_there: Callable[[Path], bool],
) -> Result:
    told = {epoch: values[metric] for epoch, values in epochs.items() if metric in values} if metric else {}
    best = best_of(told, metric or "")
    weights = RunDir(history.path).weights_dir / "best.pt"
    return Result(
        status=status_of(history),
        parameters=parameters,
        final=list(told.values())[-1] if told else None,
        best=None if best is None else told[best],
        best_epoch=best,
        weights=str(weights) if is_there(weights) else None,
        weights_epoch=_fittest_other(epochs, best),
    )


def _fittest_other(epochs: Epochs, best: int | None) -> int | None:
    fitness = {epoch: values["fitness"] for epoch, values in epochs.items() if "fitness" in values}
    fittest = best_of(fitness, "fitness")
    if best is None or fittest is None or fitness.get(best) == fitness[fittest]:
        return None
    return fittest


def _sorted(rows: list[Result], sort: str, parameters: Sequence[str], metric: str | None) -> list[Result]:
    found = [key for key in parameters if sort in (key, key.rpartition(".")[2])]
    if sort in _KEYS:
        return sorted(rows, key=lambda it: _place(it, sort, metric))
    if len(found) != 1:
        raise UnknownChoiceError(f"cannot sort by {sort!r}. There is: {', '.join([*_KEYS, *parameters])}.")
    return sorted(rows, key=lambda it: _ascending(it.parameters[found[0]]))


def _place(row: Result, sort: str, metric: str | None) -> tuple[bool, float, str]:
    """Smaller is earlier; a run without a number comes last."""
    if sort in ("run", "state"):
        return False, 0.0, row.status.id if sort == "run" else row.status.state.value
    value = row.best if sort == "best" else row.final
    if value is None or math.isnan(value):
        return True, 0.0, ""
    return False, value if is_lower_better(metric or "") else -value, ""


def _ascending(value: str | None) -> tuple[bool, float, str]:
    """Numbers as numbers, before words; what is not there comes last."""
    try:
        return False, float(value or ""), ""
    except ValueError:
        return value is None, math.inf, value or ""
