"""Owns the bars of allocated time: its causes side by side, and attempts over nodes on the clock.

Lengths are percentages of the element, and words stand beside the drawing as HTML: on a phone type keeps its size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hpc_yolo.report.goodput import Goodput, kept_until
from hpc_yolo.report.interruptions import Interruption
from hpc_yolo.report.page.markup import Markup, tag
from hpc_yolo.report.page.words import CAUSES, percent, reason_word, spoken
from hpc_yolo.report.timeline import Moments

#: Steps of a clock's ticks (seconds).
_ROUND = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800)
_TICKS = 7


@dataclass(frozen=True, slots=True)
class _Span:
    cause: str
    since: float
    until: float
    words: str


def patterns() -> Markup:
    """Fills that differ in texture, not in colour alone; once a page."""
    stripes = tag("path", d="M-2,2 l4,-4 M0,8 l8,-8 M6,10 l4,-4", class_="stripe")
    dots = (tag("circle", cx=2, cy=2, r=1, class_="speck"), tag("circle", cx=6, cy=6, r=1, class_="speck"))
    square = {"width": 8, "height": 8, "patternUnits": "userSpaceOnUse"}
    return tag(
        "svg",
        tag(
            "defs",
            tag("pattern", tag("rect", width=8, height=8, class_="base-redone"), stripes, id="fill-redone", **square),
            tag("pattern", tag("rect", width=8, height=8, class_="base-start_up"), dots, id="fill-start_up", **square),
        ),
        width=0,
        height=0,
        aria_hidden="true",
        class_="defs",
    )


def goodput_bar(goodput: Goodput) -> Markup:
    """One bar of the allocated time, and the same as a table."""
    whole = goodput.shares.allocated or 1.0
    seconds = {cause: float(getattr(goodput.shares, cause)) for cause, _, _ in CAUSES}
    spans, at = [], 0.0
    for cause, word, _ in CAUSES:
        spans.append(_Span(cause, at, at + seconds[cause], f"{word}: {percent(seconds[cause] / whole)}"))
        at += seconds[cause]
    said = ", ".join(span.words for span in spans if span.until > span.since)
    bar = _strip(spans, 0.0, whole, aria_label=f"Allocated time by cause: {said}.", class_="bar")
    rows = [
        tag(
            "tr",
            tag("th", _swatch(cause), word, scope="row"),
            tag("td", spoken(seconds[cause]), class_="number"),
            tag("td", percent(seconds[cause] / whole), class_="number"),
            tag("td", meaning, class_="quiet"),
        )
        for cause, word, meaning in CAUSES
    ]
    head = tag("tr", [tag("th", it, scope="col", class_=kind) for it, kind in _HEAD])
    return tag(
        "div", bar, tag("div", tag("table", tag("thead", head), tag("tbody", rows), class_="causes"), class_="scroll")
    )


_HEAD = (("cause", None), ("time", "number"), ("share", "number"), ("what it is", None))


def timeline(moments: Sequence[Moments], waits: Sequence[tuple[float, float]], cuts: Sequence[Interruption]) -> Markup:
    """A row for each node, on one clock, and above them where the run was interrupted."""
    since = min([moments[0].began, *(start for start, _ in waits)])
    until = max([since + 1.0, *(it.ended for it in moments)])
    nodes = list(dict.fromkeys(node for it in moments for node in it.nodes))
    spans = {it.number: list(_spans(it, moments[i + 1 :])) for i, it in enumerate(moments)}
    rows: list[Any] = []
    if cuts:
        rows += [tag("span", "interruptions", class_="quiet"), tag("div", _badges(cuts, since, until), class_="badges")]
    for node in nodes:
        here = [it for it in moments if node in it.nodes]
        drawn = _strip(
            [span for it in here for span in spans[it.number]],
            since,
            until,
            aria_label=_said(node, here),
            class_="lane",
        )
        numbers = [_number(it, since, until) for it in here]
        rows += [tag("span", node, class_="node", title=node), tag("div", drawn, numbers, class_="track")]
    if waits:
        queued = [_Span("queued", a, b, f"in the queue for {spoken(b - a)}") for a, b in waits]
        said = f"Waiting in the queue: {', '.join(spoken(b - a) for a, b in waits)}."
        rows += [tag("span", "in the queue", class_="quiet"), tag("div", _strip(queued, since, until, aria_label=said))]
    rows += [tag("span"), tag("div", _clock(until - since), class_="clock", aria_hidden="true")]
    return tag("div", rows, class_="timeline")


def _spans(attempt: Moments, later: Sequence[Moments]) -> Iterable[_Span]:
    kept = kept_until(attempt, later)
    pieces = (
        ("start_up", attempt.began, attempt.worked, "start-up and restore"),
        ("productive", attempt.worked, kept, "training"),
        ("redone", kept, attempt.left, "training that was lost, and redone"),
        ("save" if attempt.is_saved else "other", attempt.left, attempt.ended, "saving and leaving" * attempt.is_saved),
    )
    for cause, since, until, words in pieces:
        if until > since:
            told = f"attempt {attempt.number}: {words or 'after the failure'}, {spoken(until - since)}"
            yield _Span(cause, since, until, told)


def _strip(spans: Sequence[_Span], since: float, until: float, **attributes: Any) -> Markup:
    rects = [
        tag(
            "rect",
            tag("title", span.words),
            class_=f"fill-{span.cause}",
            x=_at(span.since, since, until),
            y=0,
            width=_at(span.until - span.since, 0.0, until - since),
            height="100%",
        )
        for span in spans
        if span.until > span.since
    ]
    return tag("svg", rects, role="img", **attributes)


def _number(attempt: Moments, since: float, until: float) -> Markup:
    middle = (attempt.began + attempt.ended) / 2
    is_wide = (attempt.ended - attempt.began) / (until - since) > 0.05
    return tag("span", attempt.number if is_wide else None, class_="in-bar", style=f"left:{_at(middle, since, until)}")


def _badges(cuts: Sequence[Interruption], since: float, until: float) -> list[Markup]:
    """Those that would cover the one before stand for themselves in the table alone."""
    found, last = [], -100.0
    for i, cut in enumerate(cuts, start=1):
        at = 100 * (cut.time - since) / (until - since)
        is_free = at - last > 3
        words = (
            reason_word(cut.reason)
            if all(abs(cut.time - it.time) > (until - since) / 5 for it in cuts if it != cut)
            else None
        )
        if is_free:
            last = at
            side = " before" if at > 80 else ""
            label = tag("span", words, class_="said") if words else None
            found.append(tag("span", tag("b", i), label, class_=f"badge{side}", style=f"left:{at:.2f}%"))
    return found


def _clock(length: float) -> list[Markup]:
    step = next((it for it in _ROUND if length / it <= _TICKS), length / _TICKS)
    marks = [n * step for n in range(int(length / step) + 1)]
    return [tag("span", _clock_text(at), style=f"left:{_at(at, 0.0, length)}") for at in marks if at <= length * 0.97]


def _clock_text(seconds: float) -> str:
    if seconds == 0:
        return "0"
    for unit, word in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= unit and (seconds % unit == 0 or unit < seconds / 10):
            return f"{seconds / unit:g} {word}"
    return f"{seconds:g} s"


def _said(node: str, here: Sequence[Moments]) -> str:
    told = "; ".join(f"attempt {it.number} for {spoken(it.ended - it.began)}" for it in here)
    return f"{node}: {told}."


def _swatch(cause: str) -> Markup:
    rect = tag("rect", width="100%", height="100%", class_=f"fill-{cause}")
    return tag("svg", rect, class_="swatch", aria_hidden="true")


def _at(moment: float, since: float, until: float) -> str:
    return f"{100 * (moment - since) / (until - since):.3f}%"
