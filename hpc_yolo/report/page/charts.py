"""Owns the charts with two axes: curves with interruptions marked, a parameter against a metric. Values in, SVG out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from hpc_yolo.report.page.markup import Content, Markup, tag
from hpc_yolo.report.page.scales import Scale, fit, tick_text, ticks
from hpc_yolo.report.page.words import number

#: Drawn for a column of this width; there its type has the size of the page's small print.
_WIDTH, _HEIGHT = 360, 214
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 14, 26, 30
_MOST_POINTS = 400
_FLAG = 16  # width of a numbered mark
_MOST_CATEGORIES = 24
_MOST_OWN_TICKS, _TICK_ROOM = 8, 34
_LABEL_CHARACTERS = 16


@dataclass(frozen=True, slots=True)
class Series:
    """One line. `points` are (x, y)."""

    name: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Flag:
    """A numbered mark on the x axis; `name` says what happened there, `words` all of it."""

    x: float
    number: int
    name: str
    words: str


@dataclass(frozen=True, slots=True)
class Dot:
    """One run on a parameter's chart."""

    x: str
    """The parameter's value, as it was typed."""
    y: float
    words: str
    link: str
    is_solid: bool
    """Of a run that is done; others are drawn hollow."""
    is_best: bool = False


@dataclass(slots=True)
class Drawn:
    """A chart, and what the page's script needs to tell values under the pointer."""

    figure: Markup
    data: dict[str, Any] = field(default_factory=dict)


def line_chart(identifier: str, title: str, lines: Sequence[Series], flags: Sequence[Flag], x_name: str) -> Drawn:
    """Curves over one x axis; there must be a point. The first line is solid, the others are dashed in ways of their own."""
    shown = [Series(line.name, _thinned(_finite(line.points))) for line in lines]
    shown = [line for line in shown if line.points]
    xs = [x for line in shown for x, _ in line.points]
    x = fit([min([0.0, *xs]), *xs], _LEFT, _WIDTH - _RIGHT)
    y = fit([y for line in shown for _, y in line.points], _HEIGHT - _BOTTOM, _TOP, room=0.06)
    body = [
        _grid(x, y, x_name, ticks(x, 6)),
        _flags(flags, x),
        [_line(line, x, y, i) for i, line in enumerate(shown)],
        tag("line", class_="cross", x1=0, x2=0, y1=_TOP, y2=_HEIGHT - _BOTTOM, visibility="hidden"),
    ]
    data = {
        "x": [x.low, x.high, x.start, x.end],
        "x_name": x_name,
        "lines": [[line.name, [[a, float(f"{b:.6g}")] for a, b in line.points]] for line in shown],
    }
    caption = (title, _keys(shown))
    return Drawn(_figure(caption, body, _said(title, shown, flags), identifier=identifier), {identifier: data})


def parameter_chart(title: str, dots: Sequence[Dot], metric: str) -> Markup:
    """A metric over a parameter: over a scale where all values are numbers, else a row for each value."""
    numbers = [_as_number(dot.x) for dot in dots]
    if all(it is not None for it in numbers):
        return _scatter(title, dots, [it for it in numbers if it is not None], metric)
    return _rows(title, dots, metric)


def _scatter(title: str, dots: Sequence[Dot], values: Sequence[float], metric: str) -> Markup:
    x = fit(values, _LEFT, _WIDTH - _RIGHT, may_be_log=True, room=0.05)
    y = fit([dot.y for dot in dots], _HEIGHT - _BOTTOM, _TOP, room=0.08)
    name = f"{title} (logarithmic)" if x.is_log else title
    body = [
        _grid(x, y, name, _own_ticks(values, x)),
        [_dot(dot, x(at), y(dot.y)) for dot, at in zip(dots, values, strict=True)],
    ]
    return _figure(f"{metric} over {title}", body, f"{metric} of {len(dots)} runs over {name}.")


def _rows(title: str, dots: Sequence[Dot], metric: str) -> Markup:
    """Values beyond the first so many share the last row."""
    names = list(dict.fromkeys(dot.x for dot in dots))
    kept = names if len(names) <= _MOST_CATEGORIES else [*names[: _MOST_CATEGORIES - 1], "(others)"]
    height = max(_HEIGHT, _TOP + _BOTTOM + 22 * len(kept))
    left = 16 + 6 * min(_LABEL_CHARACTERS, max(map(len, kept)))
    x = fit([dot.y for dot in dots], left, _WIDTH - _RIGHT, room=0.06)
    step = (height - _TOP - _BOTTOM) / len(kept)
    middle = {name: _TOP + step * (i + 0.5) for i, name in enumerate(kept)}
    labels = [
        tag("text", _clipped(name), tag("title", name), class_="label", x=left - 8, y=at + 4, text_anchor="end")
        for name, at in middle.items()
    ]
    lines = [tag("line", class_="grid", x1=left, x2=_WIDTH - _RIGHT, y1=at, y2=at) for at in middle.values()]
    axis = [_x_tick(x, tick, height) for tick in ticks(x, 4)]
    name = tag("text", metric, class_="axis", x=_WIDTH - _RIGHT, y=height - 3, text_anchor="end")
    marks = [_dot(dot, x(dot.y), middle.get(dot.x, middle[kept[-1]])) for dot in dots]
    said = f"{metric} of {len(dots)} runs for each value of {title}: {', '.join(map(_clipped, kept))}."
    return _figure(f"{metric} by {title}", [lines, labels, axis, name, marks], said, height=height)


