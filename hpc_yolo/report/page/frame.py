"""Owns what every page has in common: the document, its style and script in it, head, figures, tables."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from hpc_yolo import __version__
from hpc_yolo.report.page.bars import patterns
from hpc_yolo.report.page.markup import Content, Markup, data_script, tag
from hpc_yolo.report.page.words import STATES
from hpc_yolo.types import RunState

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"


def document(title: str, body: Content, data: dict[str, Any], made_at: float) -> str:
    """A whole HTML file. Its policy forbids the browser to load anything, whatever a name may hold.

    Args:
        data: for the page's script.
        made_at: seconds since the epoch.
    """
    when = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(made_at))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("title", title),
        tag("style", Markup(_own("style.css"))),
    )
    foot = tag(
        "footer", f"Made by hpc-yolo {__version__} on {when}. Times are in this zone. Steps are optimizer steps."
    )
    page = tag("body", patterns(), tag("main", body), foot, data_script("data", data))
    script = tag("script", Markup(_own("page.js")))
    return f"<!DOCTYPE html>\n{tag('html', head, page, script, lang='en')}\n"


def header(eyebrow: str, title: str, state: Content, facts: Sequence[str]) -> Markup:
    told = [tag("span", fact) for fact in facts if fact]
    return tag(
        "header",
        tag("p", eyebrow, class_="eyebrow"),
        tag("h1", title, " ", state),
        tag("p", told, class_="facts"),
    )


def state_badge(state: RunState) -> Markup:
    return tag("span", tag("i", STATES[state], aria_hidden="true"), state.value, class_=f"state {state.value}")


def figures(items: Sequence[tuple[str, str, str]]) -> Markup:
    """The few numbers that matter: value, what it is, a remark."""
    return tag(
        "dl",
        [
            tag("div", tag("dt", what), tag("dd", tag("b", value), tag("span", remark) if remark else None))
            for value, what, remark in items
        ],
        class_="figures",
    )


def section(title: str, *content: Content, remark: str = "") -> Markup:
    return tag("section", tag("h2", title), tag("p", remark, class_="remark") if remark else None, content)


def fold(summary: str, *content: Content) -> Markup:
    return tag("details", tag("summary", summary), content)


def table(head: Sequence[tuple[str, bool]], rows: Sequence[Sequence[Content]], caption: str) -> Markup:
    """A table that scrolls sideways on its own. The first cell of a row names it.

    Args:
        head: each column's name, and whether it holds numbers.
    """
    names = tag(
        "tr", [tag("th", name, scope="col", class_="number" if is_number else None) for name, is_number in head]
    )
    kinds = ["number" if is_number else None for _, is_number in head]
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row", class_=kinds[0]),
            [tag("td", cell, class_=kind) for cell, kind in zip(row[1:], kinds[1:], strict=True)],
        )
        for row in rows
    ]
    inner = tag("table", tag("caption", tag("span", caption)), tag("thead", names), tag("tbody", body))
    return tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=caption)


@cache
def _own(name: str) -> str:
    return files("hpc_yolo.report.page").joinpath(name).read_text(encoding="utf-8")
