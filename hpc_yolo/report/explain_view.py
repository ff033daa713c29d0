"""Owns what `hpc-yolo explain` prints: how the run stands, a paragraph an attempt, what one can do now; or JSON."""

from __future__ import annotations

import json
import time
from collections import Counter

from hpc_yolo.report.explain import End, Explanation
from hpc_yolo.report.tables import counted

_SHOWN = 10


def as_json(found: Explanation) -> str:
    return json.dumps(found.to_json(), indent=2)


def as_text(found: Explanation, *, is_whole: bool = False) -> str:
    """The newest attempts stand last, next to what one can do now.

    Args:
        is_whole: every attempt; else the newest ten, and a line about those before.
    """
    reason = f": {found.reason}" if found.reason else ""
    earlier = () if is_whole else found.attempts[:-_SHOWN]
    parts = [f"{found.dir}: {found.state.value}{reason}"]
    if earlier:
        parts.append(f"{counted(len(earlier), 'earlier attempt')} ({_tally(earlier)}); --all shows them")
    parts += [_paragraph(end) for end in found.attempts[len(earlier) :]] or ["It has made no attempt yet."]
    if found.advice:
        parts.append(f"now: {found.advice}")
    return "\n\n".join(parts)


def _tally(ends: tuple[End, ...]) -> str:
    counts = Counter(_words(end.outcome) for end in ends)
    return ", ".join(f"{count} {outcome}" for outcome, count in counts.most_common())


def _paragraph(end: End) -> str:
    by = f", by {end.recognised_by}" if end.recognised_by else ""
    cause = f"{end.cause}{by}" if end.cause else "no rule knows it" if end.outcome == "failure" else None
    why = f": {end.why}" if end.why and end.why != end.happened and not end.history else ""
    lines = [
        ("happened", end.happened),
        ("cause", cause),
        ("its rule", end.rule),
        ("history", end.history),
        ("decided", f"{end.decided}{why}" if end.decided else None),
        ("you can", end.advice),
    ]
    return "\n".join([_heading(end), *(f"  {name:<9} {text}" for name, text in lines if text)])


def _heading(end: End) -> str:
    place = f" on {end.node}" if end.node else ""
    when = f", {_at(end.began)} to {_at(end.ended) if end.ended else 'now'}" if end.began else ""
    steps = f", steps {end.from_step} to {end.to_step}" if end.from_step is not None else ", before it trained"
    return f"attempt {end.attempt}{place}{when}{steps}: {_words(end.outcome)}"


def _words(outcome: str) -> str:
    return outcome.replace("_", " ")


def _at(moment: float) -> str:
    return time.strftime("%a %d %b %H:%M:%S", time.localtime(moment))
