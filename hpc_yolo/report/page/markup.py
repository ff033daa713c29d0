"""Owns how values become HTML: everything is escaped here, unless it was made here. Knows no run."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable
from typing import Any

_VOID = frozenset({"br", "input", "meta"})


class Markup(str):
    """HTML that is safe as it stands. Plain strings are text, and are escaped when they become part of it."""

    __slots__ = ()


Content = str | int | float | None | Iterable[Any]


def tag(name: str, /, *content: Content, **attributes: Any) -> Markup:
    """One element.

    Args:
        content: text, markup, or iterables of them; None is nothing.
        attributes: an underscore at the end is dropped (`class_`), others become hyphens; None and False leave one out,
            True gives it no value.
    """
    opened = f"<{name}{''.join(_attribute(key, value) for key, value in attributes.items())}>"
    return Markup(opened if name in _VOID else f"{opened}{joined(content)}</{name}>")


def joined(content: Content) -> Markup:
    """Several pieces, one after the other."""
    if content is None:
        return Markup("")
    if isinstance(content, Markup):
        return content
    if isinstance(content, str | int | float):
        return Markup(html.escape(str(content)))
    return Markup("".join(map(joined, content)))


def data_script(identifier: str, value: Any) -> Markup:
    """Values for the page's own script, as JSON in which nothing can end the element or begin a comment."""
    text = json.dumps(value, separators=(",", ":"), allow_nan=False)
    safe = text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
    return Markup(f'<script type="application/json" id="{html.escape(identifier)}">{safe}</script>')


def _attribute(key: str, value: Any) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is None or value is False:
        return ""
    if value is True:
        return f" {name}"
    return f' {name}="{html.escape(f"{value:.6g}" if isinstance(value, float) else str(value))}"'
