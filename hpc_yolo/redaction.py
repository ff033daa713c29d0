"""Owns telling a secret where one would be written down: by the name that it is given, or by its place in an address. Pure."""

from __future__ import annotations

import re

_ENDS = "password|passwd|passphrase|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|credentials?"
_NAME = rf"(?<![A-Za-z0-9])((?:[A-Za-z0-9]+[_-])*(?:{_ENDS}))"
#: What says where the secret is to be found is none.
_ELSEWHERE = r"(?![\"']?(?:\$|/|~|<|null\b))"
_ASSIGNED = re.compile(rf"{_NAME}(\s*[=:]\s*){_ELSEWHERE}(\"[^\"]*\"|'[^']*'|[^\s\"',;&]+)", re.IGNORECASE)
#: The part of an address that says who asks.
_IN_ADDRESS = re.compile(r"(\b[a-z][a-z0-9+.-]*://)[^\s/@]+@", re.IGNORECASE)
HIDDEN = "***"


def redacted(text: str) -> str:
    """The text with every secret in it hidden."""
    return _IN_ADDRESS.sub(rf"\1{HIDDEN}@", _ASSIGNED.sub(rf"\1\2{HIDDEN}", text))


def secret_in(text: str) -> str | None:
    """By what name the text gives a secret away; None where it holds none."""
    assigned, address = _ASSIGNED.search(text), _IN_ADDRESS.search(text)
    if assigned is not None:
        return assigned[1]
    return None if address is None else f"{address[1]}{HIDDEN}@..."
