"""Owns the page of several runs: a table to sort and filter, each parameter against the metric, what all of it cost."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpc_yolo.report.goodput import total
from hpc_yolo.report.interruptions import Saved
from hpc_yolo.report.metrics import short_name
from hpc_yolo.report.page import frame
from hpc_yolo.report.page.bars import goodput_bar
from hpc_yolo.report.page.charts import Dot, parameter_chart
from hpc_yolo.report.page.markup import Content, Markup, tag
from hpc_yolo.report.page.material import RunReport
from hpc_yolo.report.page.run_page import gpu_word
from hpc_yolo.report.page.words import NONE, STATES, count, hours, number, percent, spoken
from hpc_yolo.report.tables import counted
from hpc_yolo.sweeps import varying
from hpc_yolo.types import RunState

#: So many parameters are drawn; the table has all of them.
_MOST_CHARTS = 12


@dataclass(frozen=True, slots=True)
class _Column:
    key: str
    name: str
    is_number: bool


def sweep_page(folder: Path, reports: Sequence[RunReport], made_at: float) -> str:
    """The HTML file of these runs, as they stood when they were read."""
    parameters = varying({str(it.run.path): it.overrides for it in reports if it.overrides is not None})
    metric = _common_metric(reports)
    best = _best(reports, metric)
    has_gpu = any(it.has_gpu for it in reports)
    name = folder.resolve().name
    body = [
        frame.header("sweep", name, None, _facts(reports, parameters)),
        _figures(reports, metric, best, has_gpu),
        frame.section(
            "Where the time went",
            goodput_bar(total(it.goodput for it in reports)),
            remark="Of all runs together.",
        ),
        _charts(reports, parameters, metric, best),
        _table(reports, parameters, metric, best, has_gpu),
    ]
    return frame.document(f"{name}: {counted(len(reports), 'run')}", body, {"charts": {}}, made_at)


def _facts(reports: Sequence[RunReport], parameters: Sequence[str]) -> list[str]:
    states = Counter(it.status.state for it in reports)
    return [
        counted(len(reports), "run"),
        *(f"{sign} {states[state]} {state.value}" for state, sign in STATES.items() if states[state]),
        f"{counted(len(parameters), 'parameter')}: {', '.join(parameters)}" if parameters else "",
    ]


def _figures(reports: Sequence[RunReport], metric: str | None, best: RunReport | None, has_gpu: bool) -> Markup:
    together = total(it.goodput for it in reports)
    saved = sum((it.saved for it in reports), Saved())
    word = gpu_word(has_gpu)
    return frame.figures(
        [
            (
                number(best.status.metric) if best else NONE,
                f"best {short_name(metric)}" if metric else "best metric",
                f"run {best.status.id}" if best else "",
            ),
            (percent(together.ratio), "goodput", "of the allocated time moved runs forward"),
            (
                hours(together.rank_hours),
                word,
                f"{spoken(together.queued_s)} in the queue" if together.queued_s else "",
            ),
            (count(saved.steps_redone), "steps redone", f"at {_interruptions(reports)}"),
            (
                count(saved.steps),
                "steps saved",
                f"against restarts from the last epoch: {hours(saved.rank_hours)} {word}",
            ),
        ]
    )


def _interruptions(reports: Sequence[RunReport]) -> str:
    return counted(sum(len(it.interruptions) for it in reports), "interruption")


def _common_metric(reports: Sequence[RunReport]) -> str | None:
    names = Counter(it.status.metric_name for it in reports if it.status.metric_name)
    return names.most_common(1)[0][0] if names else None


def _best(reports: Sequence[RunReport], metric: str | None) -> RunReport | None:
    """The greatest: what a run is told by grows as it gets better."""
    found = [it for it in reports if _has(it, metric)]
    return max(found, key=lambda it: it.status.metric or 0.0, default=None)


def _has(report: RunReport, metric: str | None) -> bool:
    """Whether it has come to a number of that name."""
    value = report.status.metric
    return value is not None and math.isfinite(value) and report.status.metric_name == metric


def _charts(
    reports: Sequence[RunReport], parameters: Sequence[str], metric: str | None, best: RunReport | None
) -> Markup | None:
    if metric is None or not parameters:
        return None
    charts = [
        parameter_chart(key, dots, short_name(metric))
        for key in parameters[:_MOST_CHARTS]
        if (dots := list(_dots(reports, key, metric, best)))
    ]
    more = len(parameters) - _MOST_CHARTS
    told = "A filled dot is a run that is done, a hollow one any other."
    remark = f"{told} {counted(more, 'more parameter')} in the table." if more > 0 else told
    shown = tag("div", charts, class_="charts")
    return frame.section(f"Parameters against {short_name(metric)}", shown, remark=remark) if charts else None


def _dots(reports: Sequence[RunReport], key: str, metric: str, best: RunReport | None) -> Any:
    for i, it in enumerate(reports):
        value, status = it.overrides.get(key) if it.overrides is not None else None, it.status
        if value is not None and status.metric is not None and _has(it, metric):
            words = f"{status.id}: {key}={value}, {short_name(metric)} {number(status.metric)}, {status.state.value}"
            yield Dot(value, status.metric, words, f"row{i}", status.state is RunState.DONE, it is best)


def _table(
    reports: Sequence[RunReport], parameters: Sequence[str], metric: str | None, best: RunReport | None, has_gpu: bool
) -> Markup:
    has_folders = len({it.run.path.parent for it in reports}) > 1
    columns = [
        _Column("run", "run", False),
        *([_Column("sweep", "sweep", False)] if has_folders else []),
        *(_Column(f"={key}", key, _is_numeric(reports, key)) for key in parameters),
        _Column("metric", short_name(metric) if metric else "metric", True),
        _Column("state", "state", False),
        _Column("epoch", "epoch", True),
        _Column("attempts", "attempts", True),
        _Column("redone", "redone", True),
        _Column("goodput", "goodput", True),
        _Column("hours", gpu_word(has_gpu), True),
        _Column("saved", "saved", True),
    ]
    head = [
        tag(
            "th",
            tag("button", column.name, type="button", data_key=column.key),
            scope="col",
            class_="number" if column.is_number else None,
        )
        for column in columns
    ]
    rows = [_row(i, it, columns, metric, it is best) for i, it in enumerate(reports)]
    caption = "Runs, their parameters and what they came to"
    inner = tag(
        "table",
        tag("caption", tag("span", caption)),
        tag("thead", tag("tr", head)),
        tag("tbody", rows),
        id="runs",
        class_="sortable",
    )
    controls = tag(
        "p",
        tag("label", "Filter ", tag("input", type="search", id="filter", placeholder="done, or part of a value")),
        tag("output", counted(len(reports), "run"), id="shown", for_="filter"),
        class_="controls",
    )
    remark = "A click on a column's name sorts by it. Redone and saved are steps; saved against restarts from the last epoch."
    return frame.section(
        "Runs",
        controls,
        tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption),
        remark=remark,
    )


def _row(i: int, report: RunReport, columns: Sequence[_Column], metric: str | None, is_best: bool) -> Markup:
    values = _values(report, metric)
    mark = tag("span", "best", class_="tag") if is_best else None
    cells: list[Content] = [tag("th", f"{report.status.id} ", mark, scope="row", title=report.status.reason or None)]
    for column in columns[1:]:
        content, value = values.get(column.key) or _parameter(report, column.key)
        told = None if value is None or not math.isfinite(value) else repr(value)
        cells.append(tag("td", content, data_v=told, class_="number" if column.is_number else None))
    return tag("tr", cells, id=f"row{i}", class_="best" if is_best else None)


def _values(report: RunReport, metric: str | None) -> dict[str, tuple[Content, float | None]]:
    """By column: what is shown, and what it is sorted by where that is another thing."""
    status, goodput = report.status, report.goodput
    own = "" if status.metric_name in (metric, None) else f" {short_name(status.metric_name or '')}"
    return {
        "sweep": (report.run.path.resolve().parent.name, None),
        "metric": (f"{number(status.metric)}{own}", status.metric),
        "state": (frame.state_badge(status.state), None),
        "epoch": (f"{status.epoch}/{status.epochs}" if status.epochs else status.epoch, status.epoch),
        "attempts": (status.attempts, status.attempts),
        "redone": (count(status.steps_redone), status.steps_redone),
        "goodput": (percent(goodput.ratio), goodput.ratio),
        "hours": (hours(goodput.rank_hours), goodput.rank_hours),
        "saved": (count(report.saved.steps), report.saved.steps),
    }


def _parameter(report: RunReport, key: str) -> tuple[Content, float | None]:
    value = (report.overrides or {}).get(key.removeprefix("="))
    return (NONE if value is None else value), _sortable(value)


def _is_numeric(reports: Sequence[RunReport], key: str) -> bool:
    values = [it.overrides[key] for it in reports if it.overrides is not None and key in it.overrides]
    return bool(values) and all(_sortable(value) is not None for value in values)


def _sortable(value: str | None) -> float | None:
    try:
        found = float(value) if value is not None else None
    except ValueError:
        return None
    return found if found is not None and math.isfinite(found) else None
