"""Owns the page of one run: what it came to, where its time went, every interruption, curves, and what it was made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpc_yolo.events import Kind
from hpc_yolo.report.metrics import short_name
from hpc_yolo.report.page import frame
from hpc_yolo.report.page.bars import goodput_bar, timeline
from hpc_yolo.report.page.charts import Drawn, Flag, Series, line_chart
from hpc_yolo.report.page.markup import Content, Markup, tag
from hpc_yolo.report.page.material import RunReport, config_of, read_curves, read_environments, read_snapshots
from hpc_yolo.report.page.words import NONE, count, hours, moment, number, percent, reason_word, spoken
from hpc_yolo.report.tables import counted, size

#: What is told of an attempt's environment first; the rest follows.
_FIRST = ("node", "gpu", "device", "cpu", "ranks", "torch", "ultralytics", "hpc-yolo", "code")


def run_page(report: RunReport, made_at: float) -> str:
    """The HTML file of a run, as it stood when `report` was read."""
    drawn = _curves(report, curves := read_curves(report))
    body = [
        _header(report),
        _figures(report),
        _time(report),
        _interruptions(report),
        frame.section("Curves", tag("div", [it.figure for it in drawn], class_="charts"), _epochs(curves))
        if drawn
        else None,
        _made_of(report),
        _snapshots(report),
    ]
    data: dict[str, Any] = {"charts": {key: value for it in drawn for key, value in it.data.items()}}
    return frame.document(f"{report.status.id} {report.status.name}".strip(), body, data, made_at)


def gpu_word(has_gpu: bool) -> str:
    return "GPU-hours" if has_gpu else "process-hours"


def _header(report: RunReport) -> Markup:
    status = report.status
    nodes = list(dict.fromkeys(node for it in report.moments for node in it.nodes))
    facts = [
        f"epoch {status.epoch} of {status.epochs}" if status.epochs else f"epoch {status.epoch}",
        f"step {count(status.step)}" + (f" of {count(status.steps_total)}" if status.steps_total else ""),
        counted(status.attempts, "attempt"),
        counted(len(nodes), "node") if nodes else "",
        counted(status.ranks, "rank") if status.ranks > 1 else "",
        f"from {moment(report.moments[0].began)}" if report.moments else "not started",
    ]
    head = frame.header(
        f"run in {report.run.path.resolve().parent.name}", status.id, frame.state_badge(status.state), facts
    )
    return Markup(head + (tag("p", status.reason, class_="reason") if status.reason else ""))


def _figures(report: RunReport) -> Markup:
    status, goodput, saved = report.status, report.goodput, report.saved
    metric = short_name(status.metric_name) if status.metric_name else "metric"
    allocated = spoken(goodput.shares.allocated)
    return frame.figures(
        [
            (number(status.metric), metric, "of the last validation" if status.metric is not None else ""),
            (percent(goodput.ratio), "goodput", "of the allocated time moved the run forward"),
            (allocated, "allocated", f"{spoken(goodput.queued_s)} in the queue" if goodput.queued_s else ""),
            (hours(goodput.rank_hours), gpu_word(report.has_gpu), "allocated time by ranks"),
            (count(status.steps_redone), "steps redone", _of_interruptions(report)),
            (
                count(saved.steps),
                "steps saved",
                f"against restarts from the last epoch: {hours(saved.rank_hours)} {gpu_word(report.has_gpu)}",
            ),
        ]
    )


def _of_interruptions(report: RunReport) -> str:
    return f"at {counted(len(report.interruptions), 'interruption')}"


def _time(report: RunReport) -> Markup | None:
    if not report.moments:
        return None
    row = timeline(report.moments, report.waits, report.interruptions)
    return frame.section("Where the time went", goodput_bar(report.goodput), tag("h3", "Attempts over nodes"), row)


def _interruptions(report: RunReport) -> Markup | None:
    if not report.interruptions:
        return None
    place = _epoch_at(report)
    rows = [
        (
            i,
            tag("time", moment(cut.time)),
            tag("span", tag("b", reason_word(cut.reason)), " ", tag("small", cut.why) if cut.why else None),
            ", ".join(cut.nodes) or NONE,
            count(cut.step),
            NONE if cut.step is None else f"{place(cut.step):.2f}",
            count(cut.resumed_step),
            count(cut.steps_redone),
            count(cut.steps_redone_from_epoch),
        )
        for i, cut in enumerate(report.interruptions, start=1)
    ]
    head = (
        ("#", True), ("when", False), ("reason", False), ("nodes", False), ("at step", True), ("at epoch", True),
        ("resumed at", True), ("steps redone", True), ("from the last epoch", True),
    )  # fmt: skip
    caption = "Each interruption; its last column is what a restart from the last finished epoch would have redone."
    return frame.section("Interruptions", frame.table(head, rows, caption))


def _curves(report: RunReport, rows: Mapping[int, Mapping[str, float]]) -> list[Drawn]:
    place = _epoch_at(report)
    flags = [
        Flag(place(cut.step), i, reason_word(cut.reason), f"{i}: {reason_word(cut.reason)} at step {cut.step}")
        for i, cut in enumerate(report.interruptions, start=1)
        if cut.step is not None
    ]
    charts = []
    for i, (title, names) in enumerate(_groups(rows)):
        lines = [Series(_line_name(name), [(e, row[name]) for e, row in rows.items() if name in row]) for name in names]
        charts.append(line_chart(f"chart{i}", title, lines, flags, "epoch"))
    return charts


def _groups(rows: Mapping[int, Mapping[str, float]]) -> list[tuple[str, list[str]]]:
    """Metrics each for itself, a loss of training and of validation together, learning rates together."""
    names = list(dict.fromkeys(name for row in rows.values() for name in row))
    metrics = sorted((name for name in names if name.startswith("metrics/")), key=_by_weight)
    losses: dict[str, list[str]] = {}
    for name in (it for it in names if it.startswith(("train/", "val/"))):
        losses.setdefault(name.partition("/")[2], []).append(name)
    rates = [name for name in names if name.startswith("lr/")]
    return [
        *[(short_name(name), [name]) for name in metrics],
        *[(loss.replace("_", " "), sorted(group)) for loss, group in losses.items()],
        *([("learning rate", rates)] if rates else []),
    ]


def _by_weight(name: str) -> int:
    """What people look for comes first."""
    wanted = ("mAP50-95", "mAP50", "accuracy_top1", "mIoU")
    return next((i for i, it in enumerate(wanted) if it in name), len(wanted))


def _line_name(name: str) -> str:
    head, _, tail = name.partition("/")
    return {"val": "validation", "train": "training", "lr": tail}.get(head, short_name(name))


def _epoch_at(report: RunReport) -> Any:
    """Where a step stands among the epochs: between two epochs' ends by proportion, after the last by their length."""
    ends = {0: 0.0}
    for attempt in report.history.attempts:
        for event in attempt.events:
            if event.kind is Kind.EPOCH_ENDED:
                ends[int(event.fields.get("step") or 0)] = float(event.fields.get("epoch") or 0) + 1
    known = sorted(ends.items())

    def place(step: int) -> float:
        before = max((it for it in known if it[0] <= step), default=known[0])
        after = next((it for it in known if it[0] > step), None)
        if after is None:
            length = known[-1][0] / known[-1][1] if known[-1][1] else _steps_an_epoch(report)
            return before[1] + ((step - before[0]) / length if length else 0.0)
        return before[1] + (step - before[0]) / (after[0] - before[0]) * (after[1] - before[1])

    return place