def _figure(
    caption: Content, body: Any, said: str, *, identifier: str | None = None, height: float = _HEIGHT
) -> Markup:
    view = f"0 0 {_WIDTH} {height:g}"
    svg = tag("svg", body, id=identifier, viewBox=view, role="img", aria_label=said)
    return tag("figure", tag("figcaption", caption), svg)


def _grid(x: Scale, y: Scale, x_name: str, x_ticks: Sequence[float]) -> list[Markup]:
    across = [
        (
            tag("line", class_="grid", x1=_LEFT, x2=_WIDTH - _RIGHT, y1=y(tick), y2=y(tick)),
            tag("text", tick_text(tick), class_="axis", x=_LEFT - 6, y=y(tick) + 4, text_anchor="end"),
        )
        for tick in ticks(y, 5)
    ]
    name = tag("text", x_name, class_="axis", x=_WIDTH - _RIGHT, y=_HEIGHT - 2, text_anchor="end")
    return [tag("g", across), *[_x_tick(x, tick, _HEIGHT) for tick in x_ticks], name]


def _own_ticks(values: Sequence[float], x: Scale) -> list[float]:
    """The values themselves, where there are few and their numbers have room side by side."""
    own = sorted(set(values))
    has_room = all(x(b) - x(a) > _TICK_ROOM for a, b in pairwise(own))
    return own if len(own) <= _MOST_OWN_TICKS and has_room else ticks(x, 5)


def _x_tick(x: Scale, tick: float, height: float) -> Markup:
    return tag("text", tick_text(tick), class_="axis", x=x(tick), y=height - _BOTTOM + 14, text_anchor="middle")


def _line(line: Series, x: Scale, y: Scale, index: int) -> Markup:
    places = [(x(a), y(b)) for a, b in line.points]
    last = places[-1]
    dots = places if len(places) <= 12 else [last]
    return tag(
        "g",
        tag("polyline", points=" ".join(f"{a:.1f},{b:.1f}" for a, b in places)),
        [tag("circle", cx=round(a, 1), cy=round(b, 1), r=2.4) for a, b in dots],
        class_=f"line line{min(index, 3)}",
    )


def _keys(lines: Sequence[Series]) -> list[Markup]:
    """How each line is drawn, its name, and its last value; a lone one is named by the title."""
    return [
        tag(
            "span",
            tag("svg", tag("g", tag("polyline", points="1,5 17,5"), class_=f"line line{min(i, 3)}"), aria_hidden="true")
            if len(lines) > 1
            else None,
            f"{line.name} " if len(lines) > 1 else None,
            tag("b", number(line.points[-1][1])),
            class_="key",
        )
        for i, line in enumerate(lines)
    ]


def _flags(flags: Sequence[Flag], x: Scale) -> list[Markup]:
    """Numbered; named too where there is room. Those that are close take turns between two heights."""
    shown = sorted((flag for flag in flags if x.low <= flag.x <= x.high), key=lambda it: it.x)
    drawn, row = [], 0
    for i, flag in enumerate(shown):
        at = x(flag.x)
        is_close = i > 0 and at - x(shown[i - 1].x) < _FLAG
        row = 1 - row if is_close else 0
        room = (x(shown[i + 1].x) if i + 1 < len(shown) else float(_WIDTH)) - at - 2 * _FLAG
        drawn.append(_flag(flag, at, 10 + row * _FLAG * 0.5, room))
    return drawn


def _flag(flag: Flag, at: float, top: float, room: float) -> Markup:
    has_room = 6 * len(flag.name) < room
    return tag(
        "g",
        tag("title", flag.words),
        tag("line", x1=at, x2=at, y1=top, y2=_HEIGHT - _BOTTOM),
        tag("circle", cx=at, cy=top, r=7.5),
        tag("text", flag.number, x=at, y=top + 3.6, text_anchor="middle", class_="in-flag"),
        tag("text", flag.name, x=at + 11, y=top + 3.6) if has_room else None,
        class_="flag",
    )


def _dot(dot: Dot, x: float, y: float) -> Markup:
    kind = f"dot{'' if dot.is_solid else ' hollow'}{' best' if dot.is_best else ''}"
    circle = tag("circle", tag("title", dot.words), class_=kind, cx=round(x, 1), cy=round(y, 1), r=4)
    label = tag("text", "best", class_="end", x=round(x, 1), y=round(y - 9, 1), text_anchor="middle")
    return tag("a", circle, label if dot.is_best else None, href=f"#{dot.link}", tabindex=-1)


def _said(title: str, lines: Sequence[Series], flags: Sequence[Flag]) -> str:
    """The chart in words, for those who do not see it."""
    told = [
        f"{line.name} from {number(line.points[0][1])} to {number(line.points[-1][1])}, lowest "
        f"{number(min(y for _, y in line.points))}, highest {number(max(y for _, y in line.points))}"
        for line in lines
    ]
    where = f" Interruptions: {'; '.join(flag.words for flag in flags)}." if flags else ""
    return f"{title}: {'; '.join(told)}.{where}"


def _finite(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    return [(x, y) for x, y in points if math.isfinite(y)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    every = math.ceil(len(points) / _MOST_POINTS) or 1
    return points[:-1:every] + points[-1:]


def _as_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _clipped(text: str) -> str:
    return text if len(text) <= _LABEL_CHARACTERS else f"{text[: _LABEL_CHARACTERS - 1]}…"