def _steps_an_epoch(report: RunReport) -> float:
    total, epochs = report.status.steps_total, report.status.epochs
    return total / epochs if total and epochs else 0.0


def _epochs(rows: Mapping[int, Mapping[str, float]]) -> Markup:
    names = list(dict.fromkeys(name for row in rows.values() for name in row if name != "epoch"))
    cells: list[list[Content]] = [[epoch, *(number(row.get(name), 5) for name in names)] for epoch, row in rows.items()]
    return frame.fold(
        f"Numbers of {counted(len(rows), 'epoch')}",
        frame.table([("epoch", True), *((it, True) for it in names)], cells, "What each epoch came to"),
    )


def _made_of(report: RunReport) -> Markup:
    overrides = report.overrides
    asked = (
        frame.table([("key", False), ("value", False)], list(overrides.items()), "Overrides that it was composed of")
        if overrides
        else tag("p", "No overrides were kept of it." if overrides is None else "It was composed of defaults alone.")
    )
    config = list(config_of(report).items())
    frozen = frame.table([("key", False), ("value", False)], config, "run.yaml: what decides the weights")
    environments = read_environments(report.run)
    names = sorted(
        dict.fromkeys(name for it in environments.values() for name in it),
        key=lambda it: (_FIRST.index(it) if it in _FIRST else len(_FIRST), it),
    )
    rows = [_environment_row(name, [it.get(name) for it in environments.values()]) for name in names]
    head = [("", False), *((f"attempt {it}", False) for it in environments)]
    where = frame.table(head, rows, "What each attempt ran on; bold where it changed") if rows else None
    return frame.section("What it was made of", asked, frame.fold(f"run.yaml, {len(config)} values", frozen), where)


def _environment_row(name: str, values: Sequence[Any]) -> list[Content]:
    cells: list[Content] = [name]
    for before, value in zip([values[0], *values], values, strict=False):
        text = NONE if value is None else str(value)
        cells.append(text if value == before else tag("b", text))
    return cells


def _snapshots(report: RunReport) -> Markup:
    rows = [(it.name, count(it.step), it.attempt, size(it.bytes)) for it in read_snapshots(report.run)]
    head = (("file", False), ("step", True), ("attempt", True), ("size", True))
    shown = (
        frame.table(head, rows, "Snapshots that are there, the newest first") if rows else tag("p", "None is there.")
    )
    return frame.section("Snapshots kept", shown)
